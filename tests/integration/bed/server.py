"""A server of the bed: a process in a session of its own, so that it can be ended with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.machine import reaper


class Server:
    """A process that runs until it is stopped, and prints to a log.

    Args:
        name: What it is called.
        command: The program and its arguments.
        environ: Its environment.
        cwd: Its working directory.
        log: The file for what it prints; a later server of the same log begins it anew.
        user: Who it runs as, if not as this process.
        farewell: The signal that asks it to end; without one it is killed, since nothing of it needs to be kept.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        cwd: Path,
        log: Path,
        user: str | None = None,
        farewell: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.name = name
        self.log = log
        self._farewell = farewell
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env=environ,
                cwd=cwd,
                user=user,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        # PostgreSQL and Redis overwrite their environments.
        reaper.end_process(self._process.pid, farewell)

    @property
    def pid(self) -> int:
        """Its id."""
        return self._process.pid

    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait(self, timeout: float) -> int:
        """Wait until it ends by itself, and return its exit status."""
        return self._process.wait(timeout)

    def stop(self) -> None:
        """End it with all that it started."""
        if self._process.returncode is None:
            self._process.send_signal(self._farewell)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE if self._farewell is not signal.SIGKILL else 0)
        if self._process.returncode is None:
            # Not reaped yet, so the number is still its own, and its group's.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


_PATIENCE = 10.0
