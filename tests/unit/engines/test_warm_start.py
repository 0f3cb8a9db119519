"""The warm process: its jobs survive its death, and entry-points start cold when it cannot be used."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import attrs
import pytest

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.engines.local import LocalEngine
from pacifica_notifications_consumer.engines.warm import start as warm_start
from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.jobs.limits import JobLimits
from tests.support.machine.waiting import DEADLINE, wait_for_line, wait_until
from tests.support.runner_tools import accept, alive, make_runner, run_in_child

#: Writes its process id and that of its parent to a file, and ends when another file appears.
WAITER = """
import os, sys, time
place = sys.argv[1] + "/../../../.."
with open(place + "/began", "a") as file: file.write("x")
open(place + "/running", "w").write(f"{os.getpid()} {os.getppid()}\\n")
while not os.path.exists(place + "/end"): time.sleep(0.01)
"""


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JobRunner]:
    monkeypatch.setattr(warm_start, "DOCUMENTED", ())
    return lambda source, way="warm", **arguments: make_runner(tmp_path, source, way=way, **arguments)


def warm(runner: JobRunner) -> warm_start.WarmStart:
    start = cast(LocalEngine, runner._engine)._warm_start
    assert start is not None
    return start


def test_its_death_is_no_failure_of_the_jobs(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """A killed warm process is restarted; its jobs are ended and run again, which does not count as attempts."""
    with make(WAITER) as runner:
        job_id = accept(runner)
        pid, parent = map(int, wait_for_line(tmp_path / "running").split())
        assert parent == warm(runner).pid
        os.kill(parent, signal.SIGKILL)
        wait_until(lambda: not alive(pid))
        wait_until(lambda: (tmp_path / "began").read_text() == "xx")
        (tmp_path / "end").touch()
        job = runner.wait(job_id, DEADLINE)
        assert (job.state, job.attempts, job.crashes) == (JobState.SUCCEEDED, 1, 1)
        wait_until(lambda: warm(runner).ready)
        (tmp_path / "running").unlink()
        runner.wait(accept(runner, 2), DEADLINE)
        assert int(wait_for_line(tmp_path / "running").split()[1]) == warm(runner).pid != parent


#: Kills the warm process that forked it; if it is started cold, it asks to be tried again later.
KILLER = """
import os, sys, time
if not open(f"/proc/{os.getppid()}/cmdline").read().startswith("pacifica-warm-process"):
    sys.exit(75)
os.kill(os.getppid(), 9)
time.sleep(100)
"""


def test_job_that_kills_it_does_not_loop(make: Callable[..., JobRunner]) -> None:
    """A job that kills the warm process again and again is dead after the crash limit."""
    with make(KILLER, crash_limit=1, retry_delay=0.05) as runner:
        job = runner.wait(accept(runner), DEADLINE)
    assert (job.state, job.attempts, job.crashes) == (JobState.DEAD, 0, 2)
    assert job.reason == "the warm process died, so the result of the attempt is unknown (2 times)"


def test_one_that_hangs_is_replaced(make: Callable[..., JobRunner], monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm process that does not answer is killed and replaced; the job that waited for it starts cold."""
    monkeypatch.setattr(warm_start, "_PATIENCE", 0.2)
    with make("import os; print(os.getppid())") as runner:
        hung = warm(runner).pid
        assert hung is not None
        os.kill(hung, signal.SIGSTOP)
        job_id = accept(runner)
        assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED
        assert runner.directory(job_id).output.read_text() == f"{os.getpid()}\n"
        # The next one has all the time that it needs.
        monkeypatch.setattr(warm_start, "_PATIENCE", DEADLINE)
        wait_until(lambda: warm(runner).ready and warm(runner).pid != hung)
        job_id = accept(runner, 2)
        assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED
        assert runner.directory(job_id).output.read_text() == f"{warm(runner).pid}\n"


def test_child_that_cannot_be_controlled(make: Callable[..., JobRunner], monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry-point for which no further file can be opened has not run: it starts again, and runs once."""
    pidfd_open, calls = os.pidfd_open, list[int]()

    def limited(pid: int) -> int:
        calls.append(pid)
        if len(calls) == 1:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return pidfd_open(pid)

    with make("print('once')") as runner:
        monkeypatch.setattr(os, "pidfd_open", limited)
        job = runner.wait(accept(runner), DEADLINE)
        assert (job.state, job.attempts, job.crashes) == (JobState.SUCCEEDED, 1, 0)
        assert runner.directory(job.id).output.read_text() == "once\n"
    assert calls


@pytest.mark.parametrize(
    ("preload", "words"),
    [
        ("no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("fails", "ZeroDivisionError: division by zero"),
        ("leaves", "SystemExit: 3"),
        ("starts_threads", "the imported modules have started threads (mine)"),
    ],
)
def test_modules_that_cannot_be_imported(
    make: Callable[..., JobRunner], tmp_path: Path, caplog: pytest.LogCaptureFixture, preload: str, words: str
) -> None:
    """The reason of a failed import is logged once, and entry-points start cold."""
    consumer = tmp_path / "consumer"
    consumer.mkdir()
    (consumer / "fails.py").write_text("1/0")
    (consumer / "leaves.py").write_text("raise SystemExit(3)")
    (consumer / "starts_threads.py").write_text(
        "import threading, time; threading.Thread(target=time.sleep, args=(99,), name='mine', daemon=True).start()"
    )
    runner = make("import os; print(os.getppid())", way="cold", preload=[preload])
    engine = cast(LocalEngine, runner._engine)
    runner._engine = type(engine)(
        entry_point=engine.entry_point, venv=engine.venv, services=engine.services, preload=[preload]
    )
    with caplog.at_level(logging.WARNING), runner:
        assert not warm(runner).wait(DEADLINE)
        job_id = accept(runner)
        assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED
        assert runner.directory(job_id).output.read_text() == f"{os.getpid()}\n"
    (said,) = [message for message in caplog.messages if "could not be imported in advance" in message]
    assert words in said


def test_preloading(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """Modules of the consumer are imported once, with its environment variables, and shared by all jobs."""
    consumer = tmp_path / "consumer"
    consumer.mkdir()
    (consumer / "mine.py").write_text("import os; pid, user = os.getpid(), os.environ['PACIFICA_USERNAME']")
    with make("import mine; print(mine.pid, mine.user)", preload=["mine", "no_such_module?"]) as runner:
        outputs = set()
        for number in range(2):
            job_id = accept(runner, number)
            assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED
            outputs.add(runner.directory(job_id).output.read_text())
        assert outputs == {f"{warm(runner).pid} alice\n"}


def test_it_ends_with_the_runner(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """The warm process ends with its runner, even if the runner is killed."""
    with make("") as runner:
        pid = warm(runner).pid
    assert pid is not None
    assert not alive(pid)

    def run_and_die() -> None:
        with make("") as runner:
            (tmp_path / "pid").write_text(f"{warm(runner).pid}\n")
            os.kill(os.getpid(), signal.SIGKILL)

    assert run_in_child(run_and_die) == -signal.SIGKILL
    pid = int(wait_for_line(tmp_path / "pid"))
    wait_until(lambda: not alive(pid))


def test_closing_while_it_gets_ready(tmp_path: Path) -> None:
    """close() does not wait for slow imports."""
    (tmp_path / "slow.py").write_text("import time; time.sleep(100)")
    start = warm_start.WarmStart(Path(sys.executable), tmp_path / "script", environ=dict(os.environ), preload=["slow"])
    start.start()
    wait_until(lambda: start.pid is not None)
    began = time.monotonic()
    start.close()
    assert time.monotonic() - began < DEADLINE
    assert not start.ready


def test_python_that_cannot_be_started(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log reports an interpreter that does not exist."""
    start = warm_start.WarmStart(tmp_path / "python", tmp_path / "script", environ={})
    start.start()
    assert not start.wait(DEADLINE)
    start.close()
    assert "No such file or directory" in caplog.text


def test_many_at_the_same_time(make: Callable[..., JobRunner]) -> None:
    """Each of many concurrent jobs gets its own arguments, output and exit status."""
    source = "import sys; print(sys.argv[1]); sys.exit(int(sys.argv[1].split('/')[-2]) % 7)"
    with make(source, workers=8) as runner:
        threads = threading.active_count()
        numbers = [accept(runner, number) for number in range(60)]
        for number in numbers:
            job = runner.wait(number, DEADLINE)
            assert job.exit_status == number % 7
            assert runner.directory(number).output.read_text() == f"{runner.directory(number).source}\n"
        wait_until(lambda: threading.active_count() < threads + 4)
        wait_until(lambda: len(os.listdir(f"/proc/{warm(runner).pid}/fd")) < 8)  # noqa: PTH208


def test_large_environment(make: Callable[..., JobRunner], monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables of any size reach a job; /proc shows a truncated environment that begins with the mark."""
    monkeypatch.setenv("LARGE", "x" * 100_000)
    source = """
import os
shown = open('/proc/self/environ').read()
assert (len(os.environ['LARGE']), shown.startswith('PACIFICA_JOB=')) == (100_000, True)
"""
    with make(source) as runner:
        assert runner.wait(accept(runner), DEADLINE).exit_status == 0
    monkeypatch.setenv("TINY", "y" * 9000)
    with make(source, name="other") as runner:
        monkeypatch.setenv("LATER", "z" * 100_000)
        assert runner.wait(accept(runner, 2), DEADLINE).exit_status == 0


def test_directory_that_has_gone(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """An entry-point whose directory is missing fails with the same reason as with a cold start."""
    with make("") as runner:
        (tmp_path / "consumer").rename(tmp_path / "moved")
        job = runner.wait(accept(runner), DEADLINE)
    assert (job.state, job.exit_status) == (JobState.DEAD, None)
    assert "could not be started: [Errno 2] No such file or directory" in job.reason


def test_limited_from_the_start(make: Callable[..., JobRunner]) -> None:
    """A child has its limits before the first line of the script."""
    source = "import resource; print(resource.getrlimit(resource.RLIMIT_FSIZE))"
    with make(source, limits=JobLimits(file_size=7000)) as runner:
        jobs = [accept(runner, number) for number in range(10)]
        for job_id in jobs:
            runner.wait(job_id, DEADLINE)
        outputs = {runner.directory(job_id).output.read_text() for job_id in jobs}
    assert outputs == {"(7000, 7000)\n"}


def test_numbers_of_numpy_differ(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """The random numbers of numpy, which does not reseed after a fork, are reseeded."""
    package = tmp_path / "consumer" / "numpy"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "random.py").write_text("seeds = []\ndef seed(): seeds.append(1)\n")
    with make("import numpy.random as r; print(r.seeds)", preload=["numpy.random"]) as runner:
        job_id = accept(runner)
        runner.wait(job_id, DEADLINE)
        assert runner.directory(job_id).output.read_text() == "[1]\n"


def test_child_that_was_forked_ahead(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """A spare child runs the next job, but never an outdated script, and is replaced when it is killed."""

    def ahead() -> list[str]:
        return Path(f"/proc/{warm(runner).pid}/task/{warm(runner).pid}/children").read_text().split()

    with make("import os; print('one', os.getpid())") as runner:
        wait_until(lambda: len(ahead()) == 1)
        (waiting,) = ahead()
        job_id = accept(runner)
        runner.wait(job_id, DEADLINE)
        assert runner.directory(job_id).output.read_text() == f"one {waiting}\n"
        wait_until(lambda: len(ahead()) == 1)
        (tmp_path / "consumer" / "__main__.py").write_text("print('two')")
        job_id = accept(runner, 2)
        runner.wait(job_id, DEADLINE)
        assert runner.directory(job_id).output.read_text() == "two\n"
        wait_until(lambda: len(ahead()) == 1)
        (waiting,) = ahead()
        os.kill(int(waiting), signal.SIGKILL)
        job_id = accept(runner, 3)
        assert runner.wait(job_id, DEADLINE).exit_status == 0
        wait_until(lambda: len(ahead()) == 1 and ahead() != [waiting])
        assert warm(runner).ready


def test_supervisor_that_asks_all_processes_to_end(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """The warm process ignores the signals of a supervisor; its children react to them."""
    with make(WAITER) as runner:
        parent = warm(runner).pid
        assert parent is not None
        job_id = accept(runner)
        pid = int(wait_for_line(tmp_path / "running").split()[0])
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(parent, number)
        os.kill(pid, signal.SIGTERM)
        assert runner.wait(job_id, DEADLINE).exit_status == -signal.SIGTERM
        assert (warm(runner).ready, warm(runner).pid) == (True, parent)


def test_job_that_was_cancelled_before_it_died(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """A cancelled job is not run again, even if the warm process dies at the same moment."""
    with make(WAITER) as runner:
        job_id = accept(runner)
        parent = int(wait_for_line(tmp_path / "running").split()[1])
        os.kill(parent, signal.SIGSTOP)
        runner.cancel(job_id)
        os.kill(parent, signal.SIGKILL)
        assert runner.wait(job_id, DEADLINE).state is JobState.CANCELLED
        assert warm(runner).wait(DEADLINE)


def test_one_that_is_killed_while_it_gets_ready(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """A warm process that is killed during its imports is restarted."""
    consumer = tmp_path / "consumer"
    consumer.mkdir()
    (consumer / "once.py").write_text(
        f"import os, pathlib\npath = pathlib.Path({str(tmp_path / 'killed')!r})\n"
        "if not path.exists(): path.touch(); os.kill(os.getpid(), 9)\n"
    )
    with make("import os; print(os.getppid())", preload=["once"]) as runner:
        job_id = accept(runner)
        assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED
        assert runner.directory(job_id).output.read_text() == f"{warm(runner).pid}\n"
    assert (tmp_path / "killed").exists()


def test_fork_beside_a_thread_of_a_library(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """Python's warning of a fork beside the thread of a preloaded library does not end the warm process."""
    consumer = tmp_path / "consumer"
    consumer.mkdir()
    (consumer / "library.py").write_text(
        "import _thread, time, warnings\nwarnings.simplefilter('error')\n_thread.start_new_thread(time.sleep, (99,))\n"
    )
    with make("import os, warnings; print(os.getppid(), warnings.filters[0][0])", preload=["library"]) as runner:
        for number in range(3):
            job_id = accept(runner, number)
            assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED
            assert runner.directory(job_id).output.read_text() == f"{warm(runner).pid} error\n"


def test_one_that_hangs_when_its_runner_is_killed(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """The next runner ends a hanging warm process of a runner that was killed."""

    def stop_it_and_die() -> None:
        with make("") as runner:
            pid = warm(runner).pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            (tmp_path / "pid").write_text(f"{pid}\n")
            os.kill(os.getpid(), signal.SIGKILL)

    assert run_in_child(stop_it_and_die) == -signal.SIGKILL
    pid = int(wait_for_line(tmp_path / "pid"))
    assert alive(pid)
    runner = make("", way="cold")
    runner._engine = attrs.evolve(cast(LocalEngine, runner._engine), kill_after=0.1)
    with runner:
        assert not alive(pid)
