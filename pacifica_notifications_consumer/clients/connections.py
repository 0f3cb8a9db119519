"""Connections to services that break off if an answer arrives too slowly, or without an end.

Sockets' time-outs begin anew with a byte. Above the sockets, not every byte is seen: there are heads and trailers, and
compressed bytes that become none.
"""

from __future__ import annotations

import errno
import http.client
import io
import math
import socket
import time
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

from ..settings.converters import describe_size
from ..system.processes import without_credentials

#: An answer may take this number of time-outs of the socket, plus those for its size at this rate in bytes per second.
_PATIENCE, _SLOWEST = 2.0, 1000
#: Seconds in which a service must take a piece of a request, half a megabyte of an upload.
_SENDING = 120.0
#: The most bytes of a head, with all those that announce it, or of what surrounds the content of an answer.
MOST_AROUND = 64 << 10
#: The encodings of content that are asked for.
ENCODINGS = ("gzip", "deflate")


class TooSlow(TimeoutError):  # noqa: N818  (the name says what happened)
    """An answer arrives too slowly."""


class Endless(OSError):  # noqa: N818  (the name says what happened)
    """An answer goes on for longer, or with more bytes, than it may."""


class _PacedIO(socket.SocketIO):
    """Reads an answer, head and body; for the pace, only the time of waiting for it counts."""

    _sock: socket.socket
    _waited, _received = 0.0, 0
    _seconds, _deadline = math.inf, math.inf
    _size, _most = MOST_AROUND, MOST_AROUND

    def allow(self, seconds: float, size: int) -> None:
        self._seconds, self._deadline = seconds, time.monotonic() + seconds
        self._size, self._most = size, self._received + size

    def readinto(self, buffer: Any) -> int | None:
        began = time.monotonic()
        # Not after reading, because with the last bytes of a head there are many of the body.
        if self._received >= self._most:
            raise Endless(errno.EMSGSIZE, f"it sent more than {describe_size(self._size)}")
        if began > self._deadline:
            raise Endless(errno.ETIMEDOUT, f"it sent for longer than {self._seconds:g} seconds")
        size = super().readinto(buffer)
        self._waited += time.monotonic() - began
        self._received += size or 0
        timeout = self._sock.gettimeout()
        if size and timeout and self._waited > _PATIENCE * timeout + self._received / _SLOWEST:
            raise TooSlow(errno.ETIMEDOUT, f"it sent {self._received} bytes in {self._waited:.0f} seconds")
        return size


class PacedResponse(http.client.HTTPResponse):
    """An answer, whose head may have `MOST_AROUND` bytes; `allow` sets the limits of what follows."""

    _all_read = False

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # A socket makes a `SocketIO`, and has no other way to choose its class.
        self.fp.raw.__class__ = _PacedIO

    def read_next(self, buffer: memoryview) -> int:
        """Read what arrives next of the content, without waiting until the buffer is full; 0 at the end."""
        if self.chunked or self.fp is None:
            piece = self.read1(len(buffer))
            buffer[: len(piece)] = piece
            return len(piece)
        # For a larger buffer than its own, a `BufferedReader` gives what it has only with more, for which it waits.
        length = len(buffer) if self._all_read else io.DEFAULT_BUFFER_SIZE
        buffer = buffer[: length if self.length is None else min(length, self.length)]
        size: int = self.fp.readinto1(buffer)
        self._all_read = len(buffer) >= io.DEFAULT_BUFFER_SIZE
        if self.length is not None:
            self.length -= size
        if not size or self.length == 0:
            self.close()
        return size

    def allow(self, seconds: float, size: int) -> None:
        """Let the service send for a time from now, and a number of bytes as they are on the wire; then `Endless`."""
        if not self.isclosed():
            raw: Any = self.fp.raw
            raw.allow(seconds, size)


def _paced(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    base: Any = pool.ConnectionCls

    def connect(self: Any) -> None:
        self.takes_requests = False
        base.connect(self)
        self.takes_requests = True

    def send(self: Any, data: Any) -> None:
        # urllib3 would give a piece of a request as long as a connection may take.
        if self.sock is not None and self.takes_requests:
            self.sock.settimeout(_SENDING)
        base.send(self, data)

    connection = type(pool.__name__, (base,), {"response_class": PacedResponse, "connect": connect, "send": send})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})


_POOLS = {"http": _paced(HTTPConnectionPool), "https": _paced(HTTPSConnectionPool)}


class PacedAdapter(HTTPAdapter):
    """Makes such connections, with and without an HTTP proxy."""

    def build_response(self, *arguments: Any) -> requests.Response:
        """See `HTTPAdapter`; before the client, requests and authenticators can read `MOST_AROUND` bytes of it."""
        response = super().build_response(*arguments)
        # Otherwise requests would read a redirect, and decompress anything, also twice: bytes can become gigabytes.
        target = response.headers.pop("Location", "")
        if target and 300 <= response.status_code < 400:
            response.reason = f"{response.reason} (to {without_credentials(target)})"
        if response.headers.get("Content-Encoding", "").lower() not in ENCODINGS:
            response.raw.headers.discard("Content-Encoding")
        return response

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        """See `HTTPAdapter`."""
        super().init_poolmanager(*arguments, **named)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *arguments: Any, **named: Any) -> Any:
        """See `HTTPAdapter`."""
        manager = super().proxy_manager_for(*arguments, **named)
        manager.pool_classes_by_scheme = _POOLS
        return manager
