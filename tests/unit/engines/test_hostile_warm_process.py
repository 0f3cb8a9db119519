"""A warm process that lies: the runner believes nothing of what the user's side says about other processes."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.engines.warm import start as warm_start
from pacifica_notifications_consumer.engines.warm.messages import open_channel, receive
from pacifica_notifications_consumer.environment.venv import Venv
from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.system.account import CURRENT_USER, Account
from pacifica_notifications_consumer.system.processes import ProcessLost
from tests.support.machine.other_user import NOBODY, as_root, python_for_all
from tests.support.machine.scratch import scratch_directory
from tests.support.machine.waiting import DEADLINE, wait_for_line
from tests.support.runner_tools import accept, alive, make_runner
from tests.unit.engines.test_warm_start import warm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a warm start needs Linux")

#: Is imported by the warm process: replaces what it sends to the runner.
LIAR = """
import os, socket, struct, subprocess
send = os.write
def lie(handle, data):
    if data.startswith({subject!r}):
        {lie}
    return send(handle, data)
os.write = lie
"""
WAITS = "import os, sys, time; open(sys.argv[2] + '/pid', 'w').write(f'{os.getpid()}\\n'); time.sleep(1000)"


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of ours that all users can reach."""
    monkeypatch.setattr(warm_start, "DOCUMENTED", ())
    with scratch_directory(mode=0o711) as directory:
        yield directory


@pytest.fixture
def make(place: Path) -> Callable[..., JobRunner]:
    def make_liar(source: str, lie: str = "", subject: bytes = b"started", **arguments: object) -> JobRunner:
        consumer = place / "consumer"
        consumer.mkdir()
        (consumer / "liar.py").write_text(LIAR.format(subject=subject, lie=lie or "pass"))
        return make_runner(place, source, way="warm", preload=["liar"], **arguments)

    return make_liar


@contextlib.contextmanager
def entered(runner: JobRunner) -> Iterator[JobRunner]:
    """A runner that does not wait for its warm process."""
    JobRunner.__enter__(runner)
    try:
        yield runner
    finally:
        runner.__exit__()


@pytest.fixture
def as_nobody(place: Path) -> dict[str, object]:
    """The arguments of a runner whose entry-points run as another user, in something like an environment."""
    (place / "venv" / "bin").mkdir(parents=True)
    (place / "venv" / "bin" / "python").symlink_to(python_for_all())
    return {"venv": Venv(place / "venv"), "run_as": NOBODY}


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours that has nothing to do with the consumer."""
    process = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


#: How the warm process may try to pass a stranger off as its child.
PASSED_OFF = [
    "data = b'started {stranger}'",
    # The kernel lets only root name another process as the sender.
    """try:
            socket.socket(fileno=os.dup(handle)).sendmsg(
                [b"started"], [(1, 2, struct.pack("=iII", {stranger}, os.getuid(), os.getgid()))])
        except PermissionError:
            pass""",
]


@as_root
@pytest.mark.parametrize("lie", PASSED_OFF)
def test_stranger_as_the_child(
    make: Callable[..., JobRunner], as_nobody: dict[str, object], stranger: subprocess.Popen[bytes], lie: str
) -> None:
    """A warm process that tells a stranger's number instead of its child's does not have root end the stranger."""
    with make(WAITS, lie.format(stranger=stranger.pid), timeout=0.2, crash_limit=0, **as_nobody) as runner:
        job = runner.wait(accept(runner), DEADLINE)
        assert job.state is JobState.DEAD
        assert stranger.poll() is None


@as_root
def test_child_of_another_user_is_ended(make: Callable[..., JobRunner], as_nobody: dict[str, object]) -> None:
    """The children of an honest warm process are ended as ever when their time is up, with the user's rights."""
    with make(WAITS, timeout=0.5, **as_nobody) as runner:
        for number in (1, 2):
            job = runner.wait(accept(runner, number), DEADLINE)
            assert job.reason == "took longer than 0.5 seconds"
        assert warm(runner).ready


@as_root
def test_signals_have_the_rights_of_the_user(
    stranger: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if a stranger were taken for the child, root's rights would not reach it."""
    monkeypatch.setattr(warm_start, "_PATIENCE", 0.5)
    ours, theirs = open_channel()
    with theirs, pytest.raises(ProcessLost, match="does not say how the attempt ended"):
        warm_start._WarmChild(ours, stranger.pid, os.getpid(), Account.find(NOBODY)).end(0.0)
    assert stranger.poll() is None


@pytest.mark.parametrize("subject", ["started", "ended"])
def test_malformed_message(make: Callable[..., JobRunner], caplog: pytest.LogCaptureFixture, subject: str) -> None:
    """A message that cannot be true is a crash of the attempt, with a line in the log; the next attempt is tried."""
    lie = f"""if not os.path.exists("lied"):
            open("lied", "w").close()
            data = b"{subject} 0 nan 7\\xff" """
    with caplog.at_level(logging.WARNING), make("", lie, subject.encode(), crash_limit=1) as runner:
        job = runner.wait(accept(runner), DEADLINE)
        assert (job.state, job.crashes) == (JobState.SUCCEEDED, 1)
        assert runner.alive
    (said,) = [message for message in caplog.messages if message.startswith("job 1: the warm process has sent")]
    assert f"b'{subject} 0 nan 7\\xff'" in said


def test_malformed_ready(make: Callable[..., JobRunner], caplog: pytest.LogCaptureFixture) -> None:
    """A warm process whose first report cannot be true is ended, and entry-points start cold."""
    liar = make("import os; print(os.getppid())", "data = b'ready 0x7'", b"ready")
    with caplog.at_level(logging.WARNING), entered(liar) as runner:
        assert not warm(runner).wait(DEADLINE)
        job = runner.wait(accept(runner), DEADLINE)
        assert runner.directory(job.id).output.read_text() == f"{os.getpid()}\n"
    assert "entry-points start cold" in caplog.text
    assert "b'ready 0x7'" in caplog.text


#: Says nothing, and leaves a program that holds the other end of the control socket open.
SILENT = """program = subprocess.Popen(["/bin/sleep", "1000"], close_fds=False, start_new_session=True)
        open("silent", "w").write(str(program.pid) + "\\n")
        __import__("time").sleep(1000)"""


def test_never_ready(make: Callable[..., JobRunner], place: Path) -> None:
    """A warm process that never reports, and leaves its socket to a program, does not keep the runner from ending."""
    with entered(make("", SILENT, b"ready")) as runner:
        program = int(wait_for_line(place / "consumer" / "silent"))
    try:
        assert not warm(runner).ready
        assert alive(program)
    finally:
        os.kill(program, signal.SIGKILL)


ENDED = b"ended 0 0.500000 7"
#: Messages that cannot be true, beside one of each subject that can.
MALFORMED = [
    b"ended",
    b"ended 0",
    b"ended 0 0.500000 7 7",
    b"ended 0 nan 7",
    b"ended 0 inf 7",
    b"ended 0 1e999 7",
    b"ended 0 -1.000000 7",
    b"ended -65 0.500000 7",
    b"ended 4991 0.500000 7",
    b"ended 0 0.500000 99999999999999999999999",
    b"ended 0 0.500000 -7",
    b"ended  0.500000 7",
    b"ended 0 0.500000 7\n",
    "ended \u0660 0.500000 7".encode(),
    b"ended 0 0.500000 7".ljust(5000),
    b"ended 0 0.500000 " + b"7" * 5000,
    b"Ended 0 0.500000 7",
    b"started",
    b"error 11",
    b"ready 1",
    b"\xff\xfe",
    b"\0",
]


@pytest.mark.parametrize("message", MALFORMED)
def test_messages_that_cannot_be_true(message: bytes) -> None:
    """A message counts only if it has the form of its subject, and the subject is the one that is due."""
    ours, theirs = open_channel()
    with ours, theirs:
        theirs.send(message)
        with pytest.raises(ProcessLost, match="has sent a message that cannot be true"):
            receive(ours, CURRENT_USER, "ended")
        # Others are not touched by it.
        theirs.send(ENDED)
        assert receive(ours, CURRENT_USER, "ended") == (os.getpid(), ENDED.decode().split())


def test_message_of_another_process() -> None:
    """The kernel says who has sent a message; that of another process than the warm one does not count."""
    ours, theirs = open_channel()
    with ours, theirs:
        script = f"import os, sys; os.write({theirs.fileno()}, {ENDED!r})"
        with subprocess.Popen([sys.executable, "-S", "-c", script], pass_fds=[theirs.fileno()]) as child:
            assert child.wait(DEADLINE) == 0
        theirs.send(ENDED)
        with pytest.raises(ProcessLost):
            receive(ours, CURRENT_USER, "ended", sender=os.getpid())
        assert receive(ours, CURRENT_USER, "ended", sender=os.getpid())[0] == os.getpid()


@as_root
def test_message_of_another_user() -> None:
    """Only the consumer's user may send messages."""
    ours, theirs = open_channel()
    with ours, theirs:
        theirs.send(ENDED)
        with pytest.raises(ProcessLost):
            receive(ours, Account.find(NOBODY), "ended")


def test_attached_descriptors() -> None:
    """Descriptors that are attached to a message do not get into the runner, and make it untrue."""
    ours, theirs = open_channel()
    with ours, theirs, Path(os.devnull).open() as file:
        before = set(Path("/proc/self/fd").iterdir())
        socket.send_fds(theirs, [ENDED], [file.fileno()] * 20)
        with pytest.raises(ProcessLost):
            receive(ours, CURRENT_USER, "ended")
        assert set(Path("/proc/self/fd").iterdir()) == before
