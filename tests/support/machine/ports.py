"""Ports for servers that cannot choose one themselves."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

_LOWEST = 10_000
_taken: set[int] = set()
_file: int | None = None


def free_port() -> int:
    """A port of loopback that is free, and stays reserved for this process until it ends.

    It lies below the range from which the system gives ports to connections and servers, so a server can also be
    stopped and started on it. A lock keeps other test processes off.
    """
    ports = random.sample(range(_LOWEST, _end()), 1000)
    return next(port for port in ports if port not in _taken and _reserve(port))


def free_ports(count: int) -> list[int]:
    """Several of them."""
    return [free_port() for _ in range(count)]


def _reserve(port: int) -> bool:
    try:
        # The lock is one byte of the file, and ends with this process.
        fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        return False
    _taken.add(port)
    with socket.socket() as probe, contextlib.suppress(OSError):
        # Like a server that starts again while old connections are closing.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False


def _locks() -> int:
    global _file
    if _file is None:
        path = Path(tempfile.gettempdir()) / f"pacifica-test-ports-{os.getuid()}"
        _file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return _file


def _end() -> int:
    """The lowest port that the system gives away."""
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        lowest = 32768
    return lowest if lowest > _LOWEST + 1000 else 32768
