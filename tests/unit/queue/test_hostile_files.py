"""An entry-point that puts links, pipes, sockets, devices or directories in the place of its job's files gains nothing.

The runner neither waits for such a file, nor reads or writes anything through it.
"""

import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.engines.celery.reporter import ReportedAttempt
from pacifica_notifications_consumer.engines.warm import start as warm_start
from pacifica_notifications_consumer.jobs.directory import JobDirectory
from pacifica_notifications_consumer.jobs.job import Job, JobState
from pacifica_notifications_consumer.jobs.unsent import describe_unsent
from pacifica_notifications_runner.status.api.api import Api
from tests.support.machine.waiting import DEADLINE, wait_for_line
from tests.support.runner_tools import WAYS, body, make_runner

KINDS = ("link", "pipe", "socket", "device", "directory")
PLACES = (
    "output.log",
    "output.position",
    "progress/progress.json",
    "progress/failure.txt",
    "incoming/notification.json",
    "outgoing/upload-1.jsonl",
    "progress",
    "outgoing",
)
SECRET = '{"sent": 7}\n'
#: Replaces a file of its job as its notification says, and ends or waits.
HOSTILE = """
import json, os, shutil, socket, stat, sys, time
place = os.path.dirname(sys.argv[1])
elsewhere = os.path.join(place, "../../../elsewhere")
row = json.load(open(os.path.join(elsewhere, os.path.basename(place) + ".json")))
os.chdir(place)
path, kind = row["path"], row["kind"]
if os.path.isdir(path):
    shutil.rmtree(path)
elif os.path.lexists(path):
    os.unlink(path)
os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
if kind == "link":
    os.symlink(elsewhere if path in ("progress", "outgoing") else os.path.join(elsewhere, "secret"), path)
elif kind == "pipe":
    os.mkfifo(path)
elif kind == "socket":
    socket.socket(socket.AF_UNIX).bind(path)
elif kind == "device":
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    except PermissionError:
        os.symlink("/dev/zero", path)
else:
    os.makedirs(os.path.join(path, "full"))
open(os.path.join(elsewhere, os.path.basename(place) + ".done"), "w").write("done\\n")
while row["waits"]:
    time.sleep(0.01)
sys.exit(1)
"""


@pytest.fixture(params=WAYS)
def make(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], JobRunner]:
    """Make a runner of the hostile entry-point, and files that its links lead to."""
    monkeypatch.setattr(warm_start, "DOCUMENTED", ())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("secret", "progress.json", "failure.txt", "upload-2.jsonl", "notification.json"):
        (elsewhere / name).write_text(SECRET)
    return lambda: make_runner(tmp_path, HOSTILE, way=request.param, attempts=2, output_limit=8192)


def run(runner: JobRunner, tmp_path: Path, path: str, kind: str, *, waits: bool = False) -> int:
    """Queue a job that replaces a file."""
    number = len(runner.jobs(1000)) + 1
    (tmp_path / "elsewhere" / f"{number}.json").write_text(json.dumps({"path": path, "kind": kind, "waits": waits}))
    assert runner.accept(body(number)).job_id == number
    return number


def secrets(tmp_path: Path) -> set[str]:
    """The contents of the files that the links lead to."""
    names = ("secret", "progress.json", "failure.txt", "upload-2.jsonl", "notification.json")
    return {(tmp_path / "elsewhere" / name).read_text() for name in names}


def test_jobs_end_whatever_they_put_in_the_place_of_their_files(make: Callable[[], JobRunner], tmp_path: Path) -> None:
    """Both attempts end, their reasons and logs have nothing from elsewhere, and nothing there is changed."""
    with make() as runner:
        jobs = {run(runner, tmp_path, path, kind): (path, kind) for path in PLACES for kind in KINDS}
        for number, replaced in jobs.items():
            job: Job = runner.wait(number, DEADLINE)
            assert job.state is JobState.DEAD, replaced
            assert "sent" not in job.reason + job.ending.output_tail, replaced
            assert b"sent" not in b"".join(Api(runner).log(number).pieces or ()), replaced
            assert b"sent" not in b"".join(Api(runner).log(number, follow=True).pieces or ()), replaced
            assert "secret" not in [file["path"] for file in Api(runner).files(number)["files"]], replaced
            describe_unsent(runner.directory(number))
        assert runner.alive
    assert secrets(tmp_path) == {SECRET}


def test_such_a_job_can_be_cancelled(make: Callable[[], JobRunner], tmp_path: Path) -> None:
    """A job whose output file has become a pipe is cancelled as any other, and the runner can stop."""
    with make() as runner:
        first, second = (run(runner, tmp_path, path, "pipe", waits=True) for path in ("output.log", "progress"))
        for number in (first, second):
            wait_for_line(tmp_path / "elsewhere" / f"{number}.done")
        assert runner.cancel(first)
        assert runner.wait(first, DEADLINE).state is JobState.CANCELLED
    assert runner.alive is False


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_worker_goes_on_reporting(tmp_path: Path, kind: str) -> None:
    """The heartbeats of a worker's jobs do not wait for the pipe of one of them."""
    directory = JobDirectory(tmp_path / "1")
    directory.make()
    (tmp_path / "secret").write_text(SECRET)
    for path in (directory.output, directory.progress):
        os.mkfifo(path) if kind == "pipe" else path.symlink_to(tmp_path / "secret")
    assert ReportedAttempt("1.a", directory, 0.0).news() is None


def test_records_of_uploads_are_read_up_to_a_limit(tmp_path: Path) -> None:
    """A record of a terabyte does not keep a job from ending, and the end of a record counts."""
    directory = JobDirectory(tmp_path / "1")
    directory.prepare(b"{}", [])
    (directory.destination / "uploads" / "left").touch()
    record = directory.destination / "upload-1.jsonl"
    with record.open("wb") as file:
        file.truncate(1 << 40)
    assert describe_unsent(directory)
    record.write_text('{"sending": 1}\n{"rows": []}\n{"sent": 1}\n{"job_id": 3}\n')
    assert describe_unsent(directory) == ""


def test_folders_in_each_other(tmp_path: Path) -> None:
    """More folders in each other than Python allows calls do not keep a job from ending."""
    directory = JobDirectory(tmp_path / "1")
    directory.prepare(b"{}", [])
    (directory.destination / "left").touch()
    (directory.destination / "/".join(["a"] * 200)).mkdir(parents=True)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        assert describe_unsent(directory) == "1 file lies beside uploads/, none was uploaded"
    finally:
        sys.setrecursionlimit(limit)
