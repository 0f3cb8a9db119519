"""Programs run in new sessions, and are ended with their process groups."""

import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pacifica_notifications_consumer.errors import Cancelled
from pacifica_notifications_consumer.system import account
from pacifica_notifications_consumer.system.orphans import MARK_VARIABLE
from pacifica_notifications_consumer.system.processes import CompletedProgram, describe_status, run_captured
from tests.support.machine.waiting import DEADLINE, wait_until
from tests.support.runner_tools import alive


def run(script: str, tmp_path: Path, **arguments: object) -> tuple[CompletedProgram, list[str]]:
    lines: list[str] = []
    options = {"timeout": DEADLINE, "environ": dict(os.environ), "cwd": tmp_path, "on_line": lines.append}
    return run_captured(["/bin/sh", "-c", script], **(options | arguments)), lines  # type: ignore[arg-type]


@pytest.fixture(autouse=True, params=["waitid", "no waitid"])
def waitid(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS, Python has `os.waitid` only since 3.13."""
    if request.param == "no waitid":
        monkeypatch.delattr(os, "waitid", raising=False)


def test_output_and_status(tmp_path: Path) -> None:
    """Lines of both streams are passed on and kept; bytes that are not UTF-8 are replaced."""
    finished, lines = run("echo one; echo two >&2; printf 'thr\\377ee'; pwd; exit 3", tmp_path)
    assert lines == ["one", "two", f"thr\ufffdee{tmp_path}"]
    assert finished == CompletedProgram(3, False, "\n".join(lines))


def test_no_input(tmp_path: Path) -> None:
    """A program that reads its input gets the end of file, and does not wait for ever."""
    assert run("cat; echo end", tmp_path)[1] == ["end"]


def test_only_the_last_lines_are_kept(tmp_path: Path) -> None:
    """The last two hundred lines of a long output are kept."""
    finished, _ = run(f"{sys.executable} -c 'for n in range(5000): print(n)'", tmp_path)
    assert finished.output.splitlines() == [str(number) for number in range(4800, 5000)]


def test_line_without_an_end(tmp_path: Path) -> None:
    """A line that is too long for the memory comes in pieces."""
    script = "import sys\nfor _ in range(40): sys.stdout.write('x' * 100_000)"
    lines: list[str] = []
    finished = run_captured(
        [sys.executable, "-c", script], environ={}, cwd=tmp_path, timeout=DEADLINE, on_line=lines.append
    )
    assert finished.status == 0
    assert "".join(lines) == "x" * 4_000_000
    assert max(map(len, lines)) < 100_000


def test_timeout(tmp_path: Path) -> None:
    """A program that exceeds its timeout is ended, and so is its child that ignores SIGTERM."""
    for seconds in (0.5, 5.0, 50.0):
        finished, lines = run("(trap '' TERM; echo deaf; exec sleep 100) & echo $!; wait", tmp_path, timeout=seconds)
        assert finished.timed_out
        if len(lines) == 2:
            break
    (child,) = (int(line) for line in lines if line != "deaf")
    wait_until(lambda: not alive(child), "the child has ended")


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_grandchild_that_left_the_group(tmp_path: Path) -> None:
    """A background process in another session, which holds the output open, is ended with the program."""
    waiting = "until [ -e begun ]; do sleep 0.01; done"
    finished, lines = run(f"setsid sh -c 'echo $$; touch begun; exec sleep 1000' & {waiting}", tmp_path)
    assert finished.status == 0
    wait_until(lambda: not alive(int(lines[0])), "the process has ended")


def test_grandchild_that_cannot_be_found(tmp_path: Path) -> None:
    """One without a mark goes on, but does not delay the result, and what it writes is not passed on."""
    writing = "trap '' PIPE; touch begun; while echo x; do sleep 0.01; done; touch refused"
    waiting = "until [ -e begun ]; do sleep 0.01; done"
    finished, lines = run(f'exec 2>&1; env -u {MARK_VARIABLE} setsid sh -c "{writing}" & {waiting}', tmp_path)
    seen = len(lines)
    wait_until((tmp_path / "refused").exists, "its output is closed")
    assert finished.status == 0
    assert len(lines) <= seen + 1  # which was being passed on


def test_cancel(tmp_path: Path) -> None:
    """Setting the event ends the program, and raises."""
    cancel = threading.Event()

    def on_line(_: str) -> None:
        cancel.set()

    with pytest.raises(Cancelled, match="stopped while sh was running"):
        run("echo started; sleep 100", tmp_path, cancel=cancel, on_line=on_line)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Collecting x@ http://bob:word@host/x.whl", "Collecting x@ http://***@host/x.whl"),
        ("https://token@host:1/a https://host/b@c", "https://***@host:1/a https://host/b@c"),
        ("http://bob:w@rd@host", "http://***@host"),
        ("git+ssh://git@host/x.git bob@host", "git+ssh://git@host/x.git bob@host"),
    ],
)
def test_passwords_in_addresses(tmp_path: Path, line: str, shown: str) -> None:
    """The captured output of a program has no credentials in its addresses."""
    finished, lines = run(f"echo '{line}'", tmp_path)
    assert (finished.output, lines) == (shown, [shown])


def test_what_a_terminal_would_obey(tmp_path: Path) -> None:
    """A program's lines cannot be taken for others, nor do more than be read."""
    program = "printf '\\033[2Kred\\r2026 ERROR forged\\tby \\302\\233 and \\342\\200\\256\\n'"
    lines: list[str] = []
    run_captured(["/bin/sh", "-c", program], environ={}, cwd=tmp_path, timeout=DEADLINE, on_line=lines.append)
    assert lines == ["\\x1b[2Kred\\r2026 ERROR forged\tby \\x9b and \\u202e"]


def test_status_in_words() -> None:
    """An exit status and a signal are described differently."""
    assert describe_status(3) == "exit status 3"
    assert describe_status(-9) == "signal 9 (Killed)"


LOST = """
import os, signal, sys
from pathlib import Path
from pacifica_notifications_consumer.system.processes import ProcessLost, run_captured
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
try:
    print(run_captured(["/bin/sh", "-c", "exit 3"], environ=os.environ, cwd=Path("/"), timeout=60, on_line=print))
except ProcessLost as lost:
    print(lost)
"""


def test_status_that_is_lost() -> None:
    """In a program that ignores SIGCHLD, the exit status of a child is unknown, and does not count as success."""
    without = "" if hasattr(os, "waitid") else "import os\nvars(os).pop('waitid', None)\n"
    finished = subprocess.run([sys.executable, "-c", without + LOST], capture_output=True, text=True, timeout=DEADLINE)
    assert finished.stdout == "its exit status is lost: this program ignores SIGCHLD, or waits for it\n"
    assert finished.stderr == ""


#: Finds a key of its session before, and not after.
KEYS = """
import ctypes, platform, sys
from pacifica_notifications_consumer.system.account import _KEYCTL, leave_session_keyring
libc = ctypes.CDLL(None, use_errno=True)
keyctl = _KEYCTL[platform.machine()]
leave_session_keyring()
if libc.syscall(keyctl - 2, b"user", b"secret", b"x", 1, -3) < 0:
    sys.exit(77)
found = lambda: libc.syscall(keyctl, 10, -3, b"user", b"secret", 0) > 0
print(found())
leave_session_keyring()
print(found())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in account._KEYCTL, reason="the system call is not known here"
)
def test_session_keyring_is_left() -> None:
    """Programs that start afterwards have none of the keys of this session."""
    finished = subprocess.run([sys.executable, "-c", KEYS], capture_output=True, text=True, check=False)
    if finished.returncode == 77:
        pytest.skip("the kernel has no keys, or does not allow them")
    assert (finished.stdout, finished.stderr) == ("True\nFalse\n", "")
