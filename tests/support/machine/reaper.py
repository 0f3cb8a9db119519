"""Ends what a test process leaves behind, however that process ends, even by SIGKILL.

The reaper is a process that reads a pipe, the other end of which only the test process holds. When the pipe ends, it
ends each process with the test process's mark in its environment, which all that it starts inherit. What loses its
environment (Redis overwrites its own), and what is not a process, is told to the reaper.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

#: The variable with the mark.
MARK = "TEST_PROCESS"
#: Seconds for a process that is asked to end, before it is killed.
_PATIENCE = 10.0
#: By default, the system gives a new process at most 2 MiB of arguments and variables.
_MOST_VARIABLES = 2 << 20
_pipe: int | None = None


def environ_of(pid: int | str) -> list[bytes]:
    """The variables with which a process was started; none if it has ended."""
    try:
        # Not without a limit: a process can make its own look as large as it likes.
        with Path(f"/proc/{pid}/environ").open("rb") as file:
            return file.read(_MOST_VARIABLES).split(b"\0")
    except OSError:
        return []


def start() -> None:
    """Start the reaper of this process, if it has none."""
    global _pipe
    if _pipe is not None:
        return
    os.environ[MARK] = str(uuid.uuid4())
    command = [sys.executable, "-I", "-S", __file__, os.environ[MARK]]
    # Nobody's child, so that tests which count or wait for children do not meet it, and out of the reach of Ctrl-C.
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=null, stderr=null, start_new_session=True) as launcher:
        assert launcher.stdin
        _pipe = os.dup(launcher.stdin.fileno())
    os.register_at_fork(after_in_child=_leave)


def end_process(pid: int, farewell: int = signal.SIGKILL) -> None:
    """End a process when this one ends.

    Args:
        pid: Its id.
        farewell: The signal that asks it to end.
    """
    _tell(f"process {pid} {int(farewell)}")


def unmount(path: Path) -> None:
    """Unmount a file system when this process ends."""
    _tell(f"mount {path}")


def remove(directory: Path) -> None:
    """Remove a directory when this process ends."""
    _tell(f"directory {directory}")


def _tell(line: str) -> None:
    start()
    if _pipe is not None and _pipe >= 0:
        os.write(_pipe, f"{line}\n".encode())


def _leave() -> None:
    """In a forked process, which has no mark: have it ended with its parent, and let go of the pipe."""
    global _pipe
    if _pipe is not None and _pipe >= 0:
        with contextlib.suppress(OSError):
            os.write(_pipe, f"process {os.getpid()} {int(signal.SIGKILL)}\n".encode())
        os.close(_pipe)
        _pipe = -1


class Reaper:
    """Remembers what is told, and ends it all.

    Args:
        mark: The mark of the processes that it ends.
    """

    def __init__(self, mark: str) -> None:
        self._mark = f"{MARK}={mark}".encode()
        self._told: list[tuple[int, bytes, int]] = []
        self._mounts: list[str] = []
        self._directories: list[str] = []

    def listen(self, lines: Iterable[str]) -> None:
        """Remember what is told until the end of the test process."""
        for line in lines:
            kind, _, what = line.rstrip("\n").partition(" ")
            if kind == "process":
                pid, farewell = map(int, what.split())
                # A number may be given to another process later.
                self._told.append((pid, _started(pid), farewell))
            else:
                (self._mounts if kind == "mount" else self._directories).append(what)

    def end_all(self) -> None:
        """End, unmount and remove everything."""
        for pid, farewell in self._alive():
            _kill(pid, farewell)
        deadline = time.monotonic() + _PATIENCE
        while self._alive() and time.monotonic() < deadline:
            self._end_marked()
            time.sleep(0.02)
        for pid, _ in self._alive():
            _kill(pid, signal.SIGKILL)
        # Again, since one that is being ended may have started another one.
        while self._end_marked() and time.monotonic() < deadline + _PATIENCE:
            time.sleep(0.02)
        for path in reversed(self._mounts):
            subprocess.run(["/bin/umount", "-l", path], check=False)
        for directory in self._directories:
            shutil.rmtree(directory, ignore_errors=True)

    def _alive(self) -> list[tuple[int, int]]:
        return [(pid, farewell) for pid, started, farewell in self._told if started and _started(pid) == started]

    def _end_marked(self) -> bool:
        """Kill all processes with the mark, with their descendants, but no reaper of another test process."""
        parents, found = {}, {pid for pid, _ in self._alive()}
        kept = found | {os.getpid()}
        for pid in _processes():
            with contextlib.suppress(OSError):
                if b"reaper.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    continue
                parents[pid] = int(_fields(pid)[1])
                if self._mark in environ_of(pid):
                    found.add(pid)
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        for pid in found - kept:
            _kill(pid, signal.SIGKILL)
        return bool(found - kept)


def _processes() -> list[int]:
    proc = Path("/proc")
    return [int(path.name) for path in proc.iterdir() if path.name.isdigit()] if proc.is_dir() else []


def _fields(pid: int) -> list[bytes]:
    """What `/proc` says of a process after its name: its state, its parent and so on; OSError if it has ended."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()


def _started(pid: int) -> bytes:
    """When a process was started, in the system's own terms; nothing if it has ended."""
    with contextlib.suppress(OSError):
        fields = _fields(pid)
        return b"" if fields[0] in (b"Z", b"X") else fields[19]
    return b""


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def main(mark: str) -> None:
    """Be the reaper, once the process that was started has ended."""
    if os.fork():
        os._exit(0)
    reaper = Reaper(mark)
    reaper.listen(sys.stdin)
    reaper.end_all()


if __name__ == "__main__":
    main(sys.argv[1])
