"""Run another program in a session of its own, so that it can be ended with all that it started."""

from __future__ import annotations

import abc
import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import attrs

from ..errors import Cancelled, PacificaError
from .account import CURRENT_USER, Account

#: Seconds between asking a program's group to end and ending it.
KILL_AFTER = 5.0
#: Seconds between two looks at whether something else says that it is enough.
_LOOK = 0.05
_TAIL = 200


@attrs.frozen
class CompletedProgram:
    """How a program ended.

    Args:
        status: Its exit status; negative is the number of the signal that ended it.
        timed_out: Whether it was ended because it took too long.
        output: The last lines of what it printed, if that was captured.
    """

    status: int
    timed_out: bool = False
    output: str = ""


def describe_status(status: int) -> str:
    """Say how a program ended, given its exit status or the negative number of a signal."""
    return f"exit status {status}" if status >= 0 else f"signal {-status} ({signal.strsignal(-status)})"


@attrs.frozen
class Usage:
    """What a program and its children used, as far as they were waited for.

    Args:
        cpu_seconds: Processor time.
        peak_memory: The most memory that one of them held, in bytes.
    """

    cpu_seconds: float
    peak_memory: int


class ProcessLost(PacificaError):  # noqa: N818  (as LeaseLost: it says what happened)
    """A process went where nobody will ever know how it ended."""


class Process(abc.ABC):
    """A program that runs in a session of its own.

    Args:
        pid: Its number.

    Attributes:
        usage: What it used; None before its end, and if nobody can know.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.usage: Usage | None = None

    def wait(self, timeout: float | None, stop: Callable[[], bool] = lambda: False) -> int | None:
        """Wait until it ends and return its status; None when the time is up or ``stop`` says so.

        What it left running in its group is ended with it.

        Raises:
            ProcessLost: Its status cannot be had.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._has_exited():
            if stop() or (deadline is not None and time.monotonic() >= deadline):
                return None
            self._sleep(_LOOK)
        return self._reap()

    def end(self, kill_after: float = KILL_AFTER) -> int:
        """End it with its whole group: politely, and after some seconds by force. Returns its status.

        Raises:
            ProcessLost: As `wait`.
        """
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
        """Wait some seconds, or until it ends."""

    @abc.abstractmethod
    def _has_exited(self) -> bool:
        """Say whether it has ended, its number still being its own."""

    @abc.abstractmethod
    def _reap(self) -> int:
        """End what is left of its group, for which nobody would ever wait, and return its status."""


class ColdProcess(Process):
    """A program that this process starts.

    Args:
        arguments: The program and its arguments.
        environ: Its environment.
        cwd: Its working directory.
        output: Where its standard output and standard error go.
        run_as: The user as whom it runs; by default this process's.
    """

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
        self._exit = _open_pidfd(self.pid)

    def _sleep(self, seconds: float) -> None:
        if self._exit is None:
            time.sleep(min(seconds, 0.005))
        else:
            poll = select.poll()
            poll.register(self._exit, select.POLLIN)
            poll.poll(seconds * 1000)

    def _has_exited(self) -> bool:
        # Looked at without reaping: until then its number, which is its group's too, cannot become another's.
        if self._popen.returncode is not None:
            return True
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            # Somebody has SIGCHLD ignored: it ended, and nobody will ever know how.
            return True

    def _reap(self) -> int:
        if self._popen.returncode is None:
            self._signal_group(signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                _, status, used = os.wait4(self.pid, 0)
                self._popen.returncode = os.waitstatus_to_exitcode(status)
                self.usage = Usage(used.ru_utime + used.ru_stime, used.ru_maxrss * MAXRSS_UNIT)
        if self._exit is not None:
            os.close(self._exit)
            self._exit = None
        return self._popen.wait()


#: Bytes in a unit of ru_maxrss.
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


def _open_pidfd(pid: int) -> int | None:
    """Something to wait on for a process's end, where the system has that."""
    with contextlib.suppress(OSError, AttributeError):
        return os.pidfd_open(pid)
    return None


def start_module(name: str, *arguments: str, **pipes: Any) -> subprocess.Popen[bytes]:
    """Start a module of this program with this interpreter, which takes its orders on its standard input.

    Args:
        name: The module.
        arguments: Its arguments.
        pipes: Further arguments of `subprocess.Popen`, such as ``stdout``.
    """
    return subprocess.Popen(
        [sys.executable, "-m", name, *arguments],
        stdin=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        # Signals of a terminal to this process, and those that end its group, are not meant for it.
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
    """Run a program, pass each line that it prints to a callback, and keep the last ones.

    Args:
        arguments: The program and its arguments.
        environ: Its environment.
        cwd: Its working directory.
        timeout: Seconds after which it is ended; None for never.
        on_line: Called with each line, from another thread.
        cancel: Ends it when set.
        run_as: As of `ColdProcess`.

    Raises:
        Cancelled: ``cancel`` was set.
        OSError: It cannot be started.
    """
    process = ColdProcess(arguments, environ=environ, cwd=cwd, output=subprocess.PIPE, run_as=run_as)
    assert process.stdout is not None  # noqa: S101  (tells mypy what PIPE means)
    lines: list[str] = []
    reader = threading.Thread(target=_read_lines, args=(process.stdout, lines, on_line), daemon=True)
    reader.start()
    ended = False
    try:
        status = process.wait(timeout, cancel.is_set) if cancel else process.wait(timeout)
        ended = status is not None
    finally:
        if not ended:
            process.end()
        # A grandchild that left the group may hold the pipe open for ever: what it prints is not waited for.
        reader.join(1.0)
    if status is None and cancel is not None and cancel.is_set():
        raise Cancelled(f"stopped while {Path(str(arguments[0])).name} was running")
    output = "\n".join(lines[-_TAIL:])
    return (
        CompletedProgram(-signal.SIGKILL, True, output) if status is None else CompletedProgram(status, False, output)
    )


def _read_lines(pipe: IO[bytes], lines: list[str], on_line: Callable[[str], None]) -> None:
    with pipe:
        for raw in pipe:
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            lines.append(line)
            del lines[: -2 * _TAIL]
            on_line(line)
