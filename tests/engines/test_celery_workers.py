"""Workers that are lost, freeze, stop, or cannot start anything."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from pacifica_notifications_consumer.engines.celery import Broker
from pacifica_notifications_consumer.jobs.job import JobState
from tests.engines.beds import DEADLINE, LOST_AFTER, Bed, accept, pids, workers
from tests.engines.brokers import RedisServer
from tests.engines.celery_tools import LIVE, WAIT, lives, one_after_the_other, running, runs_at, worker_of
from tests.support.machine.waiting import wait_until
from tests.support.runner_tools import alive, run_in_child


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_lost_worker(impatient: Broker, tmp_path: Path, number: int) -> None:
    """A job of a worker that was killed or froze is run by another one, never by both at once, even if it is deaf."""
    deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    with workers(tmp_path, impatient) as started, running(tmp_path, impatient) as runner:
        job_id = accept(runner, tmp_path, deaf + LIVE)
        wait_until(lambda: bool(pids(tmp_path)))
        first = pids(tmp_path)[0]
        lost = worker_of(started, runner, job_id)
        lost.process.send_signal(number)
        wait_until(lambda: len(pids(tmp_path)) >= 2)
        assert not alive(first)
        (tmp_path / "end").touch()
        job = runner.wait(job_id, DEADLINE)
        assert not runs_at(lost, runner, job_id)
    assert (job.state, job.attempts) == (JobState.SUCCEEDED, 1)
    # The other one counts as lost, too, if it gets no processor for some seconds.
    assert job.crashes >= 1
    assert one_after_the_other(tmp_path)


def test_worker_that_freezes_for_a_while(own_redis: RedisServer, tmp_path: Path) -> None:
    """A worker that froze, but came back before it counted as lost, returns the attempts that the watchdog ended."""
    for factor in (2, 10):
        broker = Broker(url=own_redis.url(), queue=f"frozen {factor}", lost_after=factor * LOST_AFTER)
        home = tmp_path / str(factor)
        with workers(home, broker, 1) as [worker], running(home, broker) as runner:
            job_id = accept(runner, home, LIVE)
            wait_until(lambda home=home: bool(pids(home)))  # type: ignore[misc]
            worker.process.send_signal(signal.SIGSTOP)
            wait_until(lambda home=home: not alive(pids(home)[0]))  # type: ignore[misc]
            worker.process.send_signal(signal.SIGCONT)
            wait_until(lambda home=home: len(pids(home)) >= 2)  # type: ignore[misc]
            (home / "end").touch()
            job = runner.wait(job_id, DEADLINE)
        # If this process was too late to wake it, it did count as lost.
        if not job.crashes:
            break
    assert (job.state, job.attempts, job.crashes) == (JobState.SUCCEEDED, 1, 0)


def test_worker_that_cannot_start_anything(broker: Broker, tmp_path: Path) -> None:
    """A job that a worker cannot start because of its disk waits with the reason, and is run by another worker."""
    with contextlib.ExitStack() as stack:
        [full] = stack.enter_context(workers(tmp_path / "full", broker, 1))
        jobs = full.home / "state" / "jobs"
        jobs.rmdir()
        jobs.touch()
        runner = stack.enter_context(running(tmp_path, broker))
        job_id = accept(runner, tmp_path, "")
        wait_until(lambda: runner.job(job_id).deferrals >= 1)
        assert "could not start it: [Errno 20] Not a directory" in runner.job(job_id).reason
        full.close()
        stack.enter_context(workers(tmp_path, broker, 1))
        job = runner.wait(job_id, DEADLINE)
    assert (job.state, job.attempts, job.crashes) == (JobState.SUCCEEDED, 1, 0)


def test_survivors_of_a_runner_without_workers(broker: Broker, tmp_path: Path) -> None:
    """The processes of a killed runner are ended before the next runner hands their jobs out to workers."""

    def run_and_die() -> None:
        with Bed().runner(tmp_path) as runner:
            accept(runner, tmp_path, LIVE)
            wait_until(lambda: bool(pids(tmp_path)))
            os.kill(os.getpid(), signal.SIGKILL)

    assert run_in_child(run_and_die) == -signal.SIGKILL
    assert alive(pids(tmp_path)[0])
    with workers(tmp_path, broker, 1), running(tmp_path, broker) as runner:
        wait_until(lambda: len(pids(tmp_path)) == 2)
        assert not alive(pids(tmp_path)[0])
        (tmp_path / "end").touch()
        job = runner.wait(1, DEADLINE)
    assert (job.state, job.attempts, job.crashes) == (JobState.SUCCEEDED, 1, 1)
    (_, ended), (begun, _) = lives(tmp_path)
    assert ended < begun


def test_job_that_loses_its_workers_does_not_loop(impatient: Broker, tmp_path: Path) -> None:
    """A job is dead when its workers were lost more often than the crash limit allows."""
    with workers(tmp_path, impatient, 2) as started, running(tmp_path, impatient, crash_limit=1) as runner:
        job_id = accept(runner, tmp_path, LIVE)

        def killed() -> bool:
            """Kill the worker that runs the job; on a busy machine a living one may count as lost before that."""
            for each in started:
                if pids(tmp_path) and runs_at(each, runner, job_id) and each.process.poll() is None:
                    each.kill()
            return runner.job(job_id).state.final

        wait_until(killed)
        job = runner.job(job_id)
    assert (job.state, job.crashes) == (JobState.DEAD, 2)
    assert f"was lost: nothing was heard of it for {LOST_AFTER:g} s (2 times)" in job.reason


def test_worker_that_stops_returns_its_jobs(broker: Broker, tmp_path: Path) -> None:
    """A job whose worker is stopped normally is run by another worker, without an attempt or a crash being counted."""
    with workers(tmp_path, broker) as started, running(tmp_path, broker) as runner:
        job_id = accept(runner, tmp_path, LIVE)
        wait_until(lambda: bool(pids(tmp_path)))
        stopped = worker_of(started, runner, job_id)
        stopped.process.terminate()
        assert stopped.process.wait(DEADLINE) == 0
        wait_until(lambda: len(pids(tmp_path)) == 2)
        (tmp_path / "end").touch()
        job = runner.wait(job_id, DEADLINE)
    assert (job.state, job.attempts, job.crashes, job.deferrals) == (JobState.SUCCEEDED, 1, 0, 0)
    (_, ended), (begun, _) = lives(tmp_path)
    assert ended < begun


def test_worker_that_was_killed_comes_back(impatient: Broker, tmp_path: Path) -> None:
    """A worker that starts again after it was killed takes jobs as before, on the same directories."""
    with workers(tmp_path, impatient, 1) as [worker], running(tmp_path, impatient) as runner:
        job_id = accept(runner, tmp_path, WAIT)
        wait_until(lambda: bool(pids(tmp_path)))
        worker.kill()
        worker.start()
        (tmp_path / "end").touch()
        assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED
    assert len(pids(tmp_path)) >= 2


def test_old_directories_of_a_worker_go(broker: Broker, tmp_path: Path) -> None:
    """A worker keeps the configured number of directories of ended attempts."""
    from pacifica_notifications_consumer.engines.celery.worker import remove_old
    from pacifica_notifications_consumer.jobs.retention import Keep

    for number in range(5):
        (tmp_path / str(number)).mkdir()
        os.utime(tmp_path / str(number), (number, number))
    remove_old(tmp_path, Keep(count=2), ["0"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "3", "4"]
    remove_old(tmp_path, Keep(age=60.0), ["4"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4"]


def test_watchdog_ends_with_its_worker(broker: Broker, tmp_path: Path) -> None:
    """The watchdog of a worker ends when the worker is stopped, and when it is killed."""
    for way in ("stop", "kill"):
        with workers(tmp_path / way, broker, 1) as [worker]:
            assert _watchdogs(tmp_path)
            if way == "kill":
                worker.kill()
        wait_until(lambda: not _watchdogs(tmp_path))


def _watchdogs(path: Path) -> list[str]:
    shown = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout  # noqa: S607
    return [line for line in shown.splitlines() if "watchdog" in line and str(path) in line]
