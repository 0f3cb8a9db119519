"""What only many machines know: lost workers, brokers that die, networks that are cut, messages that come twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import redis

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.engine import Terms
from pacifica_notifications_consumer.errors import ConfigurationError, ServiceError, StateError
from pacifica_notifications_consumer.job import Fate, JobState
from pacifica_notifications_consumer.job_book import JobBook
from pacifica_notifications_consumer.local_engine import LocalEngine
from pacifica_notifications_consumer.remote import Broker
from pacifica_notifications_consumer.remote.app import make_app
from pacifica_notifications_consumer.remote.desk import Desk
from pacifica_notifications_consumer.remote.engine import CeleryEngine
from pacifica_notifications_consumer.remote.message import TASK, Message
from pacifica_notifications_consumer.remote.worker import RemoteWorker
from pacifica_notifications_consumer.services import Services
from pacifica_notifications_consumer.venv import Venv
from tests.engines.beds import DEADLINE, LOST_AFTER, Bed, WorkerProcess, accept, body, eventually, notes, pids, workers
from tests.engines.brokers import RabbitServer, RedisServer, Server
from tests.engines.relay import Network
from tests.engines.worker import ARCHIVE
from tests.unit.runner_tools import alive

WAIT = """
import time
while not os.path.exists(place + "/end"):
    time.sleep(0.02)
"""
#: Notes when it was alive, by a clock that all processes of this machine share, until it is told to end.
LIVE = """
import time
while True:
    with open(f"{place}/life-{os.getpid()}", "a") as file:
        file.write(f"{time.monotonic()}\\n")
    if os.path.exists(place + "/end"):
        break
    time.sleep(0.02)
"""


def bed_of(broker: Broker) -> Bed:
    return Bed(make=lambda: CeleryEngine(broker, ARCHIVE), remote=True)


@contextlib.contextmanager
def running(path: Path, broker: Broker, **arguments: Any) -> Iterator[JobRunner]:
    """A runner whose jobs go to a broker."""
    with bed_of(broker).runner(path, **arguments) as runner:
        yield runner


def lives(path: Path) -> list[tuple[float, float]]:
    """When the entry-points were alive, in the order in which they began."""
    found = []
    for pid in pids(path):
        times = [float(line) for line in (path / f"life-{pid}").read_text().split()]
        found.append((times[0], times[-1]))
    return found


def runs_at(worker: WorkerProcess, runner: JobRunner, job_id: int) -> bool:
    place = runner.job(job_id).place
    return place is not None and place.directory.startswith(str(worker.home))


def worker_of(started: list[WorkerProcess], runner: JobRunner, job_id: int) -> WorkerProcess:
    eventually(lambda: runner.job(job_id).place is not None)
    return next(worker for worker in started if runs_at(worker, runner, job_id))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_lost_worker(broker: Broker, tmp_path: Path, number: int) -> None:
    """A job of a worker that was killed or froze is run by another one in the stated time, never by both at once."""
    with workers(tmp_path, broker) as started, running(tmp_path, broker) as runner:
        job_id = accept(runner, tmp_path, LIVE)
        eventually(lambda: bool(pids(tmp_path)))
        first = pids(tmp_path)[0]
        lost = worker_of(started, runner, job_id)
        began = time.monotonic()
        lost.process.send_signal(number)
        eventually(lambda: len(pids(tmp_path)) == 2)
        assert time.monotonic() - began < LOST_AFTER + 3.0
        assert not alive(first)
        (tmp_path / "end").touch()
        job = runner.wait(job_id, DEADLINE)
        assert not runs_at(lost, runner, job_id)
    assert (job.state, job.attempts, job.crashes) == (JobState.SUCCEEDED, 1, 1)
    (_, ended), (begun, _) = lives(tmp_path)
    assert ended < begun


def test_worker_that_freezes_for_a_while(own_redis: RedisServer, tmp_path: Path) -> None:
    """A worker that froze for long, but came back before it counted as lost, returns what the watchman has ended."""
    broker = Broker(url=own_redis.url(), queue="frozen", lost_after=8.0)
    with workers(tmp_path, broker, 1) as [worker], running(tmp_path, broker) as runner:
        job_id = accept(runner, tmp_path, LIVE)
        eventually(lambda: bool(pids(tmp_path)))
        worker.process.send_signal(signal.SIGSTOP)
        eventually(lambda: not alive(pids(tmp_path)[0]))
        worker.process.send_signal(signal.SIGCONT)
        eventually(lambda: len(pids(tmp_path)) == 2)
        (tmp_path / "end").touch()
        job = runner.wait(job_id, DEADLINE)
    assert (job.state, job.attempts, job.crashes) == (JobState.SUCCEEDED, 1, 0)


def test_worker_that_cannot_start_anything(broker: Broker, tmp_path: Path) -> None:
    """A worker whose disk takes nothing spoils no job: it waits, says why, and is run by another worker."""
    with contextlib.ExitStack() as stack:
        [full] = stack.enter_context(workers(tmp_path / "full", broker, 1))
        jobs = full.home / "state" / "jobs"
        jobs.rmdir()
        jobs.touch()
        runner = stack.enter_context(running(tmp_path, broker))
        job_id = accept(runner, tmp_path, "")
        eventually(lambda: runner.job(job_id).deferrals == 1)
        assert "could not start it: [Errno 20] Not a directory" in runner.job(job_id).reason
        full.close()
        stack.enter_context(workers(tmp_path, broker, 1))
        job = runner.wait(job_id, DEADLINE)
    assert (job.state, job.attempts, job.crashes) == (JobState.SUCCEEDED, 1, 0)


def test_survivors_of_a_runner_without_workers(broker: Broker, tmp_path: Path) -> None:
    """What a killed runner had run itself is ended before the next one has workers run it."""
    pid = os.fork()
    if pid == 0:
        try:
            with Bed().runner(tmp_path) as runner:
                accept(runner, tmp_path, LIVE)
                eventually(lambda: bool(pids(tmp_path)))
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    os.waitpid(pid, 0)
    assert alive(pids(tmp_path)[0])
    with workers(tmp_path, broker, 1), running(tmp_path, broker) as runner:
        eventually(lambda: len(pids(tmp_path)) == 2)
        assert not alive(pids(tmp_path)[0])
        (tmp_path / "end").touch()
        job = runner.wait(1, DEADLINE)
    assert (job.state, job.attempts, job.crashes) == (JobState.SUCCEEDED, 1, 1)
    (_, ended), (begun, _) = lives(tmp_path)
    assert ended < begun


def test_job_that_loses_its_workers_does_not_loop(broker: Broker, tmp_path: Path) -> None:
    """A job is dead when its worker was lost once too often."""
    with workers(tmp_path, broker, 2) as started, running(tmp_path, broker, crash_limit=1) as runner:
        job_id = accept(runner, tmp_path, LIVE)

        def living() -> list[WorkerProcess]:
            return [each for each in started if runs_at(each, runner, job_id) and each.process.poll() is None]

        for count in (1, 2):
            eventually(lambda count=count: len(pids(tmp_path)) == count)  # type: ignore[misc]
            eventually(lambda: bool(living()))
            living()[0].kill()
        job = runner.wait(job_id, DEADLINE)
    assert (job.state, job.crashes) == (JobState.DEAD, 2)
    assert "was lost: nothing was heard of it for 4 s (2 times)" in job.reason


def test_worker_that_stops_returns_its_jobs(broker: Broker, tmp_path: Path) -> None:
    """A job whose worker is stopped in good order is run by another one, and that counts for nothing."""
    with workers(tmp_path, broker) as started, running(tmp_path, broker) as runner:
        job_id = accept(runner, tmp_path, LIVE)
        eventually(lambda: bool(pids(tmp_path)))
        stopped = worker_of(started, runner, job_id)
        stopped.process.terminate()
        assert stopped.process.wait(DEADLINE) == 0
        eventually(lambda: len(pids(tmp_path)) == 2)
        (tmp_path / "end").touch()
        job = runner.wait(job_id, DEADLINE)
    assert (job.state, job.attempts, job.crashes, job.deferrals) == (JobState.SUCCEEDED, 1, 0, 0)
    (_, ended), (begun, _) = lives(tmp_path)
    assert ended < begun


def test_worker_that_was_killed_comes_back(broker: Broker, tmp_path: Path) -> None:
    """A worker that starts again after it was killed takes jobs as before, on the same directories."""
    with workers(tmp_path, broker, 1) as [worker], running(tmp_path, broker) as runner:
        job_id = accept(runner, tmp_path, WAIT)
        eventually(lambda: bool(pids(tmp_path)))
        worker.kill()
        worker.start()
        (tmp_path / "end").touch()
        assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED
    assert len(pids(tmp_path)) == 2


@pytest.fixture(params=["redis", "rabbitmq", "results of rabbitmq"])
def mortal(request: pytest.FixtureRequest, own_redis: RedisServer) -> tuple[Broker, Server]:
    """A broker, and what of it is to be killed."""
    if request.param == "redis":
        return Broker(url=own_redis.url(), queue="mortal", lost_after=5 * LOST_AFTER), own_redis
    rabbit: RabbitServer = request.getfixturevalue("own_rabbit")
    broker = Broker(url=rabbit.url(), results_url=own_redis.url(), queue="mortal", lost_after=5 * LOST_AFTER)
    return broker, rabbit if request.param == "rabbitmq" else own_redis


def test_broker_is_killed(mortal: tuple[Broker, Server], tmp_path: Path) -> None:
    """Jobs that ran, waited or came while the broker was away for a moment end well, each run once."""
    broker, server = mortal
    with workers(tmp_path, broker, 2, concurrency=2) as _, running(tmp_path, broker, workers=20) as runner:
        jobs = [accept(runner, tmp_path, "import time; time.sleep(1.5)", number) for number in range(8)]
        eventually(lambda: len(pids(tmp_path)) >= 4)
        server.kill()
        jobs += [accept(runner, tmp_path, "", number) for number in range(8, 12)]
        time.sleep(1.0)
        server.start()
        states = [runner.wait(job, 2 * DEADLINE) for job in jobs]
    assert {job.state for job in states} == {JobState.SUCCEEDED}
    assert notes(tmp_path) == {"begin": 12, "end": 12}
    assert {(job.attempts, job.crashes) for job in states} == {(1, 0)}


def test_broker_that_forgets(own_redis: RedisServer, tmp_path: Path) -> None:
    """Jobs of which the broker has lost the messages, or all that it knew, are run all the same."""
    broker = Broker(url=own_redis.url(), queue="forgetful", lost_after=LOST_AFTER)
    client = redis.Redis.from_url(own_redis.url())
    with contextlib.closing(client), running(tmp_path, broker, workers=20) as runner:
        jobs = [accept(runner, tmp_path, "", number) for number in range(6)]
        eventually(lambda: bool(client.keys("*attempt*")) and len(list(client.scan_iter("*attempt*"))) == 6)
        for key in client.scan_iter("*broker:forgetful*"):
            client.delete(key)
        with workers(tmp_path, broker, 1):
            assert {runner.wait(job, 2 * DEADLINE).state for job in jobs} == {JobState.SUCCEEDED}
            running_on = accept(runner, tmp_path, LIVE, 10)
            eventually(lambda: len(pids(tmp_path)) == 7)
            client.flushall()
            eventually(lambda: len(pids(tmp_path)) == 8)
            (tmp_path / "end").touch()
            assert runner.wait(running_on, DEADLINE).state is JobState.SUCCEEDED
    assert notes(tmp_path)["begin"] == 8
    times = [
        (float(lines[0]), float(lines[-1]))
        for lines in ((tmp_path / f"life-{pid}").read_text().split() for pid in pids(tmp_path)[6:])
    ]
    assert times[0][1] < times[1][0]


@contextlib.contextmanager
def network(broker: Broker) -> Iterator[tuple[list[Network], Broker]]:
    """A broker as it is seen through a network that can be cut."""
    urls: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        networks = []
        for name in ("url", "results_url"):
            if url := getattr(broker, name):
                port = int(url.rpartition("127.0.0.1:")[2].partition("/")[0])
                networks.append(stack.enter_context(contextlib.closing(Network(port))))
                urls[name] = url.replace(f":{port}/", f":{networks[-1].port}/")
        yield networks, attrs.evolve(broker, **urls)


def test_network_of_a_worker_is_cut(broker: Broker, tmp_path: Path) -> None:
    """A worker that is cut off ends its job before another one begins it, and works again when it is back."""
    with contextlib.ExitStack() as stack:
        networks, seen = stack.enter_context(network(broker))
        [far] = stack.enter_context(workers(tmp_path / "far", seen, 1))
        runner = stack.enter_context(running(tmp_path, broker))
        job_id = accept(runner, tmp_path, LIVE)
        eventually(lambda: bool(pids(tmp_path)))
        for each in networks:
            each.cut()
        [near] = stack.enter_context(workers(tmp_path / "near", broker, 1))
        eventually(lambda: len(pids(tmp_path)) == 2)
        assert runs_at(near, runner, job_id) or runner.job(job_id).place is None
        (_, ended), (begun, _) = lives(tmp_path)
        assert ended < begun
        for each in networks:
            each.mend()
        near.close()
        eventually(lambda: len(pids(tmp_path)) == 3)
        (tmp_path / "end").touch()
        job = runner.wait(job_id, DEADLINE)
        assert runs_at(far, runner, job_id)
    assert (job.state, job.attempts, job.crashes) == (JobState.SUCCEEDED, 1, 1)


@pytest.mark.parametrize("seconds", [1.0, LOST_AFTER + 2.0])
def test_network_of_the_runner_is_cut(broker: Broker, tmp_path: Path, seconds: float) -> None:
    """What ends while the runner sees nothing is not run again; what comes meanwhile is handed out afterwards."""
    with network(broker) as (networks, seen), workers(tmp_path, broker), running(tmp_path, seen) as runner:
        first = accept(runner, tmp_path, WAIT)
        eventually(lambda: bool(pids(tmp_path)))
        for each in networks:
            each.cut()
        second = accept(runner, tmp_path, "", 2)
        (tmp_path / "end").touch()
        time.sleep(seconds)
        for each in networks:
            each.mend()
        jobs = [runner.wait(job, 2 * DEADLINE) for job in (first, second)]
    assert [(job.state, job.attempts, job.crashes) for job in jobs] == [(JobState.SUCCEEDED, 1, 0)] * 2
    assert notes(tmp_path) == {"begin": 2, "end": 2}


def test_job_longer_than_the_visibility_timeout(own_redis: RedisServer, tmp_path: Path) -> None:
    """What Redis delivers once more, since nobody has acknowledged it for long, is not run once more."""
    broker = Broker(url=own_redis.url(), queue="visible", lost_after=LOST_AFTER, visibility_timeout=1.0)
    with workers(tmp_path, broker) as started, running(tmp_path, broker) as runner:
        job_id = accept(runner, tmp_path, WAIT)
        eventually(lambda: sum(worker.log.count("received") for worker in started) >= 2)
        (tmp_path / "end").touch()
        assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED
        time.sleep(1.0)
    assert notes(tmp_path) == {"begin": 1, "end": 1}


def test_message_that_comes_twice(broker: Broker, tmp_path: Path) -> None:
    """A message that was sent more than once, or comes when all is over, runs nothing."""
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
        eventually(lambda: sum(worker.log.count(" received") for worker in started) == 26)
        time.sleep(0.3)
    assert notes(tmp_path) == {"begin": 5, "end": 5}


def test_runner_that_died_before_it_sent(broker: Broker, tmp_path: Path) -> None:
    """A job that was to be handed out when the runner died is handed out by the next one, and counts no crash."""
    engine = CeleryEngine(broker, ARCHIVE)

    def never(attempt: Any) -> None:
        raise RuntimeError("not yet")

    engine._send = never  # type: ignore[method-assign]
    with running(tmp_path, broker, engine=engine) as runner:
        job_id = accept(runner, tmp_path, "")
        eventually(lambda: bool(runner.job(job_id).task))
    with workers(tmp_path, broker, 1), running(tmp_path, broker) as runner:
        job = runner.wait(job_id, DEADLINE)
    assert (job.state, job.attempts, job.crashes) == (JobState.SUCCEEDED, 1, 0)
    assert notes(tmp_path) == {"begin": 1, "end": 1}


def test_worker_of_another_version_refuses(broker: Broker, tmp_path: Path) -> None:
    """A worker of another archive says so and takes nothing; one of the right version runs the job."""
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(
            contextlib.closing(WorkerProcess(tmp_path / "other", broker, TEST_ARCHIVE="fedcba9876543210"))
        ).wait()
        runner = stack.enter_context(running(tmp_path, broker, retry_delay=0.5))
        job_id = accept(runner, tmp_path, "")
        eventually(lambda: runner.job(job_id).deferrals >= 1)
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


def test_priority(broker: Broker, tmp_path: Path) -> None:
    """Of jobs that wait in one queue, those of a higher priority come first."""
    (low, high) = (tmp_path / "low", tmp_path / "high")
    with contextlib.ExitStack() as stack:
        runners = []
        for home, priority in ((low, 1), (high, 8)):
            home.mkdir()
            runner = stack.enter_context(running(home, attrs.evolve(broker, priority=priority), workers=8))
            source = f"open({str(tmp_path / 'order')!r}, 'a').write({home.name + ' '!r})"
            ids = [runner.accept(body(home, source, number)).job_id for number in range(3)]
            runners.append((runner, ids))
            eventually(lambda runner=runner, ids=ids: all(runner.job(each).task for each in ids))  # type: ignore[misc]
        time.sleep(1.0)
        stack.enter_context(workers(tmp_path, broker, 1, concurrency=1))
        for runner, ids in runners:
            for each in ids:
                assert each is not None
                runner.wait(each, DEADLINE)
    assert (tmp_path / "order").read_text().split() == ["high"] * 3 + ["low"] * 3


def test_secrets_stay_out_of_the_broker(broker: Broker, tmp_path: Path) -> None:
    """Neither the runner's password nor the worker's is ever written to the broker or to the place of results."""
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
    """A message in another form, one that makes no sense, and one that would lead elsewhere, run nothing."""
    app = make_app(broker)
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return os.system, (f"touch {ran}",)

    import kombu

    kombu.serialization.enable_insecure_serializers(["pickle"])
    terms = Terms(consumer="mine")
    good = Message(job_id=1, archive=ARCHIVE, body=body(tmp_path, ""), terms=terms).document()
    desk = Desk(broker.records_url)
    with contextlib.closing(app), contextlib.closing(desk), workers(tmp_path, broker, 1) as [worker]:
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
            desk.open(task)
            app.send_task(TASK, kwargs=spoilt, task_id=task, ignore_result=True)
            eventually(lambda task=task: "cannot read it" in desk.look([task])[0].refused)  # type: ignore[misc]
        for name in ("../../evil", "..", "1.0000000g", "x" * 200):
            desk.open(name)
            app.send_task(TASK, kwargs=good, task_id=name, ignore_result=True)
        with running(tmp_path, broker) as runner:
            assert runner.wait(accept(runner, tmp_path, ""), DEADLINE).state is JobState.SUCCEEDED
        assert worker.log.count("is no attempt's name") == 4
        assert worker.process.poll() is None
        assert len(list((worker.home / "state" / "jobs").iterdir())) == 1
    kombu.serialization.disable_insecure_serializers()
    assert not ran.exists()
    assert not (worker.home / "evil").exists()


def test_record_that_makes_no_sense(broker: Broker, tmp_path: Path) -> None:
    """A record that somebody has spoilt counts as none: the job is run all the same."""
    client = redis.Redis.from_url(broker.records_url)
    with contextlib.closing(client), running(tmp_path, broker) as runner:
        job_id = accept(runner, tmp_path, "")
        eventually(lambda: bool(runner.job(job_id).task) and bool(client.exists(_key(runner, job_id))))
        for field, spoilt in (("claim", "{"), ("ending", '{"fate": "odd"}')):
            client.hset(key := _key(runner, job_id), field, spoilt)
        time.sleep(0.5)
        assert runner.job(job_id).state is JobState.RUNNING
        client.delete(key)
        with workers(tmp_path, broker, 1):
            assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED


def _key(runner: JobRunner, job_id: int) -> str:
    return f"pacifica-notifications-consumer:attempt:{runner.job(job_id).task}"


def test_cancelled_while_nobody_looked(broker: Broker, tmp_path: Path) -> None:
    """A job elsewhere that was cancelled when the consumer was stopped is ended at its next start."""
    with workers(tmp_path, broker, 1):
        with running(tmp_path, broker) as runner:
            job_id = accept(runner, tmp_path, WAIT)
            eventually(lambda: bool(pids(tmp_path)))
        with JobBook(tmp_path / "state") as book:
            assert book.place == broker.place
            assert book.cancel(job_id)
        assert alive(pids(tmp_path)[0])
        with running(tmp_path, broker) as runner:
            eventually(lambda: not alive(pids(tmp_path)[0]))
            assert runner.job(job_id).state is JobState.CANCELLED


def test_jobs_that_are_out_keep_their_engine(broker: Broker, tmp_path: Path) -> None:
    """As long as jobs are with other machines, the consumer is not started on another engine or broker."""
    with running(tmp_path, broker) as runner:
        job_id = accept(runner, tmp_path, "")
        eventually(lambda: bool(runner.job(job_id).task))
    for engine in (None, CeleryEngine(attrs.evolve(broker, queue="other"), ARCHIVE)):
        with (
            pytest.raises(StateError, match=f"still with the queue '{broker.queue}'"),
            running(tmp_path, broker, engine=engine),
        ):
            pass
    with JobBook(tmp_path / "state") as book:
        assert book.cancel(job_id)
    with running(tmp_path, broker, engine=None) as runner:
        assert runner.wait(accept(runner, tmp_path, "", 2), DEADLINE).state is JobState.SUCCEEDED


def test_trouble_is_told(own_redis: RedisServer, tmp_path: Path) -> None:
    """That the broker cannot be reached is told, and notifications are taken all the same; also at the start."""
    broker = Broker(url=own_redis.url(), queue="told", lost_after=LOST_AFTER)
    own_redis.kill()
    with running(tmp_path, broker) as runner:
        job_id = accept(runner, tmp_path, "")
        eventually(lambda: "cannot be looked at" in runner.trouble)
        own_redis.start()
        with workers(tmp_path, broker, 1):
            assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED
        assert runner.trouble == ""


def test_worker_without_a_broker(own_redis: RedisServer, tmp_path: Path) -> None:
    """A worker whose broker cannot be reached at its start says so, and leaves nothing behind."""
    broker = Broker(url=own_redis.url(), queue="none", lost_after=LOST_AFTER)
    own_redis.kill()
    engine = LocalEngine(entry_point=tmp_path / "__main__.py", venv=Venv(tmp_path), services=Services(), warm=False)
    with pytest.raises(ServiceError, match="cannot be used"), RemoteWorker(broker, engine, ARCHIVE, tmp_path / "w"):
        pass
    assert not (tmp_path / "w").exists()


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
    """An address that is none is refused with what it must look like, and is not shown."""
    with pytest.raises(ConfigurationError) as caught:
        Broker(url=url, results_url=results_url, queue="q")
    assert expected in str(caught.value)


def test_place_has_no_secret() -> None:
    """What a broker is called in logs and errors has no password."""
    broker = Broker(url="amqp://me:secret@host:1/v", results_url="rediss://:secret@other/2", queue="q")
    assert broker.place == "the queue 'q' at amqp://host:1/v with results at rediss://other/2"
    assert "secret" not in repr(broker)


def test_old_directories_of_a_worker_go(broker: Broker, tmp_path: Path) -> None:
    """A worker keeps as many directories of ended attempts as it is told to."""
    from pacifica_notifications_consumer.remote.tidying import remove_old
    from pacifica_notifications_consumer.retention import Keep

    for number in range(5):
        (tmp_path / str(number)).mkdir()
        os.utime(tmp_path / str(number), (number, number))
    remove_old(tmp_path, Keep(count=2), ["0"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "3", "4"]
    remove_old(tmp_path, Keep(age=60.0), ["4"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4"]


def test_fates_are_told() -> None:
    """Each fate of an attempt is a word that both sides know."""
    assert {fate.value for fate in Fate} == {"ended", "crashed", "put off", "returned"}


def test_watchman_ends_with_its_worker(broker: Broker, tmp_path: Path) -> None:
    """No process of a worker is left when it has ended, whichever way."""
    for way in ("stop", "kill"):
        with workers(tmp_path / way, broker, 1) as [worker]:
            if way == "kill":
                worker.kill()
        eventually(lambda: not _watchmen(tmp_path))


def _watchmen(path: Path) -> list[str]:
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout  # noqa: S607
    return [line for line in shown.splitlines() if "watchman" in line and str(path) in line]


def test_message_travels_as_it_is() -> None:
    """A message is read as it was written, whatever its bytes."""
    message = Message(job_id=1, archive="a", terms=Terms(consumer="c"), body='{"ä": "\\u0000"}'.encode("utf-16"))
    assert Message.read(json.loads(json.dumps(message.document()))) == message
