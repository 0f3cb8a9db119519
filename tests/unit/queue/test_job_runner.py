"""JobRunner runs an entry-point for each matching notification: real processes, a real ledger."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer import Filter, JobRunner
from pacifica_notifications_consumer.cloudevents.notification import PROVENANCE_KEY
from pacifica_notifications_consumer.engines.warm import start as warm_start
from pacifica_notifications_consumer.errors import NotificationError, StateError
from pacifica_notifications_consumer.jobs.job import JobState, Verdict
from pacifica_notifications_consumer.ledger import ledger as ledger_module
from pacifica_notifications_consumer.queue import workers
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.streams.progress import Progress
from tests.support.faults import FailingFilter
from tests.support.machine.waiting import DEADLINE, wait_for_line, wait_until, whole_lines
from tests.support.runner_tools import WAYS, alive, body, make_runner, run_one


@pytest.fixture(params=WAYS)
def make(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JobRunner]:
    """Make a runner of an entry-point's source."""
    # The tests' jobs import none of the preloaded modules; the warm process starts faster without them.
    monkeypatch.setattr(warm_start, "DOCUMENTED", ())
    return lambda source, **arguments: make_runner(tmp_path, source, way=request.param, **arguments)


def ending_of(runner: JobRunner) -> tuple[JobState, int | None, str]:
    job = run_one(runner)
    return job.state, job.exit_status, job.reason


REPORT = """
import json, os, sys
json.dump({"argv": sys.argv, "cwd": os.getcwd(), "name": __name__, "path": sys.path[0], "env": dict(os.environ),
           "session": os.getsid(0) == os.getpid(), "stdin": sys.stdin.read()}, open(sys.argv[2] + "/report", "w"))
print("said", file=sys.stderr)
"""


def test_contract_of_an_entry_point(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """An entry-point runs as `python __main__.py SRC DST` in its own directory and session, with Pacifica's URLs."""
    row = {"destinationTable": "Files", "subdir": "a/b"}
    with make(REPORT) as runner:
        job_id = runner.accept(body(1, row)).job_id
        assert job_id is not None
        assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED
        directory = runner.directory(job_id)
    report = json.loads((directory.destination / "report").read_text())
    consumer = str((tmp_path / "consumer").resolve())
    assert report["argv"] == [f"{consumer}/__main__.py", str(directory.source), str(directory.destination)]
    assert (report["cwd"], report["path"], report["name"], report["stdin"]) == (consumer, consumer, "__main__", "")
    assert report["session"]
    expected = {
        "PACIFICA_CARTD_URL": "http://cartd:1",
        "PACIFICA_USERNAME": "alice",
        "PACIFICA_PASSWORD": "hunter2",
        "PACIFICA_CONSUMER": "mine",
    }
    assert expected.items() <= report["env"].items()
    assert (directory.source / "notification.json").read_bytes() == body(1, row)
    assert (directory.destination / "uploads" / "a" / "b").is_dir()
    assert directory.output.read_text() == "said\n"


def test_environment_is_the_jobs_own(make: Callable[..., JobRunner], monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the runner and of its interpreter do not reach the entry-point, other variables do."""
    monkeypatch.setenv("PACIFICA_SECRET_OF_THE_RUNNER", "x")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("ORDINARY", "y")
    with make(REPORT) as runner:
        job_id = runner.accept(body()).job_id
        assert job_id is not None
        runner.wait(job_id, DEADLINE)
        environ = json.loads((runner.directory(job_id).destination / "report").read_text())["env"]
    assert "PACIFICA_SECRET_OF_THE_RUNNER" not in environ
    assert "PYTHONPATH" not in environ
    assert environ["ORDINARY"] == "y"


def test_password_is_for_the_job_alone(tmp_path: Path) -> None:
    """The password reaches the entry-point in its environment, which others cannot read, and no command line."""
    entry_point = tmp_path / "__main__.py"
    entry_point.write_text(
        "import os, stat, sys\n"
        "mode = stat.S_IMODE(os.stat('/proc/self/environ').st_mode)\n"
        "line = open('/proc/self/cmdline').read()\n"
        "sys.exit(0 if (mode & 0o077, os.environ['PACIFICA_PASSWORD'] in line) == (0, False) else 1)\n"
    )
    services = Services(username="alice", password="hunter2")
    with JobRunner(entry_point, tmp_path / "state", name="n", services=services) as runner:
        job_id = runner.accept(body()).job_id
        assert job_id is not None
        assert runner.wait(job_id, DEADLINE).exit_status == 0
    kept = [path for path in (tmp_path / "state").rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert kept == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", (JobState.SUCCEEDED, 0, "")),
        ("raise SystemExit(3)", (JobState.DEAD, 3, "exit status 3")),
        ("1/0", (JobState.DEAD, 1, "exit status 1")),
        ("import os; os.kill(os.getpid(), 9)", (JobState.DEAD, -9, "signal 9 (Killed)")),
        ("import signal; signal.raise_signal(signal.SIGTERM)", (JobState.DEAD, -15, "signal 15 (Terminated)")),
    ],
)
def test_endings(make: Callable[..., JobRunner], source: str, expected: tuple[JobState, int | None, str]) -> None:
    """The exit status of the entry-point determines the state of the job, and is recorded."""
    assert ending_of(make(source)) == expected


def test_entry_point_that_cannot_be_started(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """A job whose directory cannot be made is dead with the reason, and the runner goes on."""
    (tmp_path / "state" / "jobs").mkdir(parents=True)
    (tmp_path / "state" / "jobs" / "1").touch()
    state, status, reason = ending_of(make(""))
    assert (state, status) == (JobState.DEAD, None)
    assert "could not be started" in reason


def test_progress_reaches_the_record(
    make: Callable[..., JobRunner], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The progress of a job's downloads and uploads can be read while it runs, and afterwards; the log has it, too."""
    caplog.set_level("INFO", "pacifica_notifications_consumer.queue.workers")
    monkeypatch.setattr(workers, "_PROGRESS_SECONDS", 0.01)
    monkeypatch.setattr(workers, "_PROGRESS_LOG_SECONDS", 0.0)
    source = """
import sys, time
from pacifica_notifications_consumer.streams.progress import TransferMeter
with TransferMeter("download", 10, 2, None) as meter:
    meter.advance(5, files=1)
    while not __import__("os").path.exists(sys.argv[2] + "/go"):
        time.sleep(0.01)
        meter.advance(0)
    meter.advance(5, files=1)
"""
    with make(source) as runner:
        job_id = runner.accept(body()).job_id
        assert job_id is not None
        half = {"download": Progress(bytes_done=5, bytes_total=10, files_done=1, files_total=2)}
        wait_until(lambda: runner.job(job_id).progress == half)
        (runner.directory(job_id).destination / "go").touch()
        ended = runner.wait(job_id, DEADLINE)
        assert not runner.directory(job_id).progress.exists()
    assert f"job 1: download {half['download']}" in caplog.text
    assert ended.progress == {"download": Progress(bytes_done=10, bytes_total=10, files_done=2, files_total=2)}


def test_timeout_ends_the_whole_group(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """An entry-point that exceeds its timeout is ended with its children, even if these ignore SIGTERM."""
    child = tmp_path / "child"
    source = f"""
import os, signal, time
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open({str(child)!r}, "w").write(f"{{os.getpid()}}\\n")
    time.sleep(100)
time.sleep(100)
"""
    for number, seconds in enumerate((0.4, 4.0, 40.0), 1):
        with make(source, timeout=seconds) as runner:
            receipt = runner.accept(body(number))
            job = runner.wait(receipt, 2 * DEADLINE)
        expected = (JobState.DEAD, -signal.SIGTERM, f"took longer than {seconds:g} seconds")
        assert (job.state, job.exit_status, job.reason) == expected
        if whole_lines(child):
            break
    wait_until(lambda: not alive(int(wait_for_line(child))))


def test_attempts(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """A failing job gets all its attempts, with the same directories, and succeeds if one attempt succeeds."""
    count = "import os, sys; n = len(os.listdir(sys.argv[2])); open(f'{sys.argv[2]}/{n}', 'w')\n"
    with make(count + "sys.exit(n < 3)", attempts=3) as runner:
        job_id = runner.accept(body()).job_id
        assert job_id is not None
        job = runner.wait(job_id, DEADLINE)
        assert (job.state, job.attempts, job.exit_status) == (JobState.SUCCEEDED, 3, 0)
        assert sorted(os.listdir(runner.directory(job_id).destination)) == ["1", "2", "3", "uploads"]  # noqa: PTH208
    with make("raise SystemExit(1)", attempts=2, name="other") as runner:
        job_id = runner.accept(body(2)).job_id
        assert job_id is not None
        job = runner.wait(job_id, DEADLINE)
        assert (job.state, job.attempts) == (JobState.DEAD, 2)


def test_verdicts(make: Callable[..., JobRunner]) -> None:
    """Only a new notification that matches, and that does not announce our own upload, is run."""
    own = {"destinationTable": "TransactionKeyValue", "key": PROVENANCE_KEY, "value": "mine"}
    other = own | {"value": "other"}
    with make("", filter=Filter('$["data"][*]["key"]')) as runner:
        verdicts = [
            runner.accept(each).verdict for each in (body(1), body(2, own), body(3, other), body(3, other), body(4, {}))
        ]
    assert verdicts == [Verdict.UNMATCHED, Verdict.OWN, Verdict.MATCHED, Verdict.DUPLICATE, Verdict.UNMATCHED]


def test_filter_that_fails(make: Callable[..., JobRunner]) -> None:
    """A notification on which the filter fails is kept, recorded as undecidable, and runs nothing."""
    with make("", filter=FailingFilter()) as runner:
        receipt = runner.accept(body(1, {}))
        assert (receipt.verdict, receipt.job_id) == (Verdict.UNDECIDABLE, None)


def test_what_is_no_notification(make: Callable[..., JobRunner]) -> None:
    """A body that is not a notification is set aside with the reason, and runs nothing."""
    with make("") as runner:
        receipts = [runner.accept(each) for each in (b"[]", b"[", b"")]
        assert [receipt.verdict for receipt in receipts] == [Verdict.MALFORMED, Verdict.UNREADABLE, Verdict.UNREADABLE]
        assert all(receipt.reason and receipt.job_id is None for receipt in receipts)
        assert sum(runner.count_jobs().values()) == 0


@pytest.fixture
def slow(make: Callable[..., JobRunner], tmp_path: Path) -> Iterator[tuple[Callable[..., JobRunner], Path]]:
    """Make a runner whose entry-point creates a file when it runs, and ends when another file appears."""
    source = f"""
import os, pathlib, time
pathlib.Path({str(tmp_path / "running")!r}).write_text(f"{{os.getpid()}}\\n")
while not os.path.exists({str(tmp_path / "end")!r}):
    time.sleep(0.01)
"""
    yield lambda **arguments: make(source, **arguments), tmp_path


def test_stop_hands_running_jobs_back(slow: tuple[Callable[..., JobRunner], Path]) -> None:
    """A job that outlasts the grace period is ended, queued again without counting, and run at the next start."""
    make_slow, path = slow
    with make_slow(grace=0.1) as runner:
        runner.accept(body())
        pid = int(wait_for_line(path / "running"))
    assert not alive(pid)
    (path / "end").touch()
    with make_slow() as runner:
        job = runner.wait(1, DEADLINE)
    assert (job.state, job.attempts) == (JobState.SUCCEEDED, 1)


def test_stop_waits_for_running_jobs(slow: tuple[Callable[..., JobRunner], Path]) -> None:
    """A job that ends within the grace period is not interrupted."""
    make_slow, path = slow
    with make_slow(grace=DEADLINE) as runner:
        runner.accept(body())
        wait_for_line(path / "running")
        threading.Timer(0.2, (path / "end").touch).start()
    with make_slow() as runner:
        assert runner.job(1).state is JobState.SUCCEEDED


def test_job_that_ends_well_while_it_is_stopped(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """A job that exits with status 0 after it was asked to stop has succeeded, and is not run again."""
    source = f"""
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
pathlib.Path({str(tmp_path / "running")!r}).write_text("x\\n")
time.sleep(100)
"""
    with make(source) as runner:
        runner.accept(body())
        wait_for_line(tmp_path / "running")
    with make(source) as runner:
        assert (runner.job(1).state, runner.job(1).exit_status) == (JobState.SUCCEEDED, 0)


def test_result_outlasts_a_fault_of_the_ledger(
    slow: tuple[Callable[..., JobRunner], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result that cannot be written at once is written later, and the job is not run twice."""
    make_slow, path = slow
    monkeypatch.setattr(workers, "_PAUSE_AFTER_FAULT", 0.01)
    with make_slow() as runner:
        runner.accept(body())
        wait_for_line(path / "running")
        ledger, faults = runner.ledger, iter([StateError("full"), StateError("full")])
        end_attempt = ledger.end_attempt

        def faulty(*arguments: Any, **facts: Any) -> None:
            if fault := next(faults, None):
                raise fault
            end_attempt(*arguments, **facts)

        monkeypatch.setattr(ledger, "end_attempt", faulty)
        (path / "end").touch()
        job = runner.wait(1, DEADLINE)
    assert (job.state, job.attempts) == (JobState.SUCCEEDED, 1)


def test_lost_notification_holds_up_no_other_job(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """A job whose notification cannot be read waits until it can be read again; other jobs run meanwhile."""
    large = json.dumps({"source": "here", "eventID": "large", "filler": "x" * 100_000}).encode()
    with make("import sys; sys.exit(1)", workers=1) as runner:
        runner.accept(large)
        runner.wait(1, DEADLINE)
    (file,) = (tmp_path / "state" / "notifications").iterdir()
    saved = file.rename(tmp_path / "saved")
    with make("", workers=1) as runner, pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "_PAUSE_AFTER_FAULT", 0.01)
        patch.setattr(workers, "_LONGEST_IDLE", 0.01)
        patch.setattr(ledger_module, "_PUT_OFF", 0.2)
        assert runner.requeue(1)
        job_id = runner.accept(body(2)).job_id
        assert job_id is not None
        assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED
        wait_until(lambda: "No such file or directory" in runner.job(1).reason)
        saved.rename(file)
        job = runner.wait(1, DEADLINE)
        assert (job.state, job.attempts, job.reason) == (JobState.SUCCEEDED, 1, "")


def test_waiting_takes_no_wakeup_from_the_workers(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """A notification wakes an idle worker, however many threads wait for jobs to end."""
    end = str(tmp_path / "end")
    source = f"""
import os, sys, time
while "1" in sys.argv[1].split("/") and not os.path.exists({end!r}):
    time.sleep(0.01)
"""
    with make(source, filter=Filter('$["data"][*]["go"]')) as runner:
        go = {"go": True}
        runner.accept(body(1, go))
        waiting = threading.Thread(target=runner.wait, args=(1, DEADLINE))
        waiting.start()
        runner.accept(body(2))
        job_id = runner.accept(body(3, go)).job_id
        assert job_id is not None
        assert runner.wait(job_id, DEADLINE).state is JobState.SUCCEEDED
        Path(end).touch()
        waiting.join()


def test_halt_cuts_the_grace_short(slow: tuple[Callable[..., JobRunner], Path]) -> None:
    """`halt` cuts the grace period short."""
    make_slow, path = slow
    with make_slow(grace=1000.0) as runner:
        runner.accept(body())
        wait_for_line(path / "running")
        runner.halt()
    with make_slow() as runner:
        assert runner.job(1).attempts == 0
        (path / "end").touch()


def test_workers_run_side_by_side(make: Callable[..., JobRunner], tmp_path: Path) -> None:
    """Two workers run two jobs at the same time: each waits for the other."""
    source = f"""
import os, sys, time
open({str(tmp_path)!r} + "/at-" + sys.argv[1].split("/")[-2], "w")
while not all(os.path.exists({str(tmp_path)!r} + f"/at-{{n}}") for n in (1, 2)):
    time.sleep(0.01)
"""
    with make(source, workers=2) as runner:
        jobs = [runner.accept(body(number)).job_id for number in (1, 2)]
        assert [runner.wait(job, DEADLINE).state for job in jobs if job] == [JobState.SUCCEEDED] * 2


def test_waiting(make: Callable[..., JobRunner]) -> None:
    """Waiting for an unknown job, or for one that does not end, raises an error."""
    with make("import time; time.sleep(100)") as runner:
        with pytest.raises(KeyError):
            runner.wait(1)
        runner.accept(body())
        with pytest.raises(TimeoutError, match="job 1 has not ended"):
            runner.wait(1, 0.01)


def test_waiting_by_receipt(make: Callable[..., JobRunner]) -> None:
    """A receipt can be waited for; a receipt without a job raises an error with its verdict and reason."""
    with make("", filter=Filter('$["data"][*]["mimetype"]')) as runner:
        matched = runner.accept(body(1, {"mimetype": "text/plain"}))
        assert runner.wait(matched, DEADLINE).id == matched.job_id
        with pytest.raises(NotificationError, match="notification 2 has no job, because it is unmatched; wait"):
            runner.wait(runner.accept(body(2)))
        with pytest.raises(NotificationError, match=r"notification 3 has no job, because it is unreadable: .*JSON"):
            runner.wait(runner.accept(b"hello"))


def test_state_directory_in_use(make: Callable[..., JobRunner]) -> None:
    """A second runner on the same state directory is refused, and the first goes on."""
    with make("") as runner:
        with pytest.raises(StateError, match="in use by mine"), make("", name="other"):
            pass
        assert runner.accept(body()).job_id == 1
