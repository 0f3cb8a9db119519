"""ExecutorEngine neither loses a job nor runs one twice when its executor refuses, dies, or begins too late."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer.engines.engine import Attempt
from pacifica_notifications_consumer.engines.executor import _Signs, run_attempt
from pacifica_notifications_consumer.engines.local import LocalEngine
from pacifica_notifications_consumer.environment.venv import Venv
from pacifica_notifications_consumer.jobs.directory import JobDirectory
from pacifica_notifications_consumer.jobs.job import Ending, Fate, JobState
from pacifica_notifications_consumer.settings.services import Services
from tests.support.machine.waiting import DEADLINE, wait_until
from tests.support.runner_tools import accept, make_runner

#: Says that it runs.
NOTING = "import sys; open(sys.argv[2] + '/ran', 'a').write('x')"


def ran(directory: JobDirectory) -> bool:
    return (directory.destination / "ran").exists()


def test_executor_that_was_shut_down(tmp_path: Path) -> None:
    """A job that the executor does not accept waits, and that counts neither as an attempt nor as a crash."""
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with make_runner(tmp_path, NOTING, engine=executor, retry_delay=1000.0) as runner:
        job_id = accept(runner)
        wait_until(lambda: runner.job(job_id).deferrals)
        job = runner.job(job_id)
        assert (job.state, job.attempts, job.crashes) == (JobState.QUEUED, 0, 0)
        assert "the executor does not accept the job: RuntimeError" in job.reason
        assert not ran(runner.directory(job_id))


def test_executor_whose_process_dies(tmp_path: Path) -> None:
    """An attempt whose process of the executor was killed counts as a crash of the job."""
    source = "import os, signal; os.kill(os.getppid(), signal.SIGKILL)"
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor,
        make_runner(tmp_path, source, engine=executor, crash_limit=0) as runner,
    ):
        job = runner.wait(accept(runner), DEADLINE)
    assert (job.state, job.attempts, job.crashes) == (JobState.DEAD, 0, 1)
    assert "the executor lost the attempt: BrokenProcessPool" in job.reason


class Stubborn(Executor):
    """An executor that calls functions when it is told to; they cannot be cancelled."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], Any]] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        self.calls.append(lambda: function(*arguments, **keywords))
        return future


def test_executor_that_begins_after_the_cancellation(tmp_path: Path) -> None:
    """A job that is cancelled before the executor begins it never runs, even if the executor cannot withdraw it."""
    executor = Stubborn()
    with make_runner(tmp_path, NOTING, engine=executor) as runner:
        job_id = accept(runner)
        wait_until(lambda: executor.calls)
        assert runner.cancel(job_id)
        assert runner.wait(job_id, DEADLINE).state is JobState.CANCELLED
        assert executor.calls[0]().fate is Fate.CRASHED
        assert not ran(runner.directory(job_id))


def test_job_that_waits_in_the_executor_at_the_end(tmp_path: Path) -> None:
    """A job that the executor has not begun when the runner stops goes back to the queue, and runs once later."""
    blocked = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(blocked.wait)
        with make_runner(tmp_path, NOTING, engine=executor) as runner:
            job_id = accept(runner)
            wait_until(lambda: runner.job(job_id).state is JobState.RUNNING)
        blocked.set()
        with make_runner(tmp_path, NOTING, engine=executor) as runner:
            job = runner.wait(job_id, DEADLINE)
            assert (job.state, job.attempts, job.crashes) == (JobState.SUCCEEDED, 1, 0)
            assert (runner.directory(job_id).destination / "ran").read_text() == "x"


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    directory = JobDirectory(tmp_path / "job")
    directory.prepare(b"{}", ())
    return Attempt(job_id=1, directory=directory, mark=f"{tmp_path}:1:token")


def engine(entry_point: Path) -> LocalEngine:
    return LocalEngine(entry_point=entry_point, venv=Venv(Path(sys.prefix)), services=Services(), warm=False)


def test_function_that_is_called_twice(attempt: Attempt, tmp_path: Path) -> None:
    """The second call of the same attempt, by an executor that repeats after a death, does not run it again."""
    (tmp_path / "__main__.py").write_text(NOTING)
    local = engine(tmp_path / "__main__.py")
    first, second = (run_attempt(local, attempt, _Signs.of(attempt)) for _ in range(2))
    assert first is not None
    assert first.status == 0
    assert second == Ending(reason="the executor's process died during the attempt", fate=Fate.CRASHED)
    assert (attempt.directory.destination / "ran").read_text() == "x"


def test_entry_point_that_the_process_cannot_start(tmp_path: Path) -> None:
    """An entry-point that cannot be started fails with the reason; the executor is not blamed."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").touch(mode=0o600)
    with (
        ThreadPoolExecutor(1) as executor,
        make_runner(tmp_path, "", engine=executor, attempts=1, venv=Venv(tmp_path / "venv")) as runner,
    ):
        job = runner.wait(accept(runner), DEADLINE)
    assert (job.state, job.attempts) == (JobState.DEAD, 1)
    assert job.reason.startswith("could not be started: [Errno 13] Permission denied")


def lacking_files() -> None:
    """Make this process of an executor unable to claim its first two attempts."""
    touch, lacks = Path.touch, [""] * 2

    def lacking(path: Path, mode: int = 0o666, exist_ok: bool = True) -> None:
        if lacks:
            lacks.pop()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        touch(path, mode, exist_ok)

    Path.touch = lacking  # type: ignore[assignment, method-assign]


def test_executor_whose_process_lacks_files(tmp_path: Path) -> None:
    """An attempt that could not be begun for want of files is put off, as on the machine of the runner."""
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=lacking_files) as executor,
        make_runner(tmp_path, "", engine=executor, attempts=1) as runner,
    ):
        job = runner.wait(accept(runner), DEADLINE)
    assert (job.state, job.attempts, job.deferrals) == (JobState.SUCCEEDED, 1, 2)
