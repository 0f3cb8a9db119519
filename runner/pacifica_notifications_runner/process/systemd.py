"""Tells systemd the state of the runner, by the protocol of sd_notify(3): one datagram each time."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Self

import attrs


@attrs.frozen
class Notifier:
    """Tells a supervisor the state of the runner; without one it does nothing."""

    #: The socket that the supervisor listens on; None if there is no supervisor.
    address: str | None = None
    #: Seconds of silence after which the supervisor takes the runner for hung; None for never.
    watchdog: float | None = None

    @classmethod
    def from_environment(cls) -> Self:
        """As the environment says; the variables are removed from it, so that no child can speak for the runner."""
        address = os.environ.pop("NOTIFY_SOCKET", None)
        microseconds, pid = os.environ.pop("WATCHDOG_USEC", ""), os.environ.pop("WATCHDOG_PID", "")
        watchdog = None
        if microseconds.isdecimal() and int(microseconds) and pid in ("", str(os.getpid())):
            watchdog = int(microseconds) / 1_000_000
        return cls(address or None, watchdog)

    @property
    def interval(self) -> float | None:
        """Seconds between two signs of life, half of what is allowed; None if none are wanted."""
        return None if self.watchdog is None else self.watchdog / 2

    def ready(self, status: str) -> None:
        """The start is complete."""
        self._tell("READY=1", f"STATUS={status}")

    def stopping(self, status: str) -> None:
        """The end has begun."""
        self._tell("STOPPING=1", f"STATUS={status}")

    def alive(self, status: str) -> None:
        """Everything works; the status says what is being done."""
        self._tell("WATCHDOG=1", f"STATUS={status}")

    def _tell(self, *lines: str) -> None:
        if self.address is None:
            return
        # A name in the abstract namespace is written with an @.
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        message = "\n".join(line.replace("\n", " ") for line in lines)
        # The runner's work does not depend on the supervisor.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(message.encode(), address)
