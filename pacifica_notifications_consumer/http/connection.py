"""A connection of a client."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
import time
from http import HTTPStatus
from typing import Any

from .errors import HTTPError
from .limits import ServerLimits

#: Bytes of a whole request beyond which reading it may take its time.
_LARGE = 64 << 10
#: Seconds that a client is given to read its last answer.
_LINGER_SECONDS = 1.0
_PIECE = 1 << 16
_LARGEST_PIECE = 1 << 20
_LONGEST_LINE = 4096
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)
#: Its client waits to be told to go on, or the length of its body is not known.
_WANTS_MORE = re.compile(rb"\r\n(expect|transfer-encoding)[ \t]*:", re.IGNORECASE)
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Closed(ConnectionError):  # noqa: N818  (what happened is its name)
    """The client has closed the connection, or does not speak any more."""


class Connection:
    """A connection, with what has come over it and was not used yet.

    Its socket never blocks.

    Args:
        sock: The socket.
        address: The client's address, as ``socket.accept`` returns it.
        tls: What to secure it with, if it is to be.
        limits: What its client may cost.

    Attributes:
        address: As given.
        limits: As given.
        deadline: When it is given up unless a request has come, on the monotonic clock.
        problem: Why the next request cannot be taken, if that is known before its head is whole.
        is_large: Whether the request that has come has a body that is still to be read, and may take its time.
        lingers: Whether it is only kept open until the client has read its last answer.
        busy: Whether a request is being answered.
        patient: Whether the thread that serves it may wait for the client.
    """

    def __init__(self, sock: socket.socket, address: Any, tls: ssl.SSLContext | None, limits: ServerLimits) -> None:
        self.address = address
        self.limits = limits
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        if tls is not None:
            sock = tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self.socket = sock
        self._shaking_hands = tls is not None
        self._buffer = bytearray()
        # Where the head of the next request ends; below nought if it does not yet.
        self._head_end = -1
        self._searched = 0
        # Where its body ends, as far as that is known.
        self._request_end = 0
        self.deadline = time.monotonic() + limits.head_seconds
        self.problem: HTTPError | None = None
        self.is_large = False
        self.lingers = False
        self.busy = False
        self.patient = True

    def fileno(self) -> int:
        """The socket's number, for selectors."""
        return self.socket.fileno()

    def gather(self) -> bool:
        """Take in what the client has sent; returns whether there is a request to be answered.

        That is, its head is whole, and its body, too, unless it is a large one.

        Raises:
            Closed: Nothing will come any more.
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
                # A body that ends early gets its answer.
                if self._head_end >= 0:
                    self.is_large = True
                    return True
                raise Closed
            if not self._buffer:
                self.deadline = time.monotonic() + self.limits.head_seconds
            self._buffer += data
        return True

    def _is_ready(self) -> bool:
        if self._head_end < 0 and not self._find_head():
            return self.problem is not None
        return self.is_large or len(self._buffer) >= self._request_end

    def _find_head(self) -> bool:
        end = self._buffer.find(_END_OF_HEAD, max(0, self._searched - 3))
        # What has come so far may end with most of the mark already.
        so_far = end if end >= 0 else len(self._buffer) - len(_END_OF_HEAD) + 1
        if so_far > self.limits.head:
            reason = f"the header section has more than {self.limits.head} bytes"
            self.problem = HTTPError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)
            return False
        self._searched = len(self._buffer)
        if end < 0:
            return False
        self._head_end = end
        self._request_end = end + len(_END_OF_HEAD)
        # Only a guess, of a head that nobody has read yet: what is wrong with it is found out by who reads it.
        length = _LENGTH.search(self._buffer, 0, self._request_end)
        if length:
            self._request_end += int(length[1])
        self.is_large = self._request_end > _LARGE or bool(_WANTS_MORE.search(self._buffer, 0, end))
        return True

    def take_head(self) -> bytes:
        """The head of the request that has come, without the empty line; what remains is its body."""
        # Some clients send an empty line after a body, which is to be passed over.
        start = 2 if self._buffer.startswith(b"\r\n") else 0
        head = bytes(self._buffer[start : self._head_end])
        del self._buffer[: self._head_end + len(_END_OF_HEAD)]
        self._head_end, self._searched, self.is_large = -1, 0, False
        return head

    def rest(self) -> None:
        """Begin to wait for the next request."""
        seconds = self.limits.head_seconds if self._buffer else self.limits.idle_seconds
        self.deadline = time.monotonic() + seconds

    @property
    def has_more(self) -> bool:
        """Whether something has come already of the next request."""
        return bool(self._buffer)

    def read(self, most: int, deadline: float) -> bytes:
        """Read a part of a body, and wait for it.

        Args:
            most: How many bytes at most.
            deadline: When the whole body has taken too long, on the monotonic clock.

        Returns:
            The bytes; none when the client has closed the connection.

        Raises:
            HTTPError: Nothing came for some seconds, or the body takes too long.
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
                    raise HTTPError(HTTPStatus.REQUEST_TIMEOUT, "the body does not come") from None

    def read_line(self, deadline: float) -> bytes:
        """Read a line of a body in chunks, its end included.

        Raises:
            HTTPError: As `read`, or there is no end of it.
        """
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
        """Send all of it, and wait for the client to take it.

        Raises:
            Closed: The client has gone, or takes nothing.
        """
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
        """Wait until the socket can go on; False when the time is up, or nobody is to wait."""
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
        """Say that there is no more to come from here; returns whether the client may still be sending.

        Its last answer would be lost to it if the socket were closed with something unread.
        """
        if self._shaking_hands:
            return False
        self.lingers = True
        self.deadline = time.monotonic() + _LINGER_SECONDS
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

    def discard(self) -> None:
        """Read what the client still sends, and forget it.

        Raises:
            Closed: It sends nothing any more.
        """
        try:
            if not self.socket.recv(_PIECE):
                raise Closed
        except _NOT_NOW:
            return
        except OSError as error:
            raise Closed from error

    def close(self) -> None:
        """Close it."""
        with contextlib.suppress(OSError):
            self.socket.close()
