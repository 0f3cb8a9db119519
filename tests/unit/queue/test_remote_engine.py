"""The queue's side of jobs that are handed out to other machines, with an engine that reports what a test tells it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer.engines.engine import Attempt, Stop
from pacifica_notifications_consumer.errors import StateError
from pacifica_notifications_consumer.jobs.job import Ending, Fate, Job, JobState, RemoteLocation
from pacifica_notifications_consumer.queue.job_book import JobBook
from tests.support.machine.waiting import DEADLINE, wait_until
from tests.support.runner_tools import accept, body, make_runner

PLACE = RemoteLocation(worker="node7", directory="/scratch/7")
SUCCEEDED = Ending(status=0)


class Broker:
    """A `RemoteEngine` whose attempts end one after the other as told, and afterwards run until they are stopped."""

    name = "redis://broker/1"

    def __init__(self, *endings: Ending) -> None:
        self._endings = list(endings)
        self.attempts: list[Attempt] = []
        self.forgotten: list[str] = []
        self.abandoned: list[str] = []

    def open(self, mark: str) -> int:
        return 0

    def close(self) -> None:
        pass

    def run(self, attempt: Attempt, stop: Callable[[], Stop | None]) -> Ending | None:
        self.attempts.append(attempt)
        attempt.placed(PLACE)
        if self._endings:
            return self._endings.pop(0)
        wait_until(stop)
        return None

    def forget(self, task: str) -> None:
        self.forgotten.append(task)

    def abandon(self, task: str) -> None:
        self.abandoned.append(task)


def run_one(tmp_path: Path, broker: Broker, **arguments: Any) -> Job:
    with make_runner(tmp_path, "", engine=broker, **arguments) as runner:
        return runner.wait(accept(runner), DEADLINE)


def left_running(tmp_path: Path) -> str:
    """Stop a runner whose job runs on another machine; returns the name of the job's task."""
    broker = Broker()
    with make_runner(tmp_path, "", engine=broker) as runner:
        accept(runner)
        wait_until(lambda: runner.job(1).place)
    assert broker.forgotten == []
    return broker.attempts[0].task


def test_job_on_another_machine(tmp_path: Path) -> None:
    """The broker gets the notification, the record names the machine, and the broker forgets a job that has ended."""
    broker = Broker(SUCCEEDED)
    with make_runner(tmp_path, "", engine=broker) as runner:
        job = runner.wait(accept(runner), DEADLINE)
        assert runner.ledger.handed_out() == []
    (attempt,) = broker.attempts
    assert (job.state, job.attempts, job.place) == (JobState.SUCCEEDED, 1, PLACE)
    assert (attempt.job_id, attempt.body, attempt.handed_out) == (1, body(), False)
    assert attempt.directory.path.is_dir()
    assert not attempt.directory.source.exists()
    assert broker.forgotten == [attempt.task]


def test_place_that_cannot_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of the ledger when a machine takes the job is logged, and does not change the job's result."""

    def full(*_: object) -> None:
        raise StateError("the disk is full", "make room")

    with make_runner(tmp_path, "", engine=Broker(SUCCEEDED)) as runner:
        monkeypatch.setattr(runner.ledger, "note_place", full)
        job = runner.wait(accept(runner), DEADLINE)
    assert (job.state, job.attempts, job.place) == (JobState.SUCCEEDED, 1, None)
    assert "job 1: the place where it runs cannot be recorded: the disk is full; make room" in caplog.messages


def test_job_outlives_its_runner(tmp_path: Path) -> None:
    """The next runner waits for the same task, which counts as one attempt that began when it began."""
    task = left_running(tmp_path)
    with JobBook(tmp_path / "state") as book:
        before = book.job(1)
        assert (before.state, before.task, before.place) == (JobState.QUEUED, task, PLACE)
        assert (book.name, book.engine_name) == ("mine", Broker.name)
    broker = Broker(SUCCEEDED)
    with make_runner(tmp_path, "", engine=broker) as runner:
        job = runner.wait(1, DEADLINE)
        # Of the time between its arrival and its beginning nothing is known any more.
        assert runner.histograms.waits.read().count == 0
    assert [(attempt.task, attempt.handed_out) for attempt in broker.attempts] == [(task, True)]
    assert (job.state, job.attempts, job.deferrals, job.crashes) == (JobState.SUCCEEDED, 1, 0, 0)
    assert job.started_at == before.started_at
    assert broker.forgotten == [task]


def test_other_engine_is_refused(tmp_path: Path) -> None:
    """A runner without the broker of jobs that still run there does not start, for it would run them twice."""
    left_running(tmp_path)
    with (
        pytest.raises(StateError, match=f"^jobs of this consumer still run on {Broker.name}: 1; start it with that"),
        make_runner(tmp_path, ""),
    ):
        pass
    with JobBook(tmp_path / "state") as book:
        assert book.cancel(1)
    with make_runner(tmp_path, "") as runner:
        assert runner.job(1).state is JobState.CANCELLED
        assert runner.engine_name == ""
        assert runner.wait(accept(runner, 2), DEADLINE).state is JobState.SUCCEEDED


def test_cancelled_while_the_runner_is_stopped(tmp_path: Path) -> None:
    """The next start has the broker stop a job that was cancelled meanwhile, and does not wait for it."""
    task = left_running(tmp_path)
    with JobBook(tmp_path / "state") as book:
        assert book.cancel(1)
    broker = Broker()
    with make_runner(tmp_path, "", engine=broker) as runner:
        assert runner.ledger.handed_out() == []
    assert (broker.abandoned, broker.attempts) == ([task], [])


def test_cancelled_while_no_worker_waits_for_it(tmp_path: Path) -> None:
    """A runner with fewer workers than jobs on other machines has the broker stop one that it does not wait for."""
    first = Broker()
    with make_runner(tmp_path, "", engine=first, workers=2) as runner:
        accept(runner, 1)
        accept(runner, 2)
        wait_until(lambda: all(job.place for job in runner.jobs()))
    tasks = {attempt.job_id: attempt.task for attempt in first.attempts}
    broker = Broker()
    with make_runner(tmp_path, "", engine=broker, workers=1) as runner:
        wait_until(lambda: broker.attempts)
        (waiting,) = tasks.keys() - {broker.attempts[0].job_id}
        assert runner.cancel(waiting)
        assert broker.abandoned == [tasks[waiting]]
        assert [each.job_id for each in runner.ledger.handed_out()] == [broker.attempts[0].job_id]


def test_cancelled_while_it_runs(tmp_path: Path) -> None:
    """A job that is cancelled on its machine is cancelled for good, with the reason."""
    with make_runner(tmp_path, "", engine=Broker()) as runner:
        accept(runner)
        wait_until(lambda: runner.job(1).place)
        assert runner.cancel(1, "not needed")
        job = runner.wait(1, DEADLINE)
        assert (job.state, job.reason, job.attempts) == (JobState.CANCELLED, "not needed", 0)
        assert runner.ledger.handed_out() == []


def test_worker_that_dies(tmp_path: Path) -> None:
    """The death of the machine that runs a job counts as a crash, and the next attempt is a new task."""
    crashed = Ending(reason="its worker died", fate=Fate.CRASHED)
    broker = Broker(crashed, SUCCEEDED)
    job = run_one(tmp_path, broker, crash_limit=1)
    assert (job.state, job.attempts, job.crashes) == (JobState.SUCCEEDED, 1, 1)
    first, second = broker.attempts
    assert first.task != second.task
    assert (first.handed_out, second.handed_out) == (False, False)
    assert broker.forgotten == [first.task, second.task]


def test_worker_that_dies_while_the_runner_stops(tmp_path: Path) -> None:
    """The next runner does not wait for a task that has ended with its worker; no crash is counted."""

    class Dying(Broker):
        def run(self, attempt: Attempt, stop: Callable[[], Stop | None]) -> Ending | None:
            super().run(attempt, stop)
            return Ending(reason="its worker died", fate=Fate.CRASHED)

    with make_runner(tmp_path, "", engine=Dying()) as runner:
        accept(runner)
        wait_until(lambda: runner.job(1).place)
    with JobBook(tmp_path / "state") as book:
        job = book.job(1)
        assert (job.state, job.task, job.crashes) == (JobState.QUEUED, "", 0)


def test_workers_that_die_again_and_again(tmp_path: Path) -> None:
    """A job is dead after more crashes of workers than the limit allows."""
    job = run_one(tmp_path, Broker(*[Ending(reason="its worker died", fate=Fate.CRASHED)] * 2), crash_limit=1)
    assert (job.state, job.attempts, job.crashes, job.reason) == (JobState.DEAD, 0, 2, "its worker died (2 times)")


def test_worker_that_has_to_stop(tmp_path: Path) -> None:
    """A job that its worker gives back is run again as if it had not begun."""
    broker = Broker(Ending(reason="its worker stops", fate=Fate.RETURNED), SUCCEEDED)
    job = run_one(tmp_path, broker)
    assert (job.state, job.attempts, job.deferrals, job.crashes) == (JobState.SUCCEEDED, 1, 0, 0)
    assert len({attempt.task for attempt in broker.attempts}) == 2


def test_attempt_that_was_put_off(tmp_path: Path) -> None:
    """An attempt that the other machine could not begin is deferred, even with a single attempt allowed."""
    broker = Broker(Ending(reason="its disk is full", fate=Fate.PUT_OFF), SUCCEEDED)
    job = run_one(tmp_path, broker, attempts=1)
    assert (job.state, job.attempts, job.deferrals) == (JobState.SUCCEEDED, 1, 1)
