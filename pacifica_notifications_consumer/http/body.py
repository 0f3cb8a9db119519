"""The bodies of requests, of a known size or chunked (RFC 9112, sections 6 and 7)."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from http import HTTPStatus

from .connection import Connection
from .errors import HTTPError
from .request import parse_field

#: Minimum transfer rate of a large body in bytes per second, on top of `ServerLimits.body_seconds`.
_SLOWEST_BODY = 50_000
_MOST_TRAILERS = 100
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(;[\t\x20-\x7e\x80-\xff]*)?\r\n")


class Body:
    """The body of a request, which ends before the connection does; ``go_on`` is called before the first read."""

    def __init__(self, connection: Connection, go_on: Callable[[], None] | None) -> None:
        self._connection = connection
        self._go_on = go_on
        self._deadline = 0.0
        self.is_read = False

    def read(self, size: int = -1) -> bytes:
        """Read a number of bytes, fewer only at the end of the body; all that remain if it is negative.

        Raises:
            HTTPError: The client closes the connection early, stalls, or sends malformed chunks.
        """
        raise NotImplementedError

    def _begin(self, seconds: float = 0.0) -> None:
        """Let the client send the body, and grant it so many seconds beside those that any body may take."""
        if not self._deadline:
            if self._go_on:
                self._go_on()
            self._deadline = time.monotonic() + self._connection.limits.body_seconds + seconds


class SizedBody(Body):
    """A body with a ``Content-Length`` (RFC 9112, section 6.2)."""

    def __init__(self, connection: Connection, length: int, go_on: Callable[[], None] | None = None) -> None:
        super().__init__(connection, go_on)
        self.length = self._left = length
        self.is_read = not length

    def read(self, size: int = -1) -> bytes:
        """See `Body.read`."""
        self._begin(self.length / _SLOWEST_BODY)
        wanted = self._left if size < 0 else min(size, self._left)
        first = self._connection.read(wanted, self._deadline) if wanted else b""
        if len(first) == wanted:
            return self._took(first)
        pieces = io.BytesIO()
        missing = wanted - pieces.write(first)
        while missing and (piece := self._connection.read(missing, self._deadline)):
            missing -= pieces.write(piece)
        if missing:
            came = self.length - self._left + wanted - missing
            raise HTTPError(HTTPStatus.BAD_REQUEST, f"the body ended after {came} of {self.length} bytes")
        return self._took(pieces.getvalue())

    def _took(self, data: bytes) -> bytes:
        self._left -= len(data)
        self.is_read = not self._left
        return data


class ChunkedBody(Body):
    """A chunked body (RFC 9112, section 7.1)."""

    def __init__(self, connection: Connection, go_on: Callable[[], None] | None = None) -> None:
        super().__init__(connection, go_on)
        self._chunk = 0

    def read(self, size: int = -1) -> bytes:
        """See `Body.read`."""
        self._begin()
        # An object for each chunk would take many times the size of a body in small chunks.
        pieces = io.BytesIO()
        missing = size
        while missing and not self.is_read:
            if not self._chunk:
                self._begin_chunk()
                continue
            piece = self._connection.read(self._chunk if size < 0 else min(self._chunk, missing), self._deadline)
            if not piece:
                raise HTTPError(HTTPStatus.BAD_REQUEST, "the body ended in the middle of a chunk")
            missing -= pieces.write(piece)
            self._chunk -= len(piece)
            self._deadline += len(piece) / _SLOWEST_BODY
            if not self._chunk and self._connection.read_line(self._deadline) != b"\r\n":
                raise HTTPError(HTTPStatus.BAD_REQUEST, "a chunk of the body does not have its announced size")
        return pieces.getvalue()

    def _begin_chunk(self) -> None:
        size = _CHUNK_SIZE.fullmatch(self._connection.read_line(self._deadline))
        if size is None:
            raise HTTPError(HTTPStatus.BAD_REQUEST, "a chunk of the body has no valid size")
        self._chunk = int(size[1], 16)
        if self._chunk:
            return
        for _ in range(_MOST_TRAILERS):
            line = self._connection.read_line(self._deadline)
            if line == b"\r\n":
                self.is_read = True
                return
            parse_field(line.removesuffix(b"\r\n").decode("latin-1"))
        raise HTTPError(HTTPStatus.BAD_REQUEST, "the chunked body has too many trailer fields")
