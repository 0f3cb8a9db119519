"""Jobs in adverse conditions: failures, crashes, cancellation, orphans, too much output, old age."""

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import attrs
import pytest

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.engines.engine import Attempt
from pacifica_notifications_consumer.engines.local import LocalEngine
from pacifica_notifications_consumer.engines.warm import start as warm_start
from pacifica_notifications_consumer.errors import StateError
from pacifica_notifications_consumer.jobs.directory import JobDirectory
from pacifica_notifications_consumer.jobs.job import Ending, JobState
from pacifica_notifications_consumer.jobs.retention import Keep
from pacifica_notifications_consumer.queue import maintenance as maintenance
from pacifica_notifications_consumer.queue import workers
from tests.support.machine.waiting import DEADLINE, wait_for_line, wait_until
from tests.support.runner_tools import WAYS, accept, alive, body, make_runner, run_in_child, run_one


@pytest.fixture(params=WAYS)
def make(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JobRunner]:
    """Make a runner of an entry-point's source."""
    # The tests' jobs import none of the preloaded modules; the warm process starts faster without them.
    monkeypatch.setattr(warm_start, "DOCUMENTED", ())
    return lambda source, **arguments: make_runner(tmp_path, source, way=request.param, **arguments)


#: Says that it runs, and ends when a file appears; leaves a daemon of its own session if told to.
WAITER = """
import os, signal, sys, time
place = sys.argv[1] + "/../../../.."
if os.path.exists(place + "/leave a daemon") and os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(place + "/daemon", "w").write(f"{os.getpid()}\\n")
    time.sleep(100)
open(place + "/running", "w").write(f"{os.getpid()}\\n")
while not os.path.exists(place + "/end"):
    time.sleep(0.01)
"""


def killed_while_running(make: Callable[..., JobRunner], tmp_path: Path, **arguments: Any) -> int:
    """Run a job under a runner that is killed; returns the id of the orphan process."""
    (tmp_path / "running").unlink(missing_ok=True)

    def run_and_die() -> None:
        with make(WAITER, **arguments) as runner:
            if not runner.jobs():
                accept(runner)
            wait_for_line(tmp_path / "running")
            os.kill(os.getpid(), signal.SIGKILL)

    assert run_in_child(run_and_die) == -signal.SIGKILL
    return int(wait_for_line(tmp_path / "running"))


def test_survivors_are_ended_before_their_job_is_run_again(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """The next start ends all orphans of a killed runner, also daemons, before it runs the job again."""
    (tmp_path / "leave a daemon").touch()
    survivor = killed_while_running(make, tmp_path)
    daemon = int(wait_for_line(tmp_path / "daemon"))
    assert alive(survivor)
    assert alive(daemon)
    (tmp_path / "leave a daemon").unlink()
    (tmp_path / "end").touch()
    runner = make(WAITER)
    # The daemon ignores SIGTERM.
    runner._engine = attrs.evolve(cast(LocalEngine, runner._engine), kill_after=0.1)
    with runner:
        assert not alive(survivor)
        assert not alive(daemon)
        job = runner.wait(1, DEADLINE)
    assert (job.state, job.attempts, job.crashes) == (JobState.SUCCEEDED, 1, 1)


def test_job_that_kills_its_runner_does_not_loop(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """A job is dead after more crashes of the runner than its limit allows, and the next job is run."""
    for _ in range(2):
        killed_while_running(make, tmp_path, crash_limit=1)
    with make("", crash_limit=1) as runner:
        job = runner.job(1)
        assert (job.state, job.crashes, job.attempts) == (JobState.DEAD, 2, 0)
        assert runner.wait(accept(runner, 2), DEADLINE).state is JobState.SUCCEEDED


def test_daemons_of_a_job_end_with_it(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """No process that an entry-point starts outlives its attempt, not even one that left its session."""
    (tmp_path / "leave a daemon").touch()
    with make(WAITER) as runner:
        job_id = accept(runner)
        daemon = int(wait_for_line(tmp_path / "daemon"))
        (tmp_path / "end").touch()
        assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED
        assert not alive(daemon)


def test_trying_again_later(make: Callable[..., JobRunner]) -> None:
    """Exit status 75 always leads to another attempt, and does not count as a failure."""
    source = """
import os, sys
n = len(os.listdir(sys.argv[2]))
open(f"{sys.argv[2]}/{n}", "w")
sys.exit(75 if n < 4 else 0)
"""
    job = run_one(make(source, attempts=1))
    assert (job.state, job.attempts, job.deferrals) == (JobState.SUCCEEDED, 1, 3)


def test_machine_that_lacks_something(make: Callable[..., JobRunner], monkeypatch: pytest.MonkeyPatch) -> None:
    """A job for which no file can be opened at present, or no process started, is put off, and no attempt counted."""
    lacks = [errno.EMFILE, errno.EAGAIN]
    prepare = JobDirectory.prepare

    def lacking(*arguments: Any) -> None:
        if lacks:
            raise OSError(lacks[-1], os.strerror(lacks.pop()))
        prepare(*arguments)

    monkeypatch.setattr(JobDirectory, "prepare", lacking)
    job = run_one(make("", attempts=1))
    assert (job.state, job.attempts, lacks) == (JobState.SUCCEEDED, 1, [])


def test_pauses_grow_and_differ() -> None:
    """The pauses between attempts double up to ten minutes, each shortened by up to a half."""
    rules = workers.RetryRules(attempts=99, delay=10.0)
    for failures, longest in [(1, 10.0), (2, 20.0), (5, 160.0), (7, 600.0), (1000, 600.0)]:
        pauses = {rules.pause(failures) for _ in range(50)}
        assert all(longest / 2 <= pause <= longest for pause in pauses)
        assert len(pauses) > 1


def test_failed_job_waits_for_its_next_attempt(make: Callable[..., JobRunner]) -> None:
    """Between two attempts a job is failed, not queued and not dead, and can be queued again earlier."""
    source = "import os, sys; n = len(os.listdir(sys.argv[2])); open(f'{sys.argv[2]}/{n}', 'w'); sys.exit(n < 2)"
    with make(source, attempts=2, retry_delay=1000.0) as runner:
        job_id = accept(runner)
        wait_until(lambda: runner.job(job_id).state is JobState.FAILED)
        assert (runner.job(job_id).attempts, runner.job(job_id).reason) == (1, "exit status 1")
        assert runner.requeue(job_id)
        assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED


def test_cancelling(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """Cancelling ends a running job's processes, keeps a waiting job from starting, and leaves an ended job alone."""
    with make(WAITER, workers=1) as runner:
        running, waiting = accept(runner, 1), accept(runner, 2)
        pid = int(wait_for_line(tmp_path / "running"))
        assert runner.cancel(waiting, "not needed")
        assert runner.cancel(running)
        for job_id, reason in ((running, "cancelled"), (waiting, "not needed")):
            job = runner.wait(job_id, DEADLINE)
            assert (job.state, job.reason, job.attempts) == (JobState.CANCELLED, reason, 0)
        assert not alive(pid)
        assert not runner.cancel(running)
        (tmp_path / "end").touch()
        assert runner.requeue(running)
        assert runner.wait(running, DEADLINE).state is JobState.SUCCEEDED


def test_what_a_dead_job_leaves(make: Callable[..., JobRunner]) -> None:
    """A dead job is kept with reason, duration, processor time, memory and the end of its output."""
    source = """
import time
x = bytearray(80 << 20)
until = time.process_time() + 0.1
while time.process_time() < until:
    pass
raise ValueError("this is why")
"""
    job = run_one(make(source))
    assert (job.state, job.exit_status, job.reason) == (JobState.DEAD, 1, "exit status 1")
    assert job.ending.output_tail.endswith("ValueError: this is why")
    assert job.ending.cpu_seconds is not None
    assert 0.1 <= job.ending.cpu_seconds < DEADLINE
    assert job.ending.peak_memory is not None
    # A process that starts cold counts the memory of the one that started it, too.
    assert 80 << 20 < job.ending.peak_memory < 80 << 30
    assert job.seconds is not None
    assert 0.1 <= job.seconds < DEADLINE


def test_output_limit(make: Callable[..., JobRunner]) -> None:
    """The beginning and the end of a large output are kept."""
    runner = make("print('first')\nfor n in range(100_000): print('x' * 99)\nprint('last')", output_limit=10_000)
    with runner:
        job = runner.wait(accept(runner), DEADLINE)
        kept = runner.directory(job.id).output.read_text()
    assert kept.startswith("first\nx")
    assert kept.endswith("x\nlast\n")
    assert len(kept) < 11_000
    assert job.ending.output_tail.endswith("last")


def test_old_jobs_are_removed(make: Callable[..., JobRunner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished jobs beyond `keep` are removed with their directories; unfinished jobs never are."""
    monkeypatch.setattr(maintenance, "RENEWAL", 0.01)
    monkeypatch.setattr(maintenance, "_TIDYING", 0.01)
    source = "import sys; sys.exit(sys.argv[1].split('/')[-2] == '1')"
    with make(source, attempts=2, retry_delay=1000.0, workers=1, keep=Keep(count=1)) as runner:
        for number in range(1, 5):
            accept(runner, number)
        wait_until(lambda: [job.id for job in runner.jobs()] == [4, 1])
        wait_until(lambda: sorted(path.name for path in (tmp_path / "state" / "jobs").iterdir()) == ["1", "4"])
        assert runner.job(1).state is JobState.FAILED


def test_what_is_old_is_removed(make: Callable[..., JobRunner], monkeypatch: pytest.MonkeyPatch) -> None:
    """All finished jobs beyond an age are removed, and the bodies of notifications that were set aside."""
    monkeypatch.setattr(maintenance, "RENEWAL", 0.01)
    monkeypatch.setattr(maintenance, "_TIDYING", 0.01)
    monkeypatch.setattr(maintenance, "_HANDFUL", 2)
    with make("import sys; sys.exit(1)", keep=Keep(age=0.0)) as runner:
        aside = runner.accept(b"not JSON").notification_id
        receipts = runner.accept_all([body(number) for number in range(1, 6)])
        assert all(receipt.job_id for receipt in receipts)
        wait_until(lambda: not runner.jobs())
        wait_until(lambda: not runner.ledger.records.notification(aside).kept)
        # Its record stays, as do those of the jobs' notifications.
        assert len(runner.ledger.records.notifications(10)) == 6


def test_job_that_was_lost_inside_comes_back(make: Callable[..., JobRunner], monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that a bug in a worker interrupted is run again when its lease has expired, and not before."""
    monkeypatch.setattr(maintenance, "RENEWAL", 0.01)

    class Faulty:
        lost = ""

        def run(self, attempt: Attempt, stop: Callable[[], bool]) -> Ending:
            if not self.lost:
                self.lost = attempt.mark.rpartition(":")[2]
                raise AssertionError("a fault")
            return Ending(status=0)

        def open(self, mark: str) -> int:
            return 0

        def close(self) -> None:
            pass

    def expired(runner: JobRunner) -> bool:
        # Again and again, because a renewal that had begun before the fault may follow.
        runner.ledger._database.change("UPDATE jobs SET lease_until = 0 WHERE token = ?", engine.lost)
        return runner.job(1).crashes == 1

    engine = Faulty()
    with make("", engine=engine) as runner:
        accept(runner)
        wait_until(lambda: engine.lost)
        wait_until(lambda: expired(runner))
        job = runner.wait(1, DEADLINE)
    assert (job.state, job.crashes) == (JobState.SUCCEEDED, 1)


def test_result_of_a_lost_claim_is_discarded(make: Callable[..., JobRunner], caplog: pytest.LogCaptureFixture) -> None:
    """An attempt whose job was taken over meanwhile changes nothing of the job, which runs again."""

    class Losing:
        attempts = 0

        def run(self, attempt: Attempt, stop: Callable[[], bool]) -> Ending:
            self.attempts += 1
            if self.attempts == 1:
                runner.ledger._database.change("UPDATE jobs SET state = 'queued', token = NULL, lease_until = NULL")
                return Ending(status=1, reason="late")
            return Ending(status=0)

        def open(self, mark: str) -> int:
            return 0

        def close(self) -> None:
            pass

    runner = make("", engine=Losing(), workers=1)
    job = run_one(runner)
    assert (job.state, job.attempts, job.crashes, job.reason) == (JobState.SUCCEEDED, 1, 0, "")
    assert "job 1: its result is discarded: the claim of job 1 is lost" in caplog.text


def test_stop_while_no_result_can_be_written(
    make: Callable[..., JobRunner], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A runner whose ledger cannot be written can be stopped all the same; the next one counts a crash."""
    with make("", crash_limit=5) as runner:

        def full(*_: object, **__: object) -> None:
            raise StateError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(runner.ledger, "end_attempt", full)
            accept(runner)
            wait_until(lambda: "its result cannot be written: the disk is full" in caplog.text)
            runner.__exit__()
    with make("", crash_limit=5) as runner:
        job = runner.wait(1, DEADLINE)
    assert (job.state, job.attempts, job.crashes) == (JobState.SUCCEEDED, 1, 1)


def test_maintenance_outlasts_a_fault_of_the_ledger(
    make: Callable[..., JobRunner], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While the ledger cannot be written, that is logged; afterwards lost jobs are recovered as before."""
    monkeypatch.setattr(maintenance, "RENEWAL", 0.01)
    with make("") as runner:
        ledger, faults = runner.ledger, iter([StateError("the disk is full")])
        recover = ledger.recover

        def faulty(*arguments: Any, **keywords: Any) -> Any:
            if fault := next(faults, None):
                raise fault
            return recover(*arguments, **keywords)

        monkeypatch.setattr(ledger, "recover", faulty)
        wait_until(lambda: "the disk is full" in caplog.text)
        job_id = accept(runner)
        runner.wait(job_id, DEADLINE)
        ledger._database.change("UPDATE jobs SET state = 'running', token = 'lost', lease_until = 0")
        wait_until(lambda: runner.job(job_id).crashes == 1)
        assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED
        assert runner.alive


def test_lease_is_renewed_while_a_job_runs(
    make: Callable[..., JobRunner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease of a job that runs is extended again and again, so that the job stays with its worker."""
    monkeypatch.setattr(maintenance, "RENEWAL", 0.02)

    def lease(runner: JobRunner) -> float:
        with runner.ledger._database.reading() as connection:
            (until,) = connection.execute("SELECT lease_until FROM jobs").fetchone()
        return float(until)

    with make(WAITER) as runner:
        job_id = accept(runner)
        wait_for_line(tmp_path / "running")
        for _ in range(3):
            before = lease(runner)
            wait_until(lambda before=before: lease(runner) > before, "the lease is extended")  # type: ignore[misc]
        (tmp_path / "end").touch()
        job = runner.wait(job_id, DEADLINE)
    assert (job.state, job.crashes) == (JobState.SUCCEEDED, 0)


def test_any_engine_will_do(make: Callable[..., JobRunner]) -> None:
    """Any engine that implements the protocol runs the jobs, and gets all that an entry-point gets."""
    seen: list[bytes] = []

    class Here:
        def run(self, attempt: Attempt, stop: Callable[[], bool]) -> Ending | None:
            seen.append((attempt.directory.source / "notification.json").read_bytes())
            return None if stop() else Ending(status=0)

        def open(self, mark: str) -> int:
            return 0

        def close(self) -> None:
            seen.append(b"closed")

    with make("", engine=Here()) as runner:
        assert runner.wait(accept(runner), DEADLINE).state is JobState.SUCCEEDED
    assert len(seen) == 2
    assert seen[1] == b"closed"


def test_threads_are_watched(make: Callable[..., JobRunner]) -> None:
    """`alive` tells whether all threads of the runner are running."""
    runner = make("")
    seen = [runner.alive]
    with runner:
        seen.append(runner.alive)
    assert [*seen, runner.alive] == [False, True, False]


@pytest.mark.skipif(sys.platform != "linux", reason="the variables are systemd's")
def test_supervisors_variables_stay_here(make: Callable[..., JobRunner], monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry-point cannot send messages to the runner's supervisor."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/x")
    assert run_one(make("import os; assert 'NOTIFY_SOCKET' not in os.environ")).state is JobState.SUCCEEDED
