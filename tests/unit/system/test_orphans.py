"""The processes of a job are found and ended in any process group and session."""

import errno
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from pacifica_notifications_consumer.system import orphans as orphans
from pacifica_notifications_consumer.system.account import Account
from pacifica_notifications_consumer.system.orphans import MARK_VARIABLE, _can_find, end_marked, mark_of
from tests.support.machine.other_user import NOBODY, as_root
from tests.support.machine.waiting import DEADLINE, wait_until
from tests.support.runner_tools import alive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")

#: Leaves a grandchild in a session of its own, with another parent, deaf to SIGTERM; and stays itself.
FAMILY = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    between = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == between:
        time.sleep(0.01)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(os.getpid(), flush=True)
    time.sleep(100)
os.wait()
time.sleep(100)
"""


def family(mark: str) -> tuple["subprocess.Popen[str]", int]:
    process = subprocess.Popen(
        [sys.executable, "-c", FAMILY], env=os.environ | {MARK_VARIABLE: mark}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    return process, int(process.stdout.readline())


#: Ends its first thread only; the kernel shows no variables of such a process.
HEADLESS = """
import ctypes, platform, threading, time
threading.Thread(target=lambda: print(flush=True) or time.sleep(100)).start()
ctypes.CDLL(None).syscall(60 if platform.machine() == "x86_64" else 93, 0)
"""


def test_process_whose_first_thread_has_ended(tmp_path: Path) -> None:
    """A process goes on with its other threads, and is found by their variables."""
    command = [sys.executable, "-c", HEADLESS]
    environ = os.environ | {MARK_VARIABLE: f"{tmp_path}:1:a"}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.read(1)
            wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
            assert end_marked(f"{tmp_path}:1:", 0.0) == 1
            assert process.wait(DEADLINE) == -signal.SIGKILL
        finally:
            process.kill()


@pytest.mark.parametrize("kill_after", [0.0, 0.2])
def test_whole_family_is_ended(kill_after: float, tmp_path: Path) -> None:
    """Processes that left the group, the session and the parent are ended, even if they ignore SIGTERM."""
    mine, daemon = family(f"{tmp_path}:1:a")
    other, spared = family(f"{tmp_path}:2:a")
    try:
        assert end_marked(f"{tmp_path}:1:", kill_after) == 2
        assert not alive(daemon)
        assert mine.wait(DEADLINE) < 0
        assert alive(spared)
        assert end_marked(f"{tmp_path}:1:", kill_after) == 0
    finally:
        end_marked(f"{tmp_path}:", 0.0)
        for process in (mine, other):
            process.wait(DEADLINE)
            assert process.stdout
            process.stdout.close()
    assert not alive(spared)


@as_root
def test_strangers_with_a_mark(tmp_path: Path) -> None:
    """Of another user, only that user's processes are ended, although everybody can copy a mark."""
    account = Account.find(NOBODY)
    environ = os.environ | {MARK_VARIABLE: f"{tmp_path}:1:a"}
    sleep = ["/bin/sleep", "1000"]
    ours, his = subprocess.Popen(sleep, env=environ), subprocess.Popen(sleep, env=environ, **account.popen_arguments())
    try:
        assert end_marked(f"{tmp_path}:1:", 0.0, account) == 1
        assert his.wait(DEADLINE) == -signal.SIGKILL
        assert ours.poll() is None
    finally:
        for process in (ours, his):
            process.kill()
            process.wait()


def test_endless_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a process that has made its environment longer than one can be, only the beginning is read."""
    assert _can_find()
    (tmp_path / "4194304").mkdir()
    with (tmp_path / "4194304" / "environ").open("wb") as file:
        file.truncate(1 << 28)
    monkeypatch.setattr(orphans, "_PROC", str(tmp_path))
    tracemalloc.start()
    try:
        assert end_marked(f"{tmp_path}:", 0.0) == 0
        assert tracemalloc.get_traced_memory()[1] < 1 << 25
    finally:
        tracemalloc.stop()


@as_root
def test_environments_of_strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the processes of other users than the one that runs entry-points, nothing is read."""
    assert _can_find()
    (tmp_path / "4194304").mkdir()
    account = Account.find(NOBODY)
    os.chown(tmp_path / "4194304", account.uid + 1, -1)
    monkeypatch.setattr(orphans, "_PROC", str(tmp_path))
    monkeypatch.setattr(orphans, "_read", None)
    assert end_marked(f"{tmp_path}:", 0.0, account) == 0


def test_mark_is_no_part_of_another_variable(tmp_path: Path) -> None:
    """A process with the mark in another variable is not ended."""
    other = {f"NO_{MARK_VARIABLE}": str(tmp_path), "X": f" {MARK_VARIABLE}={tmp_path}"}
    with subprocess.Popen(["/bin/sleep", "100"], env=os.environ | other) as process:
        assert end_marked(str(tmp_path), 0.0) == 0
        process.kill()


@pytest.mark.parametrize("others", ["state:2", "state:", "state:/1"])
def test_directories_whose_paths_have_colons(tmp_path: Path, others: str) -> None:
    """What works for one directory is not ended for another one, whose path is the beginning of the first."""
    mark = f"{mark_of(tmp_path / others)}1:0"
    with subprocess.Popen(["/bin/sleep", "100"], env={MARK_VARIABLE: mark}) as process:
        assert end_marked(mark_of(tmp_path / "state"), 0.0) == 0
        assert end_marked(mark_of(tmp_path / others), 0.0) == 1
        assert process.wait(DEADLINE) == -signal.SIGKILL


def test_process_that_is_just_being_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has no environment yet, since it is in the middle of an exec(), is looked at again."""
    looks: list[str] = []

    def read(pid: str, name: str) -> bytes:
        content = orphans_read(pid, name)
        if pid != str(process.pid) or name not in ("environ", "stat") or len(looks) == 6:
            return content
        looks.append(name)
        return b"" if name == "environ" else b" ".join([*content.split(b" ")[:50], b"0", b"0"])

    orphans_read = orphans._read
    monkeypatch.setattr(orphans, "_read", read)
    with subprocess.Popen(["/bin/sleep", "100"], env={MARK_VARIABLE: f"{tmp_path}:1"}) as process:
        assert end_marked(f"{tmp_path}:1", 0.0) == 1
        assert process.wait(DEADLINE) == -signal.SIGKILL
    assert looks == ["environ", "stat"] * 3


@pytest.mark.parametrize(
    ("module", "name", "number"),
    [
        (os, "pidfd_open", errno.EPERM),
        (os, "pidfd_open", errno.ENOSYS),
        (os, "pidfd_open", None),
        (signal, "pidfd_send_signal", errno.EPERM),
    ],
)
def test_system_that_does_not_let_processes_be_found(
    module: ModuleType,
    name: str,
    number: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without pidfds, or where a container forbids them, that is logged once, and no job waits for what cannot end."""

    def refuse(*_: object) -> None:
        assert number
        raise OSError(number, os.strerror(number))

    if number is None:
        monkeypatch.delattr(module, name)
    else:
        monkeypatch.setattr(module, name, refuse)
    _can_find.cache_clear()
    try:
        with subprocess.Popen(["/bin/sleep", "100"], env=os.environ | {MARK_VARIABLE: f"{tmp_path}:1"}) as process:
            assert [end_marked(f"{tmp_path}:1", 0.0) for _ in range(3)] == [0, 0, 0]
            process.kill()
    finally:
        _can_find.cache_clear()
    (record,) = caplog.records
    assert "cannot be found here" in record.getMessage()


def test_too_many_open_files_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this process has no file descriptor left for a moment, it finds the processes of jobs afterwards."""
    _can_find.cache_clear()

    def refuse(_: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Too many open files"):
        patch.setattr(os, "pidfd_open", refuse)
        end_marked(f"{tmp_path}:1", 0.0)
    with subprocess.Popen(["/bin/sleep", "100"], env=os.environ | {MARK_VARIABLE: f"{tmp_path}:1"}):
        # A program that has just been started may not have its environment yet.
        wait_until(lambda: end_marked(f"{tmp_path}:1", 0.0) == 1)


def test_jobs_that_begin_meanwhile_go_on(tmp_path: Path) -> None:
    """Ending processes with the beginning of a mark spares another job that starts while it waits for the first."""
    # Not with `print`, which may not be interrupted by another `print`.
    asked = (
        "import os, signal\nsignal.signal(signal.SIGTERM, lambda *_: os.write(1, b'asked\\n'))\nos.write(1, b'\\n')\n"
    )
    command = [sys.executable, "-c", f"{asked}while True:\n    signal.pause()"]
    marks = {number: os.environ | {MARK_VARIABLE: f"{tmp_path}:{number}"} for number in (1, 2)}
    with ThreadPoolExecutor() as pool, subprocess.Popen(command, env=marks[1], stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout
        deaf.stdout.readline()
        ending = pool.submit(end_marked, f"{tmp_path}:", 1.0)
        assert deaf.stdout.readline() == b"asked\n"
        with subprocess.Popen(["/bin/sleep", "100"], env=marks[2]) as later:
            assert ending.result(DEADLINE) == 1
            assert later.poll() is None
            later.kill()


def test_processes_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """If new processes are found again and again, it gives up in the end."""
    started = []

    def start_another(*_: object) -> Iterator[tuple[int, int, bytes]]:
        started.append(subprocess.Popen(["/bin/sleep", "100"]))
        yield started[-1].pid, os.pidfd_open(started[-1].pid), b"mark"

    monkeypatch.setattr(orphans, "_marked", start_another)
    assert end_marked("mark", 0.0, most=0.05) == len(started) > 0
    assert {process.wait() for process in started} == {-signal.SIGKILL}
