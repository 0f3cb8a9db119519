"""Run a program in a new session, so that it can be ended with all processes of its process group."""

from __future__ import annotations

import abc
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import attrs

from ..errors import Cancelled, PacificaError, escaped
from .account import CURRENT_USER, Account
from .orphans import MARK_VARIABLE, end_marked, is_readable

#: Seconds between SIGTERM and SIGKILL to a program's process group.
KILL_AFTER = 5.0
#: Seconds between two calls of `stop`.
_LOOK = 0.05
_TAIL, _LONGEST_LINE = 200, 1 << 16
_CREDENTIALS = re.compile(r"(?<=://)(?!git@)[^/\s]+(?=@)")


def without_credentials(text: str) -> str:
    """Replace users and passwords in the addresses of a text by asterisks; but not the user git, which is public."""
    return _CREDENTIALS.sub("***", text)


@attrs.frozen
class CompletedProgram:
    """The result of a program."""

    #: The exit status, or the negative number of the signal that ended it.
    status: int
    timed_out: bool = False
    #: The last lines of its output, if captured.
    output: str = ""


def describe_status(status: int) -> str:
    """Describe an exit status, or the negative number of a signal."""
    return f"exit status {status}" if status >= 0 else f"signal {-status} ({signal.strsignal(-status)})"


@attrs.frozen
class Usage:
    """The processor time and the peak memory (of one process, in bytes) of a program and the children it waited for."""

    cpu_seconds: float
    peak_memory: int


class ProcessLost(PacificaError):  # noqa: N818  (as LeaseLost: it says what happened)
    """The exit status of a process cannot be determined."""


class Process(abc.ABC):
    """A program that runs in a new session."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        #: None before the end, or if unknown.
        self.usage: Usage | None = None

    def wait(self, timeout: float | None, stop: Callable[[], bool] = lambda: False) -> int | None:
        """Wait until it ends and return its status; None after the timeout, or if ``stop`` returns True.

        The remaining processes of its group are then ended. `ProcessLost` is raised if its status cannot be determined.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._has_exited():
            if stop() or (deadline is not None and time.monotonic() >= deadline):
                return None
            self._sleep(_LOOK)
        return self._reap()

    def end(self, kill_after: float = KILL_AFTER) -> int:
        """End its process group by SIGTERM, after some seconds by SIGKILL, and return its status, see `wait`."""
        self._signal_group(signal.SIGTERM)
        deadline = time.monotonic() + kill_after
        while not self._has_exited() and time.monotonic() < deadline:
            self._sleep(_LOOK)
        return self._reap()

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    @abc.abstractmethod
    def _sleep(self, seconds: float) -> None:
        """Wait some seconds, but not longer than until it ends."""

    @abc.abstractmethod
    def _has_exited(self) -> bool:
        """Whether it has ended; its id must still be reserved."""

    @abc.abstractmethod
    def _reap(self) -> int:
        """End the remaining processes of its group, and return its status."""


class ColdProcess(Process):
    """A program that this process starts; ``output`` gets its standard output and standard error."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        environ: Mapping[str, str],
        cwd: Path,
        output: IO[Any] | int,
        run_as: Account = CURRENT_USER,
    ) -> None:
        self._popen = subprocess.Popen(
            [str(argument) for argument in arguments],
            env=dict(environ),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **run_as.popen_arguments(),
        )
        super().__init__(self._popen.pid)
        self.stdout = self._popen.stdout
        #: A descriptor that becomes readable when the process ends; None on systems without pidfds.
        self._exit: int | None = None
        with contextlib.suppress(OSError, AttributeError):
            self._exit = os.pidfd_open(self.pid)

    def _sleep(self, seconds: float) -> None:
        if self._exit is None:
            time.sleep(min(seconds, 0.005))
        else:
            is_readable(self._exit, seconds)

    def _has_exited(self) -> bool:
        try:
            if hasattr(os, "waitid"):
                # Check without reaping: until then the id, which is also the group's, cannot be reused.
                return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
            # Python before 3.13 on macOS; poll() takes a lost status for 0.
            ended, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # It was reaped, or it left no status because this process ignores SIGCHLD.
            return True
        if ended:  # End the group before its id can be reused.
            self._signal_group(signal.SIGKILL)
            self._popen.returncode = os.waitstatus_to_exitcode(status)
        return ended != 0

    def _reap(self) -> int:
        if self._exit is not None:
            os.close(self._exit)
            self._exit = None
        if self._popen.returncode is None:
            self._signal_group(signal.SIGKILL)
            try:
                _, status, used = os.wait4(self.pid, 0)
            except ChildProcessError:
                self._popen.returncode = 0  # for Popen, which would wait for it in vain
                raise ProcessLost("its exit status is lost: this program ignores SIGCHLD, or waits for it") from None
            self._popen.returncode = os.waitstatus_to_exitcode(status)
            self.usage = Usage(used.ru_utime + used.ru_stime, used.ru_maxrss * MAXRSS_UNIT)
        return self._popen.wait()


#: Bytes in a unit of ru_maxrss.
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


def start_module(name: str, *arguments: str, **pipes: Any) -> subprocess.Popen[bytes]:
    """Start a module with this interpreter; it reads commands from its standard input. ``pipes`` are for `Popen`."""
    return subprocess.Popen(
        [sys.executable, "-m", name, *arguments],
        stdin=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        # A new session, so that signals to this process's group, such as Ctrl-C, do not reach it.
        start_new_session=True,
        **pipes,
    )


def run_captured(
    arguments: Sequence[str | Path],
    *,
    environ: Mapping[str, str],
    cwd: Path,
    timeout: float | None,
    on_line: Callable[[str], None],
    cancel: threading.Event | None = None,
    run_as: Account = CURRENT_USER,
) -> CompletedProgram:
    """Run a program, pass each line of its output to a callback on another thread, and keep the last lines.

    The lines are those `without_credentials`. What it leaves running is ended (`end_marked`), and not listened to. Its
    mark begins with that in ``environ``, by which others can find it if this process is killed.

    Raises:
        Cancelled: ``cancel`` was set.
        OSError: It cannot be started.
    """
    mark = f"{environ.get(MARK_VARIABLE, 'program')}:{os.urandom(16).hex()}"
    environ = {**environ, MARK_VARIABLE: mark}
    process = ColdProcess(arguments, environ=environ, cwd=cwd, output=subprocess.PIPE, run_as=run_as)
    assert process.stdout is not None  # noqa: S101  (tells mypy what PIPE means)
    lines: list[str] = []
    over = threading.Event()
    reader = threading.Thread(target=_read_lines, args=(process.stdout, lines, on_line, over), daemon=True)
    reader.start()
    status = None
    try:
        status = process.wait(timeout, cancel.is_set) if cancel else process.wait(timeout)
    finally:
        if status is None:
            process.end()
        if sys.platform == "linux":  # others cannot find processes
            with contextlib.suppress(OSError):  # too many open files
                end_marked(mark, 0.0, run_as, most=KILL_AFTER)
        # Not for ever, because a process that has removed its mark may hold the pipe open.
        reader.join(KILL_AFTER)
        over.set()
    if status is None and cancel is not None and cancel.is_set():
        raise Cancelled(f"stopped while {Path(str(arguments[0])).name} was running")
    return CompletedProgram(-signal.SIGKILL if status is None else status, status is None, "\n".join(lines[-_TAIL:]))


def _read_lines(pipe: IO[bytes], lines: list[str], on_line: Callable[[str], None], over: threading.Event) -> None:
    with pipe:
        for raw in iter(lambda: pipe.readline(_LONGEST_LINE), b""):
            if over.is_set():
                return
            line = escaped(without_credentials(raw.decode("utf-8", "replace").rstrip("\r\n")), "\t")
            lines.append(line)
            del lines[: -2 * _TAIL]
            on_line(line)
