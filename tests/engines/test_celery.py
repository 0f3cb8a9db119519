"""Messages between a runner and its workers: sent twice, meant for other workers, or invalid."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import redis

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.engines.celery import Broker
from pacifica_notifications_consumer.engines.celery.app import make_app
from pacifica_notifications_consumer.engines.celery.engine import CeleryEngine
from pacifica_notifications_consumer.engines.celery.message import TASK, Message
from pacifica_notifications_consumer.engines.celery.records import _PREFIX as PREFIX
from pacifica_notifications_consumer.engines.celery.records import AttemptRecords, Claim, Heartbeat
from pacifica_notifications_consumer.engines.engine import Terms
from pacifica_notifications_consumer.errors import ConfigurationError, StateError
from pacifica_notifications_consumer.jobs.job import Ending, Fate, JobState, RemoteLocation
from pacifica_notifications_consumer.queue.job_book import JobBook
from pacifica_notifications_consumer.settings.services import Services
from tests.engines.beds import DEADLINE, WorkerProcess, accept, body, notes, pids, workers
from tests.engines.celery_tools import WAIT, handled, running, runs_at
from tests.engines.worker import ARCHIVE
from tests.support.machine.waiting import wait_until
from tests.support.runner_tools import alive


def test_message_that_comes_twice(broker: Broker, tmp_path: Path) -> None:
    """A message that was sent more than once, or arrives after the attempt has ended, runs nothing."""
    engine = CeleryEngine(broker, ARCHIVE)
    send = engine._send
    sent: list[Any] = []

    def often(attempt: Any) -> None:
        sent.append(attempt)
        for _ in range(5):
            send(attempt)

    engine._send = often  # type: ignore[method-assign]
    with workers(tmp_path, broker) as started, running(tmp_path, broker, engine=engine) as runner:
        jobs = [accept(runner, tmp_path, "", number) for number in range(5)]
        assert {runner.wait(job, DEADLINE).state for job in jobs} == {JobState.SUCCEEDED}
        document = Message(job_id=1, archive=ARCHIVE, body=sent[0].body, terms=sent[0].terms).document()
        engine._app.send_task(TASK, kwargs=document, task_id=sent[0].task, ignore_result=True)
        wait_until(lambda: handled(started) == (26, 26))
    assert notes(tmp_path) == {"begin": 5, "end": 5}


def test_worker_of_another_version_refuses(broker: Broker, tmp_path: Path) -> None:
    """A worker of another archive refuses a job with a reason; a worker of the same archive runs it."""
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(
            contextlib.closing(WorkerProcess(tmp_path / "other", broker, TEST_ARCHIVE="fedcba9876543210"))
        ).wait()
        runner = stack.enter_context(running(tmp_path, broker, retry_delay=0.5))
        job_id = accept(runner, tmp_path, "")
        wait_until(lambda: runner.job(job_id).deferrals >= 1)
        job = runner.job(job_id)
        assert "runs another version of the consumer (fedcba987654, and not 0123456789ab)" in job.reason
        assert "another version" in other.log
        other.close()
        stack.enter_context(workers(tmp_path, broker, 1))
        job = runner.wait(job_id, 2 * DEADLINE)
    assert (job.state, job.attempts, job.crashes) == (JobState.SUCCEEDED, 1, 0)
    assert notes(tmp_path) == {"begin": 1, "end": 1}


def test_consumers_do_not_see_each_others_jobs(broker: Broker, tmp_path: Path) -> None:
    """Two consumers at one broker, each with a worker, run their own jobs only."""
    others = attrs.evolve(broker, queue=f"{broker.queue} too")
    homes = [tmp_path / "one", tmp_path / "two"]
    with contextlib.ExitStack() as stack:
        for home, each in zip(homes, (broker, others), strict=True):
            home.mkdir()
            [worker] = stack.enter_context(workers(home, each, 1))
            runner = stack.enter_context(running(home, each))
            jobs = [accept(runner, home, "", number) for number in range(5)]
            assert {runner.wait(job, DEADLINE).state for job in jobs} == {JobState.SUCCEEDED}
            assert all(runs_at(worker, runner, job) for job in jobs)


def recorded(engine: CeleryEngine) -> list[Any]:
    """The attempts whose messages are at the broker, in the order of their arrival."""
    send, sent = engine._send, list[Any]()

    def send_and_note(attempt: Any) -> None:
        send(attempt)
        sent.append(attempt)

    engine._send = send_and_note  # type: ignore[method-assign]
    return sent


def test_priority(broker: Broker, tmp_path: Path) -> None:
    """Of jobs that wait in one queue, those of a higher priority come first."""
    (low, high) = (tmp_path / "low", tmp_path / "high")
    with contextlib.ExitStack() as stack:
        runners = []
        for home, priority in ((low, 1), (high, 8)):
            home.mkdir()
            engine = CeleryEngine(attrs.evolve(broker, priority=priority), ARCHIVE)
            sent = recorded(engine)
            runner = stack.enter_context(running(home, broker, engine=engine, workers=8))
            source = f"open({str(tmp_path / 'order')!r}, 'a').write({home.name + ' '!r})"
            ids = [runner.accept(body(home, source, number)).job_id for number in range(3)]
            runners.append((runner, ids))
            wait_until(lambda sent=sent: len(sent) == 3)  # type: ignore[misc]
        stack.enter_context(workers(tmp_path, broker, 1, concurrency=1))
        for runner, ids in runners:
            for each in ids:
                assert each is not None
                runner.wait(each, DEADLINE)
    assert (tmp_path / "order").read_text().split() == ["high"] * 3 + ["low"] * 3


def test_secrets_stay_out_of_the_broker(broker: Broker, tmp_path: Path) -> None:
    """Neither the runner's password nor the worker's is written to the broker or to the Redis with the results."""
    services = Services(username="alice", password="canary of the runner")
    watched = redis.Redis.from_url(broker.records_url)
    source = "print(len(os.environ['PACIFICA_PASSWORD']))"
    heard = b""
    with contextlib.closing(watched), cast(Any, watched).monitor() as monitor:
        monitor.connection._sock.settimeout(1.0)
        with workers(tmp_path, broker), running(tmp_path, broker, services=services) as runner:
            job = runner.wait(accept(runner, tmp_path, source), DEADLINE)
        with contextlib.suppress(Exception):
            while True:
                heard += monitor.next_command()["command"].encode()
    assert job.ending.output_tail == str(len("of the worker"))
    assert b"attempt:" in heard
    assert b"canary" not in heard
    assert b"of the worker" not in heard


def test_messages_are_json_only(broker: Broker, tmp_path: Path) -> None:
    """A message in another form, an invalid message, and a message whose name is a path run nothing."""
    app = make_app(broker)
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return os.system, (f"touch {ran}",)

    import kombu

    kombu.serialization.enable_insecure_serializers(["pickle"])
    terms = Terms(consumer="mine")
    good = Message(job_id=1, archive=ARCHIVE, body=body(tmp_path, ""), terms=terms).document()
    records = AttemptRecords(broker.records_url)
    with contextlib.closing(app), contextlib.closing(records), workers(tmp_path, broker, 1) as [worker]:
        client = redis.Redis.from_url(broker.records_url)
        with contextlib.closing(client):
            # Others are looked at all the same.
            records.open("2.00000000")
            client.set(f"{PREFIX}3.00000000", "x")
            client.hset(f"{PREFIX}4.00000000", mapping={"open": "1", "claim": b"\xff"})
            looked = records.look(["2.00000000", "3.00000000", "4.00000000"])
            assert [view.opened for view in looked] == [True, False, False]
            # The first goes on; what is in the place of the second is removed.
            beats = [Heartbeat(task=f"{number}.00000000", number=1) for number in (2, 3)]
            assert records.beat(beats) == [True, False]
            assert client.exists(f"{PREFIX}3.00000000") == 0
            client.set(f"{PREFIX}3.00000000", "x")
            assert records.claim("3.00000000", RemoteLocation(worker="w", directory="d"), "1") is Claim.GONE
            claim = json.dumps({"worker": "\ud800", "directory": "/\udcff", "delivery": "1"})
            client.hset(f"{PREFIX}2.00000000", "claim", claim)
            [view] = records.look(["2.00000000"])
            assert view.place == RemoteLocation(worker="\\ud800", directory="/\\udcff")
            # No line of a log, and nothing that a terminal obeys, is made of them.
            document = attrs.asdict(Ending(reason="a\n\x1b[31m" + "b" * 9000, output_tail="c" * 9000)) | {
                "fate": "ended"
            }
            client.hset(f"{PREFIX}2.00000000", mapping={"ending": json.dumps(document), "refused": "d\re\u202e"})
            [view] = records.look(["2.00000000"])
            assert view.ending == Ending(reason=f"a\\n\\x1b[31m{'b' * 1989}…", output_tail="c" * 4000)
            assert view.refused == "d\\re\\u202e"
            client.hset(f"{PREFIX}2.00000000", "claim", "x" * ((1 << 20) + 1))
            assert not records.look(["2.00000000"])[0].opened
            client.delete(*(f"{PREFIX}{number}.00000000" for number in (2, 3, 4)))
        app.send_task(TASK, kwargs={"evil": Evil()}, serializer="pickle", task_id="1.00000000", ignore_result=True)
        for number, spoilt in enumerate(
            [
                {},
                good | {"body": "x"},
                good | {"body": 7},
                good | {"terms": {"timeout": -1.0}},
                good | {"terms": {"timeout": "long"}},
                good | {"terms": {"consumer": "a\nb", "timeout": None, "output_limit": None}},
                good | {"terms": []},
                good | {"more": 1},
                good | {"job_id": "one"},
            ]
        ):
            task = f"{number}.{'0' * 16}"
            records.open(task)
            app.send_task(TASK, kwargs=spoilt, task_id=task, ignore_result=True)
            wait_until(lambda task=task: "cannot read it" in records.look([task])[0].refused)  # type: ignore[misc]
        for name in ("../../evil", "..", "1.0000000g", "x" * 200):
            records.open(name)
            app.send_task(TASK, kwargs=good, task_id=name, ignore_result=True)
        with running(tmp_path, broker) as runner:
            assert runner.wait(accept(runner, tmp_path, ""), DEADLINE).state is JobState.SUCCEEDED
        assert worker.log.count("is not an attempt's name") == 4
        assert worker.process.poll() is None
        assert len(list((worker.home / "state" / "jobs").iterdir())) == 1
    kombu.serialization.disable_insecure_serializers()
    assert not ran.exists()
    assert not (worker.home / "evil").exists()


def test_record_that_makes_no_sense(impatient: Broker, tmp_path: Path) -> None:
    """A damaged record counts as missing: the job is run nevertheless."""
    client = redis.Redis.from_url(impatient.records_url)
    engine = CeleryEngine(impatient, ARCHIVE)
    looks: list[object] = []
    look = engine._records.look

    def counted(tasks: Sequence[str]) -> Any:
        looks.append(seen := look(tasks))
        return seen

    engine._records.look = counted  # type: ignore[method-assign]
    with contextlib.closing(client), running(tmp_path, impatient, engine=engine) as runner:
        job_id = accept(runner, tmp_path, "")
        wait_until(lambda: bool(runner.job(job_id).task) and bool(client.exists(_key(runner, job_id))))
        for field, spoilt in (("claim", "{"), ("ending", '{"fate": "odd"}')):
            client.hset(key := _key(runner, job_id), field, spoilt)
        before = len(looks)
        wait_until(lambda: len(looks) >= before + 3 or runner.job(job_id).state is not JobState.RUNNING)
        assert runner.job(job_id).state is JobState.RUNNING
        client.delete(key)
        with workers(tmp_path, impatient, 1):
            assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED


def _key(runner: JobRunner, job_id: int) -> str:
    return f"pacifica-notifications-consumer:attempt:{runner.job(job_id).task}"


def test_cancelled_while_nobody_looked(broker: Broker, tmp_path: Path) -> None:
    """A job on another machine that was cancelled while the consumer was stopped is ended at the next start."""
    with workers(tmp_path, broker, 1):
        with running(tmp_path, broker) as runner:
            job_id = accept(runner, tmp_path, WAIT)
            wait_until(lambda: bool(pids(tmp_path)))
        with JobBook(tmp_path / "state") as book:
            assert book.engine_name == broker.name
            assert book.cancel(job_id)
        assert alive(pids(tmp_path)[0])
        with running(tmp_path, broker) as runner:
            wait_until(lambda: not alive(pids(tmp_path)[0]))
            assert runner.job(job_id).state is JobState.CANCELLED


def test_jobs_that_are_out_keep_their_engine(broker: Broker, tmp_path: Path) -> None:
    """A consumer with jobs on other machines does not start with another engine or broker."""
    with running(tmp_path, broker) as runner:
        job_id = accept(runner, tmp_path, "")
        wait_until(lambda: bool(runner.job(job_id).task))
    for engine in (None, CeleryEngine(attrs.evolve(broker, queue="other"), ARCHIVE)):
        with (
            pytest.raises(StateError, match=f"still run on the queue '{broker.queue}'"),
            running(tmp_path, broker, engine=engine),
        ):
            pass
    with JobBook(tmp_path / "state") as book:
        assert book.cancel(job_id)
    with running(tmp_path, broker, engine=None) as runner:
        assert runner.wait(accept(runner, tmp_path, "", 2), DEADLINE).state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("url", "results_url", "expected"),
    [
        ("http://127.0.0.1", "", "must look like redis://HOST:PORT"),
        ("redis://", "", "must look like"),
        ("redis://host:port", "", "must look like"),
        ("amqp://host", "", "RabbitMQ passes jobs on, but does not keep their results"),
        ("amqp://host", "amqp://host", "must look like redis://HOST:PORT or rediss://HOST:PORT"),
    ],
)
def test_addresses_that_are_none(url: str, results_url: str, expected: str) -> None:
    """An invalid URL is refused with a message that shows the right form, but not the URL."""
    with pytest.raises(ConfigurationError) as caught:
        Broker(url=url, results_url=results_url, queue="q")
    assert expected in str(caught.value)


def test_place_has_no_secret() -> None:
    """The name of a broker in logs and errors does not contain the password."""
    broker = Broker(url="amqp://me:secret@host:1/v", results_url="rediss://:secret@other/2", queue="q")
    assert broker.name == "the queue 'q' at amqp://host:1/v with results at rediss://other/2"
    assert "secret" not in repr(broker)


def test_fates_are_told() -> None:
    """The names of the fates, which stand in records in Redis, do not change."""
    assert {fate.value for fate in Fate} == {"ended", "crashed", "put off", "returned"}


def test_message_travels_as_it_is() -> None:
    """A message is read as it was written, with any bytes in it."""
    message = Message(job_id=1, archive="a", terms=Terms(consumer="c"), body='{"ä": "\\u0000"}'.encode("utf-16"))
    assert Message.read(json.loads(json.dumps(message.document()))) == message
