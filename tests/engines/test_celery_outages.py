"""Brokers that die or forget, and networks that are cut."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import pytest
import redis

from pacifica_notifications_consumer.engines.celery import Broker
from pacifica_notifications_consumer.engines.celery.engine import CeleryEngine
from pacifica_notifications_consumer.engines.celery.worker import RemoteWorker
from pacifica_notifications_consumer.engines.local import LocalEngine
from pacifica_notifications_consumer.environment.venv import Venv
from pacifica_notifications_consumer.errors import ServiceError
from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.settings.services import Services
from tests.engines.beds import DEADLINE, LOST_AFTER, accept, notes, pids, workers
from tests.engines.brokers import RabbitServer, RedisServer, Server
from tests.engines.celery_tools import LIVE, WAIT, handled, one_after_the_other, running, runs_at
from tests.engines.worker import ARCHIVE
from tests.support.machine.waiting import wait_until
from tests.support.relay import Relay


@pytest.fixture(params=["redis", "rabbitmq", "results of rabbitmq"])
def mortal(request: pytest.FixtureRequest, own_redis: RedisServer) -> tuple[Broker, Server]:
    """A broker, and the server of it that the test kills."""
    if request.param == "redis":
        return Broker(url=own_redis.url(), queue="mortal", lost_after=2 * DEADLINE), own_redis
    rabbit: RabbitServer = request.getfixturevalue("own_rabbit")
    broker = Broker(url=rabbit.url(), results_url=own_redis.url(), queue="mortal", lost_after=2 * DEADLINE)
    return broker, rabbit if request.param == "rabbitmq" else own_redis


def test_broker_is_killed(mortal: tuple[Broker, Server], tmp_path: Path) -> None:
    """Jobs that ran, waited or arrived during a short outage of the broker succeed, and each is run once."""
    broker, server = mortal
    with workers(tmp_path, broker, 2, concurrency=2) as _, running(tmp_path, broker, workers=20) as runner:
        jobs = [accept(runner, tmp_path, "import time; time.sleep(1.5)", number) for number in range(8)]
        wait_until(lambda: len(pids(tmp_path)) >= 4)
        server.kill()
        jobs += [accept(runner, tmp_path, "", number) for number in range(8, 12)]
        time.sleep(1.0)
        server.start()
        states = [runner.wait(job, 2 * DEADLINE) for job in jobs]
    assert {job.state for job in states} == {JobState.SUCCEEDED}
    assert notes(tmp_path) == {"begin": 12, "end": 12}
    assert {(job.attempts, job.crashes) for job in states} == {(1, 0)}


def test_broker_that_forgets(own_redis: RedisServer, tmp_path: Path) -> None:
    """Jobs are run even if the broker has lost their messages, or all of its data."""
    broker = Broker(url=own_redis.url(), queue="forgetful", lost_after=LOST_AFTER)
    client = redis.Redis.from_url(own_redis.url())
    with contextlib.closing(client), running(tmp_path, broker, workers=20) as runner:
        jobs = [accept(runner, tmp_path, "", number) for number in range(6)]
        wait_until(lambda: bool(client.keys("*attempt*")) and len(list(client.scan_iter("*attempt*"))) == 6)
        for key in client.scan_iter("*broker:forgetful*"):
            client.delete(key)
        with workers(tmp_path, broker, 1):
            assert {runner.wait(job, 2 * DEADLINE).state for job in jobs} == {JobState.SUCCEEDED}
            running_on = accept(runner, tmp_path, LIVE, 10)
            wait_until(lambda: len(pids(tmp_path)) >= 7)
            client.flushall()
            begun = len(pids(tmp_path))
            wait_until(lambda: len(pids(tmp_path)) > begun)
            (tmp_path / "end").touch()
            assert runner.wait(running_on, DEADLINE).state is JobState.SUCCEEDED
    assert one_after_the_other(tmp_path, after=6)


@contextlib.contextmanager
def network(broker: Broker) -> Iterator[tuple[list[Relay], Broker]]:
    """A broker behind a relay that the test can cut."""
    urls: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        networks = []
        for name in ("url", "results_url"):
            if url := getattr(broker, name):
                networks.append(stack.enter_context(contextlib.closing(Relay(url))))
                urls[name] = url.replace(f":{urlsplit(url).port}/", f":{networks[-1].port}/")
        yield networks, attrs.evolve(broker, **urls)


def test_network_of_a_worker_is_cut(impatient: Broker, tmp_path: Path) -> None:
    """A worker that is cut off ends its job before another worker starts it, and works again after the outage."""
    with contextlib.ExitStack() as stack:
        networks, seen = stack.enter_context(network(impatient))
        [far] = stack.enter_context(workers(tmp_path / "far", seen, 1))
        runner = stack.enter_context(running(tmp_path, impatient))
        job_id = accept(runner, tmp_path, LIVE)
        wait_until(lambda: bool(pids(tmp_path)))
        for each in networks:
            each.cut()
        [near] = stack.enter_context(workers(tmp_path / "near", impatient, 1))
        # On a busy machine a worker that is not cut off may count as lost, too.
        wait_until(lambda: len(pids(tmp_path)) >= 2 and runs_at(near, runner, job_id))
        for each in networks:
            each.mend()
        near.close()
        # The far one connects again when it thinks fit.
        wait_until(lambda: len(pids(tmp_path)) >= 3, "the job has come back", 2 * DEADLINE)
        (tmp_path / "end").touch()
        job = runner.wait(job_id, DEADLINE)
        assert runs_at(far, runner, job_id)
    assert (job.state, job.attempts) == (JobState.SUCCEEDED, 1)
    assert job.crashes >= 1
    assert one_after_the_other(tmp_path)


@pytest.mark.parametrize("seconds", [1.0, LOST_AFTER + 2.0])
def test_network_of_the_runner_is_cut(impatient: Broker, tmp_path: Path, seconds: float) -> None:
    """Jobs that end while the runner is cut off are not run again; jobs that arrive are handed out afterwards."""
    with network(impatient) as (networks, seen), workers(tmp_path, impatient), running(tmp_path, seen) as runner:
        first = accept(runner, tmp_path, WAIT)
        wait_until(lambda: bool(pids(tmp_path)))
        for each in networks:
            each.cut()
        second = accept(runner, tmp_path, "", 2)
        (tmp_path / "end").touch()
        time.sleep(seconds)
        for each in networks:
            each.mend()
        jobs = [runner.wait(job, 2 * DEADLINE) for job in (first, second)]
    assert [(job.state, job.attempts) for job in jobs] == [(JobState.SUCCEEDED, 1)] * 2
    # On a busy machine a worker that is not cut off may count as lost.
    assert notes(tmp_path)["begin"] <= 2 + sum(job.crashes for job in jobs)


def test_job_longer_than_the_visibility_timeout(own_redis: RedisServer, tmp_path: Path) -> None:
    """A message that Redis delivers again, because it was not acknowledged in time, does not run the job again."""
    broker = Broker(url=own_redis.url(), queue="visible", lost_after=DEADLINE, visibility_timeout=1.0)
    with workers(tmp_path, broker) as started, running(tmp_path, broker) as runner:
        job_id = accept(runner, tmp_path, WAIT)
        wait_until(lambda: handled(started)[0] >= 2)
        (tmp_path / "end").touch()
        assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED
        client = redis.Redis.from_url(broker.records_url)
        with contextlib.closing(client):
            wait_until(lambda: not client.hlen("unacked") and len(set(handled(started))) == 1)
    assert notes(tmp_path) == {"begin": 1, "end": 1}


def test_runner_that_died_before_it_sent(impatient: Broker, tmp_path: Path) -> None:
    """A job that the runner was handing out when it died is handed out by the next runner, and counts no crash."""
    engine = CeleryEngine(impatient, ARCHIVE)

    def never(attempt: Any) -> None:
        raise RuntimeError("not yet")

    engine._send = never  # type: ignore[method-assign]
    with running(tmp_path, impatient, engine=engine) as runner:
        job_id = accept(runner, tmp_path, "")
        wait_until(lambda: bool(runner.job(job_id).task))
    with workers(tmp_path, impatient, 1), running(tmp_path, impatient) as runner:
        job = runner.wait(job_id, DEADLINE)
    assert (job.state, job.attempts) == (JobState.SUCCEEDED, 1)
    # On a busy machine the worker may count as lost after it has begun.
    assert job.crashes < notes(tmp_path)["begin"]


def test_trouble_is_told(own_redis: RedisServer, tmp_path: Path) -> None:
    """An unreachable broker is reported, and notifications are accepted nevertheless; also at the start."""
    broker = Broker(url=own_redis.url(), queue="told", lost_after=LOST_AFTER)
    own_redis.kill()
    with running(tmp_path, broker) as runner:
        job_id = accept(runner, tmp_path, "")
        wait_until(lambda: "cannot be looked at" in runner.trouble)
        own_redis.start()
        with workers(tmp_path, broker, 1):
            assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED
        assert runner.trouble == ""


def test_worker_without_a_broker(own_redis: RedisServer, tmp_path: Path) -> None:
    """A worker whose broker cannot be reached at its start fails with an error, and leaves no thread or process."""
    broker = Broker(url=own_redis.url(), queue="none", lost_after=LOST_AFTER)
    own_redis.kill()
    engine = LocalEngine(entry_point=tmp_path / "__main__.py", venv=Venv(tmp_path), services=Services(), warm=False)
    with pytest.raises(ServiceError, match="cannot be used"), RemoteWorker(broker, engine, ARCHIVE, tmp_path / "w"):
        pass
    assert not (tmp_path / "w").exists()
