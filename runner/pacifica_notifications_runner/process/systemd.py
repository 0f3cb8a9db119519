"""Reports the state of the runner to systemd with the datagrams of sd_notify(3)."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Self

import attrs

#: Seconds to wait for a supervisor that does not read.
_PATIENCE = 1.0


@attrs.frozen
class Notifier:
    """Reports the state of the runner to a supervisor; without an address of its socket it does nothing."""

    address: str | None = None
    #: Seconds of silence after which the supervisor restarts the runner; None for never.
    watchdog: float | None = None

    @classmethod
    def from_environment(cls) -> Self:
        """Read and remove the supervisor's variables, so that child processes cannot report for the runner."""
        address = os.environ.pop("NOTIFY_SOCKET", None)
        microseconds, pid = os.environ.pop("WATCHDOG_USEC", ""), os.environ.pop("WATCHDOG_PID", "")
        watchdog = None
        if microseconds.isdecimal() and int(microseconds) and pid in ("", str(os.getpid())):
            watchdog = int(microseconds) / 1_000_000
        return cls(address or None, watchdog)

    @property
    def interval(self) -> float | None:
        """Seconds between two signs of life, as sd_watchdog_enabled(3) recommends; None without a watchdog."""
        return None if self.watchdog is None else self.watchdog / 2

    def ready(self, status: str) -> None:
        """Report that the start is complete."""
        self._tell("READY=1", f"STATUS={status}")

    def stopping(self, status: str) -> None:
        """Report that the runner is stopping."""
        self._tell("STOPPING=1", f"STATUS={status}")

    def alive(self, status: str) -> None:
        """Send a sign of life."""
        self._tell("WATCHDOG=1", f"STATUS={status}")

    def _tell(self, *lines: str) -> None:
        if self.address is None:
            return
        # A leading @ stands for the NUL of the abstract namespace (unix(7)).
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        message = "\n".join(line.replace("\n", " ") for line in lines)
        # A supervisor that does not listen is ignored.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            # It may be busy for an instant, and READY=1 is sent once only.
            sender.settimeout(_PATIENCE)
            sender.sendto(message.encode(), address)
