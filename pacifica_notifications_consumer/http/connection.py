"""A client's connection: a non-blocking socket and the bytes received from it."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

from .errors import HTTPError
from .limits import ServerLimits
from .request import Head

#: Size in bytes beyond which a request's body is large: it is read on a thread, not gathered by the poller.
_LARGE = 64 << 10
#: Seconds that a client has to send the rest of a refused body, and to read its last response; as in nginx.
_LINGER_SECONDS = 5.0
_PIECE = 1 << 16
_LARGEST_PIECE = 1 << 20
_LONGEST_LINE = 4096
_END_OF_HEAD = b"\r\n\r\n"
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Closed(ConnectionError):  # noqa: N818  (the name says what happened)
    """The client has closed the connection or stopped reading."""


class Connection:
    """A client's connection, with the received bytes that no request has used yet.

    ``allowance`` is `Handler.allowance`.
    """

    def __init__(
        self,
        sock: socket.socket,
        address: Any,
        tls: ssl.SSLContext | None,
        limits: ServerLimits,
        allowance: Callable[[Head], int | None],
    ) -> None:
        self.address = address
        self.limits = limits
        self._allowance = allowance
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        if tls is not None:
            sock = tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self.socket = sock
        self._shaking_hands = tls is not None
        self._buffer = bytearray()
        #: The head of the next request; None if it has not arrived.
        self.head: Head | None = None
        self._searched = 0
        # Offsets of the ends of that head, and of as much of its body as is waited for.
        self._head_end = self._request_end = 0
        #: When the connection is closed if no whole request has arrived, on the monotonic clock.
        self.deadline = time.monotonic() + limits.head_seconds
        #: Why the next request is refused, if its head is malformed or too large to be read to its end.
        self.problem: HTTPError | None = None
        self.is_large = False  #: whether the request that has arrived has a large body, which is still to be read
        self.lingers = False  #: whether it stays open only until the client has read its last response
        self.busy = False  #: whether a request is being answered
        self.is_known = False  #: whether the sender of the request that has arrived may be waited for
        self.is_claim = False  #: whether a thread serves it for a sender who is not known for certain
        self.counted = 0  #: how many of its bytes the poller has counted
        self.patient = True  #: whether the thread that serves the connection may wait for the client

    def fileno(self) -> int:
        """The socket's file descriptor, for selectors."""
        return self.socket.fileno()

    def gather(self) -> bool:
        """Receive the available bytes; returns whether a request can be answered.

        That is so when its head has arrived and its body, too, unless that is large or not awaited. Raises `Closed`.
        """
        while not self._is_ready():
            try:
                if self._shaking_hands:
                    self.socket.do_handshake()  # type: ignore[attr-defined]
                    self._shaking_hands = False
                data = self.socket.recv(_PIECE)
            except _NOT_NOW:
                return False
            except OSError as error:
                raise Closed from error
            if not data:
                # A body that ends early is answered with an error.
                if self.head is not None:
                    self.is_large = True
                    return True
                raise Closed
            if not self._buffer:
                self.deadline = time.monotonic() + self.limits.head_seconds
            self._buffer += data
        return True

    def _is_ready(self) -> bool:
        if self.head is None and not self._find_head():
            return self.problem is not None
        return self.is_large or len(self._buffer) >= self._request_end

    def _find_head(self) -> bool:
        end = self._buffer.find(_END_OF_HEAD, max(0, self._searched - 3))
        # The last three bytes may be the beginning of the empty line.
        so_far = end if end >= 0 else len(self._buffer) - len(_END_OF_HEAD) + 1
        if so_far > self.limits.head:
            reason = f"the header section has more than {self.limits.head} bytes"
            self.problem = HTTPError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)
            return False
        self._searched = len(self._buffer)
        if end < 0:
            return False
        # RFC 9112, section 2.2: an empty line before the request line is ignored; some clients send one after a body.
        start = 2 if self._buffer.startswith(b"\r\n") else 0
        try:
            self.head = Head.parse(bytes(self._buffer[start:end]), self.limits.fields)
        except HTTPError as error:
            self.problem = error
            return False
        self._head_end = self._request_end = end + len(_END_OF_HEAD)
        self._plan_body(self.head)
        return True

    def _plan_body(self, head: Head) -> None:
        """Decide by the head how much of the body is waited for."""
        try:
            length = head.headers.body_length()
        except HTTPError:
            # The handler finds this, too, and refuses the request.
            return
        allowed = self._allowance(head)
        self.is_known = allowed is None
        # The client waits for ``100 Continue``, or the size of the body is not known.
        wants_more = length is None or "Expect" in head.headers
        if allowed is None:
            self._request_end += length or 0
            self.is_large = wants_more or self._request_end > _LARGE
        elif not wants_more and length is not None and length <= allowed:
            self._request_end += length

    def take_head(self) -> Head:
        """Remove the head of the request from the buffer and return it."""
        head, self.head = cast("Head", self.head), None
        del self._buffer[: self._head_end]
        self._searched, self.is_large, self.is_known = 0, False, False
        return head

    def rest(self) -> None:
        """Set the deadline for the next request."""
        seconds = self.limits.head_seconds if self._buffer else self.limits.idle_seconds
        self.deadline = time.monotonic() + seconds

    @property
    def held(self) -> int:
        """The number of bytes that have been received and not used yet."""
        return len(self._buffer)

    def read(self, most: int, deadline: float) -> bytes:
        """Read at most so many bytes of a body; none when the client has closed the connection.

        Raises:
            HTTPError: No bytes arrived for `ServerLimits.stall_seconds`, or the monotonic clock passes the deadline.
        """
        if self._buffer:
            data = bytes(self._buffer[:most])
            del self._buffer[:most]
            return data
        while True:
            try:
                return self.socket.recv(min(most, _LARGEST_PIECE))
            except _NOT_NOW as reason:
                if not self._wait(reason, min(self.limits.stall_seconds, deadline - time.monotonic())):
                    raise HTTPError(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time") from None

    def read_line(self, deadline: float) -> bytes:
        """Read a line of a chunked body, with its line end; raises `HTTPError` as `read` does, or if it is too long."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _LONGEST_LINE:
                raise HTTPError(HTTPStatus.BAD_REQUEST, "a line of the chunked body is too long")
            held, self._buffer = self._buffer, bytearray()
            data = self.read(_PIECE, deadline)
            self._buffer = held + data
            if not data:
                raise HTTPError(HTTPStatus.BAD_REQUEST, "the body ended early")
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line

    def send(self, data: bytes) -> None:
        """Send all bytes, and wait for the client to take them; raises `Closed` if it takes none."""
        rest = memoryview(data)
        while True:
            try:
                sent = self.socket.send(rest)
            except _NOT_NOW as reason:
                if not self._wait(reason, self.limits.stall_seconds, select.POLLOUT):
                    raise Closed from None
                continue
            except OSError as error:
                raise Closed from error
            if sent == len(rest):
                return
            rest = rest[sent:]

    def _wait(self, reason: Exception, seconds: float, event: int = select.POLLIN) -> bool:
        """Wait until the socket is ready; False on timeout, or if the connection is not `patient`."""
        if not self.patient:
            return False
        if isinstance(reason, ssl.SSLWantReadError):
            event = select.POLLIN
        elif isinstance(reason, ssl.SSLWantWriteError):
            event = select.POLLOUT
        poll = select.poll()
        poll.register(self.socket, event)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def linger(self) -> bool:
        """Shut down sending; returns whether the client may still be sending.

        Closing a socket that has unread bytes would reset the connection: the response would be lost (RFC 9112, 9.6).
        """
        if self._shaking_hands:
            return False
        self.lingers = True
        self._buffer.clear()
        self.deadline = time.monotonic() + _LINGER_SECONDS
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

    def discard(self) -> None:
        """Read and discard the bytes that the client still sends; raises `Closed` after the last."""
        try:
            if not self.socket.recv(_PIECE):
                raise Closed
        except _NOT_NOW:
            return
        except OSError as error:
            raise Closed from error

    def close(self) -> None:
        """Close the socket."""
        with contextlib.suppress(OSError):
            self.socket.close()
