"""Ports for servers that cannot choose one themselves."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

_LOWEST = 10_000


def free_port() -> int:
    """A port of loopback that is free, and stays reserved for this process until it ends.

    It lies below the range from which the system gives ports to connections and servers, so a server can also be
    stopped and started on it. Other test processes, of whatever user and with whatever TMPDIR, do not get it either.
    """
    ports = random.sample(range(_LOWEST, _end()), 1000)
    return next(port for port in ports if _reserve(port))


def free_ports(count: int) -> list[int]:
    """Several of them."""
    return [free_port() for _ in range(count)]


def _reserve(port: int) -> bool:
    with socket.socket(type=socket.SOCK_DGRAM) as reserved, socket.socket() as probe, contextlib.suppress(OSError):
        # No server of a test uses UDP, so its port of the same number serves as a lock, which ends with this process.
        reserved.bind(("127.0.0.1", port))
        # Like a server that starts again while old connections are closing.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        reserved.detach()
        return True
    return False


def _end() -> int:
    """The lowest port that the system gives away."""
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        lowest = 32768
    return lowest if lowest > _LOWEST + 1000 else 32768
