"""Connections to services that break off if an answer arrives too slowly; sockets' time-outs begin anew with a byte."""

from __future__ import annotations

import errno
import http.client
import socket
import time
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

#: An answer may take this number of time-outs of the socket, plus those for its size at this rate in bytes per second.
_PATIENCE, _SLOWEST = 2.0, 1000


class TooSlow(TimeoutError):  # noqa: N818  (the name says what happened)
    """An answer arrives too slowly."""


class _PacedIO(socket.SocketIO):
    """Reads an answer, head and body; only the time of waiting for it counts."""

    _sock: socket.socket
    _waited, _received = 0.0, 0

    def readinto(self, buffer: Any) -> int | None:
        began = time.monotonic()
        size = super().readinto(buffer)
        self._waited += time.monotonic() - began
        self._received += size or 0
        timeout = self._sock.gettimeout()
        if size and timeout and self._waited > _PATIENCE * timeout + self._received / _SLOWEST:
            raise TooSlow(errno.ETIMEDOUT, f"it sent {self._received} bytes in {self._waited:.0f} seconds")
        return size


class _Response(http.client.HTTPResponse):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # A socket makes a `SocketIO`, and has no other way to choose its class.
        self.fp.raw.__class__ = _PacedIO


def _paced(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    connection = type(pool.__name__, (pool.ConnectionCls,), {"response_class": _Response})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})


_POOLS = {"http": _paced(HTTPConnectionPool), "https": _paced(HTTPSConnectionPool)}


class PacedAdapter(HTTPAdapter):
    """Makes such connections, with and without an HTTP proxy."""

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        """See `HTTPAdapter`."""
        super().init_poolmanager(*arguments, **named)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *arguments: Any, **named: Any) -> Any:
        """See `HTTPAdapter`."""
        manager = super().proxy_manager_for(*arguments, **named)
        manager.pool_classes_by_scheme = _POOLS
        return manager
