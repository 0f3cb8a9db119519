"""The common test suite of all engines: entry-points have the same environment and results on each engine."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.jobs.limits import JobLimits
from pacifica_notifications_consumer.streams.progress import Progress
from tests.engines.beds import DEADLINE, Bed, accept, body, notes, pids
from tests.support.machine.waiting import wait_for_line, wait_until, whole_lines
from tests.support.runner_tools import alive, run_in_child

WAIT = """
import time
while not os.path.exists(place + "/end"):
    time.sleep(0.02)
"""


def run_one(bed: Bed, path: Path, source: str, **arguments: Any) -> Any:
    with bed.runner(path, **arguments) as runner:
        return runner.wait(accept(runner, path, source), DEADLINE)


REPORT = """
json.dump({"argv": sys.argv, "cwd": os.getcwd(), "path": sys.path[0], "env": dict(os.environ), "name": __name__,
           "session": os.getsid(0) == os.getpid(), "stdin": sys.stdin.read()}, open(place + "/report", "w"))
print("said", file=sys.stderr)
"""


def test_contract(bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry-point runs as `python __main__.py SRC DST` in its own directory and session, with Pacifica's URLs."""
    monkeypatch.setenv("PACIFICA_SECRET_OF_THE_RUNNER", "x")
    row = {"destinationTable": "Files", "subdir": "a/b"}
    event = {"source": "here", "eventID": "e.1", "data": {"source": REPORT, "place": str(tmp_path)}}
    rows = json.dumps(event | {"more": [row]}).encode()
    with bed.runner(tmp_path, name="the consumer") as runner:
        job_id = runner.accept(rows).job_id
        assert job_id is not None
        job = runner.wait(job_id, DEADLINE)
        directory = bed.directory(runner, job)
        shown = runner.directory(job_id).output.read_text()
    assert (job.state, job.exit_status) == (JobState.SUCCEEDED, 0)
    report = json.loads((tmp_path / "report").read_text())
    assert report["argv"][1:] == [str(directory.source), str(directory.destination)]
    assert (report["cwd"], report["path"]) == (str(Path(report["argv"][0]).parent),) * 2
    assert (report["name"], report["stdin"], report["session"]) == ("__main__", "", True)
    expected = {
        "PACIFICA_CARTD_URL": "http://cartd:1",
        "PACIFICA_USERNAME": "worker",
        "PACIFICA_PASSWORD": "of the worker",
        "PACIFICA_CONSUMER": "the consumer",
    }
    assert expected.items() <= report["env"].items()
    assert "PACIFICA_SECRET_OF_THE_RUNNER" not in report["env"]
    assert (directory.source / "notification.json").read_bytes() == rows
    assert (directory.source / "downloads").is_dir()
    assert (directory.destination / "uploads").is_dir()
    assert directory.output.read_text() == shown == "said\n"


def test_notification_byte_for_byte(bed: Bed, tmp_path: Path) -> None:
    """A large notification arrives byte for byte as it was received, with its spaces and escapes."""
    source = "import hashlib; print(hashlib.sha256(open(sys.argv[1] + '/notification.json', 'rb').read()).hexdigest())"
    data = json.dumps({"source": source, "place": str(tmp_path)})
    padding = "ä€\U0001f600" * 200_000 + "\\u00e4"
    text = f'{{ "source":"here" ,\n\t"eventID":"e.1","data":{data},"padding":"{padding}" }}\n'
    with bed.runner(tmp_path) as runner:
        job_id = runner.accept(text.encode()).job_id
        assert job_id is not None
        job = runner.wait(job_id, DEADLINE)
    assert job.ending.output_tail == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", (JobState.SUCCEEDED, 0, "")),
        (
            "open(sys.argv[2] + '/a', 'w')",
            (JobState.SUCCEEDED, 0, "1 file lies beside uploads/, none was uploaded"),
        ),
        ("raise SystemExit(3)", (JobState.DEAD, 3, "exit status 3")),
        ("1/0", (JobState.DEAD, 1, "exit status 1")),
        (
            "from pacifica_notifications_consumer import upload; upload(place + '/no', {}).get()",
            (JobState.DEAD, 1, "exit status 1: the attributes of the new transaction lack"),
        ),
        ("os.kill(os.getpid(), 9)", (JobState.DEAD, -9, "signal 9 (Killed)")),
        ("import signal; signal.raise_signal(signal.SIGTERM)", (JobState.DEAD, -15, "signal 15 (Terminated)")),
    ],
)
def test_endings(bed: Bed, tmp_path: Path, source: str, expected: tuple[JobState, int | None, str]) -> None:
    """The exit status of the entry-point determines the state of the job, and is recorded."""
    job = run_one(bed, tmp_path, source)
    assert (job.state, job.exit_status, job.reason.partition(" Transactions.")[0]) == expected
    assert (job.attempts, job.crashes, job.deferrals) == (1, 0, 0)


def test_what_a_dead_job_leaves(bed: Bed, tmp_path: Path) -> None:
    """A dead job is kept with reason, duration, processor time, memory and the end of its output."""
    source = """
import time
x = bytearray(80 << 20)
until = time.process_time() + 0.1
while time.process_time() < until:
    pass
raise ValueError("this is why")
"""
    job = run_one(bed, tmp_path, source)
    assert (job.state, job.reason) == (JobState.DEAD, "exit status 1")
    assert job.ending.output_tail.endswith("ValueError: this is why")
    assert 0.1 <= job.ending.cpu_seconds < DEADLINE
    # A process that starts cold counts the memory of the one that started it, too.
    assert 80 << 20 < job.ending.peak_memory < 80 << 30
    assert 0.1 <= job.seconds < DEADLINE


def test_progress_and_output_while_it_runs(bed: Bed, tmp_path: Path) -> None:
    """The progress and the output of a job can be read while it runs, and afterwards."""
    source = f"""
from pacifica_notifications_consumer.streams.progress import TransferMeter
print("first", flush=True)
with TransferMeter("download", 10, 2, None) as meter:
    meter.advance(5, files=1)
    import time
    while not os.path.exists({str(tmp_path / "end")!r}):
        time.sleep(0.02)
        meter.advance(0)
    meter.advance(5, files=1)
print("last")
"""
    with bed.runner(tmp_path) as runner:
        job_id = accept(runner, tmp_path, source)
        half = {"download": Progress(bytes_done=5, bytes_total=10, files_done=1, files_total=2)}
        wait_until(lambda: runner.job(job_id).progress == half)
        output = runner.directory(job_id).output
        wait_until(lambda: output.exists() and output.read_text() == "first\n")
        (tmp_path / "end").touch()
        job = runner.wait(job_id, DEADLINE)
        assert output.read_text() == "first\nlast\n"
    assert job.progress == {"download": Progress(bytes_done=10, bytes_total=10, files_done=2, files_total=2)}


def test_timeout_ends_all_its_processes(bed: Bed, tmp_path: Path) -> None:
    """An entry-point that exceeds its timeout is ended with its children, even if these ignore SIGTERM."""
    source = f"""
import signal, time
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open({str(tmp_path / "child")!r}, "w").write(f"{{os.getpid()}}\\n")
    time.sleep(100)
time.sleep(100)
"""
    for number, seconds in enumerate((0.6, 6.0, 50.0), 1):
        with bed.runner(tmp_path, timeout=seconds) as runner:
            job = runner.wait(accept(runner, tmp_path, source, number), 2 * DEADLINE)
        assert (job.state, job.reason) == (JobState.DEAD, f"took longer than {seconds:g} seconds")
        if whole_lines(tmp_path / "child"):
            break
    assert not any(map(alive, pids(tmp_path)))
    assert not alive(int(wait_for_line(tmp_path / "child")))


def test_daemons_end_with_the_job(bed: Bed, tmp_path: Path) -> None:
    """No process that an entry-point starts outlives its attempt."""
    source = """
import time
if os.fork() == 0:
    os.setsid()
    open(place + "/daemon", "w").write(f"{os.getpid()}\\n")
    time.sleep(100)
while not os.path.exists(place + "/daemon") or not open(place + "/daemon").read().endswith("\\n"):
    time.sleep(0.01)
"""
    assert run_one(bed, tmp_path, source).state is JobState.SUCCEEDED
    assert not alive(int((tmp_path / "daemon").read_text()))


def test_attempts(bed: Bed, tmp_path: Path) -> None:
    """A failing job gets all its attempts, and succeeds if one attempt succeeds."""
    source = "sys.exit(open(place + '/notes').read().count('begin') < 3)"
    job = run_one(bed, tmp_path, source, attempts=3)
    assert (job.state, job.attempts, job.exit_status) == (JobState.SUCCEEDED, 3, 0)
    assert notes(tmp_path)["begin"] == 3


def test_trying_again_later(bed: Bed, tmp_path: Path) -> None:
    """Exit status 75 always leads to another attempt, and does not count as a failure."""
    source = "sys.exit(75 if open(place + '/notes').read().count('begin') < 3 else 0)"
    job = run_one(bed, tmp_path, source)
    assert (job.state, job.attempts, job.deferrals) == (JobState.SUCCEEDED, 1, 2)


def test_cancelling(bed: Bed, tmp_path: Path) -> None:
    """Cancelling ends a running job's processes and keeps a waiting job from starting; both can be queued again."""
    with bed.runner(tmp_path, workers=1) as runner:
        running, waiting = accept(runner, tmp_path, WAIT, 1), accept(runner, tmp_path, WAIT, 2)
        wait_until(lambda: bool(pids(tmp_path)))
        assert runner.cancel(waiting, "not needed")
        assert runner.cancel(running)
        for job_id, reason in ((running, "cancelled"), (waiting, "not needed")):
            job = runner.wait(job_id, DEADLINE)
            assert (job.state, job.reason, job.attempts) == (JobState.CANCELLED, reason, 0)
        assert not alive(pids(tmp_path)[0])
        assert not runner.cancel(running)
        assert len(pids(tmp_path)) == 1
        (tmp_path / "end").touch()
        assert runner.requeue(running)
        assert runner.wait(running, DEADLINE).state is JobState.SUCCEEDED


def test_jobs_run_side_by_side(bed: Bed, tmp_path: Path) -> None:
    """Two jobs run at the same time: each waits for the other."""
    source = """
import time
open(f"{place}/at-{event['eventID']}", "w")
while not all(os.path.exists(f"{place}/at-e.{n}") for n in (1, 2)):
    time.sleep(0.01)
"""
    with bed.runner(tmp_path, workers=2) as runner:
        jobs = [accept(runner, tmp_path, source, number) for number in (1, 2)]
        assert [runner.wait(job, DEADLINE).state for job in jobs] == [JobState.SUCCEEDED] * 2


def test_many_jobs(bed: Bed, tmp_path: Path) -> None:
    """Each of many jobs is run once."""
    with bed.runner(tmp_path, workers=4) as runner:
        jobs = [accept(runner, tmp_path, "", number) for number in range(30)]
        assert {runner.wait(job, DEADLINE).state for job in jobs} == {JobState.SUCCEEDED}
    assert notes(tmp_path) == {"begin": 30, "end": 30}


def test_trace(bed: Bed, tmp_path: Path) -> None:
    """The entry-point's TRACEPARENT belongs to the trace of its notification."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    source = "print(os.environ['TRACEPARENT'])"
    with bed.runner(tmp_path) as runner:
        [receipt] = runner.accept_all([body(tmp_path, source)], [f"00-{trace}-00f067aa0ba902b7-01"])
        assert receipt.job_id is not None
        job = runner.wait(receipt.job_id, DEADLINE)
    assert job.ending.output_tail.startswith(f"00-{trace}-")


def test_output_limit(bed: Bed, tmp_path: Path) -> None:
    """The beginning and the end of a large output are kept on the machine where the entry-point ran."""
    source = "print('first')\nfor n in range(100_000): print('x' * 99)\nprint('last')"
    with bed.runner(tmp_path, output_limit=10_000) as runner:
        job = runner.wait(accept(runner, tmp_path, source), DEADLINE)
        kept = bed.directory(runner, job).output.read_text()
        here = runner.directory(job.id).output.read_text()
    assert kept.startswith("first\nx")
    assert kept.endswith("x\nlast\n")
    assert len(kept) < 11_000
    assert here.endswith("x\nlast\n")
    assert len(here) < 16_000
    assert job.ending.output_tail.endswith("last")


@pytest.mark.parametrize(
    ("limits", "source", "expected"),
    [
        (JobLimits(memory=200 << 20), "x = bytearray(400 << 20)", (1, "MemoryError")),
        (JobLimits(memory=200 << 20), "x = bytearray(50 << 20)", (0, "")),
        (JobLimits(cpu=1), "while True: pass", (-signal.SIGXCPU, "")),
        (
            JobLimits(file_size=1000),
            "with open(sys.argv[2] + '/f', 'wb') as f: f.write(b'x' * 1001)",
            (1, "File too large"),
        ),
        (JobLimits(file_size=1000), "with open(sys.argv[2] + '/f', 'wb') as f: f.write(b'x' * 1000)", (0, "")),
    ],
)
def test_limits(bed: Bed, tmp_path: Path, limits: JobLimits, source: str, expected: tuple[int, str]) -> None:
    """A job cannot exceed its limits of memory, processor time and file size."""
    job = run_one(bed, tmp_path, source, limits=limits)
    assert (job.exit_status, expected[1] in job.ending.output_tail) == (expected[0], True)


def test_stopping_the_runner(bed: Bed, tmp_path: Path) -> None:
    """A job that runs when the runner stops is queued again, not counted; on another machine it goes on running."""
    with bed.runner(tmp_path) as runner:
        job_id = accept(runner, tmp_path, WAIT)
        wait_until(lambda: bool(pids(tmp_path)) and (not bed.remote or runner.job(job_id).place is not None))
    assert alive(pids(tmp_path)[0]) is bed.remote
    (tmp_path / "end").touch()
    with bed.runner(tmp_path) as runner:
        job = runner.wait(job_id, DEADLINE)
    assert (job.state, job.attempts, job.crashes) == (JobState.SUCCEEDED, 1, 0)
    assert notes(tmp_path)["begin"] == (1 if bed.remote else 2)


def test_killing_the_runner(bed: Bed, tmp_path: Path) -> None:
    """The next start ends and reruns the jobs of a killed runner; it waits for those on other machines."""
    if bed.make() is not None and not bed.remote:
        pytest.skip("an executor's processes are children of the runner, and cannot be forked")

    def run_and_die() -> None:
        with bed.runner(tmp_path) as runner:
            accept(runner, tmp_path, WAIT)
            wait_until(lambda: bool(pids(tmp_path)))
            os.kill(os.getpid(), signal.SIGKILL)

    assert run_in_child(run_and_die) == -signal.SIGKILL
    first = pids(tmp_path)[0]
    assert alive(first)
    with bed.runner(tmp_path) as runner:
        wait_until(lambda: bed.remote or not alive(first))
        (tmp_path / "end").touch()
        job = runner.wait(1, DEADLINE)
    assert (job.state, job.attempts, job.crashes) == (JobState.SUCCEEDED, 1, 0 if bed.remote else 1)
    assert notes(tmp_path)["begin"] == (1 if bed.remote else 2)


def test_result_of_a_job_that_ended_while_nobody_waited(bed: Bed, tmp_path: Path) -> None:
    """A job that ended on another machine while the runner was stopped is not run again."""
    if not bed.remote:
        pytest.skip("nothing goes on without a runner")
    with bed.runner(tmp_path) as runner:
        job_id = accept(runner, tmp_path, WAIT + "print('the result')\nsys.exit(7)")
        wait_until(lambda: bool(pids(tmp_path)))
    (tmp_path / "end").touch()
    wait_until(lambda: not alive(pids(tmp_path)[0]))
    time.sleep(0.5)
    with bed.runner(tmp_path) as runner:
        job = runner.wait(job_id, DEADLINE)
        assert runner.directory(job_id).output.read_text() == "the result\n"
    assert (job.state, job.exit_status, job.attempts) == (JobState.DEAD, 7, 1)
    assert notes(tmp_path)["begin"] == 1
