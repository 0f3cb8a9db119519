"""Warm start: entry-points are forks of a process that has already imported what they need.

The runner keeps one warm process and asks it, over the control socket, to fork a child for each attempt::

    runner                       warm process                  children
    WarmStart ── control ──────▶ process.ForkServer            job 17: __main__.py SRC DST
       │          "fork", with   requests, numpy, … are ─ fork ─▶ │  new session, the job's own environment
       │          3 handles      imported already                 │
       │ ◀─────── channel of job 17: "started" ───────────────────┘
       │ ◀─────── channel of job 17: "ended STATUS CPU MEMORY" ── from the warm process, which reaps the child

The handles are the channel (a socket for this attempt alone), the output file and the request (arguments, environment,
limits). When idle, the warm process forks one spare child ahead, which waits for the next request. If the runner goes,
the control socket breaks and the warm process exits. If the warm process dies, all channels break: no exit status can
be had any more, so its children are ended and their attempts count as crashed (`ProcessLost`). Until a new one is
ready, `launch` returns None and entry-points start cold. `main` and `process` run in the consumer's environment.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from ...system.account import CURRENT_USER, Account
from ...system.orphans import is_readable
from ...system.periodic import Periodic
from ...system.processes import MAXRSS_UNIT, ColdProcess, Process, ProcessLost, Usage, describe_status
from .messages import open_channel, receive

log = logging.getLogger(__name__)

_MAIN = Path(__file__).with_name("main.py")
#: The modules of the documented entry-point. A question mark means: if it is installed.
DOCUMENTED = (
    "requests?",
    "jsonpath2?",
    "promise?",
    "pacifica_notifications_consumer.transfer.downloader?",
    "pacifica_notifications_consumer.transfer.uploader?",
    "pacifica_notifications_consumer.filter.filter?",
)
#: Padding that makes room for the command lines and the environments of the children (see `child.Appearance`).
_ROOM_OF_ARGUMENTS, _ROOM = "." * 1024, "." * 8192
_ROOM_VARIABLE = "PACIFICA_ROOM"
#: Seconds in which the warm process must answer, usually a millisecond, and between two looks whether it has ended.
_PATIENCE, _LOOK = 20.0, 0.5
#: Seconds after which a warm process that dies is restarted at once, and the longest pause before other restarts.
_LIVED_LONG, _LONGEST_PAUSE = 60.0, 60.0
_SHOWN_LINES, _SHOWN_BYTES = 15, 1 << 16


class WarmStart:
    """Keeps a warm process running, which imports `DOCUMENTED` and `preload`, and starts entry-points as its children.

    The imported modules see `environ`; each entry-point gets an environment of its own.
    """

    def __init__(
        self,
        python: Path,
        script: Path,
        *,
        environ: Mapping[str, str],
        preload: Sequence[str] = (),
        run_as: Account = CURRENT_USER,
    ) -> None:
        self._command = [str(python), str(_MAIN)]
        self._arguments = [str(script), " ".join((*DOCUMENTED, *preload)), _ROOM_OF_ARGUMENTS]
        self._directory = script.parent
        self._run_as = run_as
        self._environ = dict(environ) | {_ROOM_VARIABLE: _ROOM}
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._popen: subprocess.Popen[bytes] | None = None
        #: Set when the warm process is ready, or when it is certain that it never will be.
        self._decided = threading.Event()
        self._pause = 0.0
        self._loop = Periodic(self._live, name="warm start", interval=_LONGEST_PAUSE, daemon=True)

    def start(self) -> None:
        """Start the process in the background; until it is ready, `launch` returns None."""
        self._loop.start()

    def close(self) -> None:
        """End the process; its children go on running."""
        self._loop.stopping.set()
        self._kill()
        self._loop.stop()
        self._decided.set()

    def wait(self, timeout: float) -> bool:
        """Wait until the process is ready; False if it is not ready after `timeout` seconds, or never will be."""
        return self._decided.wait(timeout) and self.ready

    @property
    def ready(self) -> bool:
        """Whether the warm process accepts requests now."""
        return self._control is not None

    @property
    def pid(self) -> int | None:
        """The process id of the warm process; None before the first start."""
        return self._popen.pid if self._popen is not None else None

    def launch(
        self,
        arguments: Sequence[str | Path],
        *,
        environ: Mapping[str, str],
        cwd: Path,
        output: int,
        limits: Iterable[tuple[int, int, int]] = (),
    ) -> Process | None:
        """Start an entry-point; returns None if it must be started cold, and OSError means that this would fail, too.

        The arguments begin with the interpreter and the entry-point. `limits` are arguments of ``setrlimit``.
        `ProcessLost` means that something else has answered.
        """
        if not self.ready:
            return None
        ours, theirs = open_channel()
        try:
            with theirs, _request(arguments, environ, cwd, limits) as request:
                warm = self._send([theirs.fileno(), output, request.fileno()])
            return self._started(ours, warm)
        except (OSError, ProcessLost) as error:
            ours.close()
            if isinstance(error, _RefusedError):
                raise OSError(error.errno, error.strerror) from None
            if isinstance(error, ProcessLost):
                raise
            return None

    def _send(self, handles: list[int]) -> int:
        """Send a request to the warm process; returns its process id."""
        # The lock keeps the socket from being closed here, after which its descriptor could belong to another file.
        with self._lock:
            if self._control is None or self._popen is None:
                raise ConnectionResetError
            socket.send_fds(self._control, [b"fork"], handles)
            return self._popen.pid

    def _started(self, channel: socket.socket, warm: int) -> Process:
        channel.settimeout(_PATIENCE)
        try:
            sender, words = receive(channel, self._run_as, "started", "error")
        except TimeoutError:
            log.error("the warm process does not answer; it is killed")  # noqa: TRY400
            self._kill()
            raise
        if words[0] == "error":
            raise _RefusedError(int(words[1]), os.strerror(int(words[1])))
        return _WarmChild(channel, sender, warm, self._run_as)

    def _kill(self) -> None:
        if (popen := self._popen) is not None:
            popen.kill()

    def _live(self) -> float:
        """Start a process, and have it fork until it ends; returns the seconds until the next one is started."""
        began = time.monotonic()
        with tempfile.TemporaryFile() as output:
            control, status = self._spawn(output)
            if control is not None:
                status = self._serve(control)
            elif status >= 0 and not self._loop.stopping.is_set():
                log.warning(
                    "entry-points start cold, since their modules could not be imported in advance:\n%s",
                    _last_lines(output),
                )
                self._decided.set()
                return math.inf
        if not self._loop.stopping.is_set():
            lived_long = time.monotonic() - began > _LIVED_LONG
            self._pause = 0.0 if lived_long else min(2 * self._pause + 0.1, _LONGEST_PAUSE)
            log.error(
                "the warm process has ended with %s; it is started again, until then entry-points start cold",
                describe_status(status),
            )
        return self._pause

    def _serve(self, control: socket.socket) -> int:
        """Let the process serve requests until it ends; returns its exit status."""
        try:
            self._control = control
            self._decided.set()
            return self._wait()
        finally:
            self._decided.clear()
            with self._lock:
                self._control = None
                control.close()

    def _spawn(self, output: IO[bytes]) -> tuple[socket.socket | None, int]:
        """Start the process; returns the socket to it, and otherwise None and its exit status."""
        ours, theirs = open_channel()
        with theirs:
            try:
                self._popen = subprocess.Popen(
                    [*self._command, str(theirs.fileno()), *self._arguments],
                    env=self._environ,
                    cwd=self._directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                    **self._run_as.popen_arguments(),
                )
            except OSError as error:
                output.write(str(error).encode())
                ours.close()
                return None, 0
        if self._loop.stopping.is_set():
            self._kill()
        try:
            threads = self._wait_until_ready(ours, self._popen)
        except (OSError, ProcessLost) as error:
            ours.close()
            if isinstance(error, OSError):
                return None, self._wait()
            self._kill()
            output.write(f"\n{error}".encode())
            return None, max(0, self._wait())
        log.info("entry-points start warm")
        if threads > 1:
            log.warning(
                "preloaded modules have started %d threads outside of Python; if a job hangs, set `start` to cold",
                threads - 1,
            )
        ours.settimeout(_PATIENCE)
        return ours, 0

    def _wait_until_ready(self, control: socket.socket, popen: subprocess.Popen[bytes]) -> int:
        """Wait for the report, and return the number of threads; OSError means that the process has ended."""
        control.settimeout(_LOOK)
        while True:
            try:
                return int(receive(control, self._run_as, "ready", sender=popen.pid)[1][1])
            except TimeoutError:
                # A program that a module has started may hold the other end open.
                if popen.poll() is not None:
                    raise ConnectionResetError from None

    def _wait(self) -> int:
        assert self._popen is not None  # noqa: S101
        return self._popen.wait()


class _RefusedError(OSError):
    """The child could not begin to run, and would not start cold either."""


class _WarmChild(Process):
    """An entry-point that the warm process has forked."""

    def __init__(self, channel: socket.socket, pid: int, warm: int, run_as: Account) -> None:
        super().__init__(pid)
        self._channel = channel
        channel.setblocking(False)
        self._warm, self._run_as = warm, run_as
        #: Why the status cannot be known; empty as long as it can.
        self._lost = ""
        self._status: int | None = None
        #: A pidfd, because the warm process may free the process id at any time; None if it has done so.
        self._exit: int | None = None
        with contextlib.suppress(ProcessLookupError):
            self._exit = os.pidfd_open(pid)
        try:
            # Only now does the child begin: one that cannot be controlled, such as for want of files, has not run.
            channel.send(b"go")
        except OSError:
            if self._exit is not None:
                os.close(self._exit)
            raise

    def _signal_group(self, number: signal.Signals) -> None:
        if self._exit is None or is_readable(self._exit, 0.0):
            return
        if not self._run_as.name:
            super()._signal_group(number)
            return
        # With the rights of the user, who decides what is in the group. The user can also stop this program.
        words = ["/bin/sh", "-c", 'kill -s "$0" -- "-$1"', number.name[3:], str(self.pid)]
        with contextlib.suppress(OSError, ProcessLost):
            program = ColdProcess(words, environ={}, cwd=Path("/"), output=subprocess.DEVNULL, run_as=self._run_as)
            if program.wait(_PATIENCE) is None:
                program.end(0.0)

    def _sleep(self, seconds: float) -> None:
        is_readable(self._channel.fileno(), seconds)

    def _has_exited(self) -> bool:
        if self._status is None and not self._lost:
            try:
                _, words = receive(self._channel, self._run_as, "ended", sender=self._warm)
            except BlockingIOError:
                return False
            except OSError:
                self._lost = "the warm process died, so the result of the attempt is unknown"
            except ProcessLost as lost:
                self._lost = str(lost)
            else:
                self._status, self.usage = int(words[1]), Usage(float(words[2]), int(words[3]) * MAXRSS_UNIT)
        return True

    def _reap(self) -> int:
        deadline = time.monotonic() + _PATIENCE
        if not self._has_exited():
            self._signal_group(signal.SIGKILL)
            while not self._has_exited() and time.monotonic() < deadline:
                self._sleep(deadline - time.monotonic())
        self._channel.close()
        if self._exit is not None:
            os.close(self._exit)
            self._exit = None
        if self._status is None:
            self._lost = self._lost or "the warm process does not say how the attempt ended"
            raise ProcessLost(self._lost)
        return self._status


@contextlib.contextmanager
def _request(
    arguments: Sequence[str | Path], environ: Mapping[str, str], cwd: Path, limits: Iterable[tuple[int, int, int]]
) -> Iterator[IO[bytes]]:
    """Write a request to an anonymous file, because an environment may be larger than a message."""
    limited = " ".join(str(number) for limit in limits for number in limit)
    variables = (f"{name}={value}" for name, value in environ.items())
    words = [str(cwd), limited, str(len(arguments)), *map(str, arguments), *variables]
    with os.fdopen(os.memfd_create("job"), "w+b") as file:
        file.write(os.fsencode("\0".join(words)))
        file.seek(0)
        yield file


def _last_lines(output: IO[bytes]) -> str:
    output.seek(max(0, output.seek(0, os.SEEK_END) - _SHOWN_BYTES))
    lines = output.read(_SHOWN_BYTES).decode("utf-8", "replace").strip().splitlines()
    return "\n".join(f"    {line}" for line in lines[-_SHOWN_LINES:])
