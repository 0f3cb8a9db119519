"""A load generator: many clients in one thread, so that what is measured is the server."""

from __future__ import annotations

import errno
import gc
import selectors
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import attrs

_PIECE = 1 << 16
_MOST_RECONNECTIONS = 100


@attrs.frozen(kw_only=True)
class Load:
    """What was measured.

    Args:
        rate: Answered requests per second.
        p50: The median of the seconds from the request to the end of its answer.
        p99: The same of the slowest hundredth.
        longest: The same of the slowest.
    """

    rate: float
    p50: float
    p99: float
    longest: float


def post_for(
    seconds: float,
    url: str,
    bodies: Iterator[bytes],
    *,
    clients: int,
    keep_alive: bool,
    authorization: str = "Bearer t",
) -> Load:
    """Post one body after the other with some clients at the same time, and measure.

    Args:
        seconds: For how long.
        url: To where.
        bodies: What; each is sent once.
        clients: How many post at the same time, each waiting for its answer.
        keep_alive: Whether a client keeps its connection, or makes a new one for each post.
        authorization: What it shows.

    Raises:
        ConnectionError: An answer was none of 2xx, or did not come.
    """
    parts = urlsplit(url)
    address = (str(parts.hostname), int(parts.port or 80))
    connection = "keep-alive" if keep_alive else "close"
    head = (
        f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: python-requests/2.25.1\r\n"
        f"Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: {connection}\r\n"
        f"Content-Type: application/json\r\nAuthorization: {authorization}\r\nContent-Length: "
    ).encode()
    requests = (b"%b%d\r\n\r\n%b" % (head, len(body), body) for body in bodies)
    return _Generator(address, requests, clients, keep_alive).run(seconds)


class _Client:
    __slots__ = ("answer", "rest", "socket", "started")

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.answer = b""
        self.rest = memoryview(b"")
        self.started = 0.0


class _Generator:
    def __init__(self, address: tuple[str, int], requests: Iterator[bytes], clients: int, keep_alive: bool) -> None:
        self._address = address
        self._requests = requests
        self._clients = [_Client() for _ in range(clients)]
        self._keep_alive = keep_alive
        self._selector = selectors.DefaultSelector()
        self._taken: list[float] = []
        self._again = 0

    def run(self, seconds: float) -> Load:
        gc.collect()
        gc.disable()
        started = time.perf_counter()
        try:
            for client in self._clients:
                self._begin(client)
            until = started + seconds
            # However slow it is, each client gets an answer.
            while time.perf_counter() < until or len(self._taken) < len(self._clients):
                ready = self._selector.select(30.0)
                if not ready:
                    raise ConnectionError("the server does not answer any more")
                for key, events in ready:
                    self._go_on(key.data, events)
            elapsed = time.perf_counter() - started
        finally:
            gc.enable()
            for client in self._clients:
                if client.socket:
                    client.socket.close()
            self._selector.close()
        taken = sorted(self._taken)
        return Load(
            rate=len(taken) / elapsed,
            p50=taken[len(taken) // 2],
            p99=taken[min(len(taken) - 1, len(taken) * 99 // 100)],
            longest=taken[-1],
        )

    def _begin(self, client: _Client) -> None:
        """Send the next request, over a new connection if there is none."""
        request = next(self._requests)
        client.answer = b""
        client.started = time.perf_counter()
        if client.socket is None:
            client.socket = socket.socket()
            client.socket.setblocking(False)
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            result = client.socket.connect_ex(self._address)
            if result not in (0, errno.EINPROGRESS):
                raise ConnectionError(f"cannot connect to {self._address}: {errno.errorcode[result]}")
            client.rest = memoryview(request)
            self._selector.register(client.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, client)
            return
        try:
            client.rest = memoryview(request)[self._send(client.socket, request) :]
        except (ConnectionResetError, BrokenPipeError):
            self._hang_up(client)
            self._begin(client)
            return
        if client.rest:
            self._selector.modify(client.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, client)

    @staticmethod
    def _send(sock: socket.socket, data: bytes | memoryview) -> int:
        try:
            return sock.send(data)
        except BlockingIOError:
            return 0

    def _go_on(self, client: _Client, events: int) -> None:
        assert client.socket
        try:
            if events & selectors.EVENT_WRITE and client.rest:
                client.rest = client.rest[self._send(client.socket, client.rest) :]
                if not client.rest:
                    self._selector.modify(client.socket, selectors.EVENT_READ, client)
            if events & selectors.EVENT_READ:
                self._receive(client, client.socket)
        except (ConnectionResetError, BrokenPipeError):
            # Some servers end a kept connection after a while, perhaps just when the next request comes.
            if client.answer or self._again > _MOST_RECONNECTIONS:
                raise
            self._again += 1
            self._hang_up(client)
            self._begin(client)

    def _receive(self, client: _Client, sock: socket.socket) -> None:
        try:
            data = sock.recv(_PIECE)
        except BlockingIOError:
            return
        client.answer += data
        if not self._is_whole(client.answer):
            if not data:
                raise ConnectionResetError(f"the server hung up: {client.answer[:200]!r}")
            return
        if client.answer[9:10] != b"2":
            raise ConnectionError(f"the server refused: {client.answer[:500]!r}")
        self._taken.append(time.perf_counter() - client.started)
        if not self._keep_alive or b"\r\nConnection: close" in client.answer:
            self._hang_up(client)
        self._begin(client)

    def _hang_up(self, client: _Client) -> None:
        if client.socket:
            self._selector.unregister(client.socket)
            client.socket.close()
            client.socket = None

    @staticmethod
    def _is_whole(answer: bytes) -> bool:
        end = answer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = answer[:end].lower()
        start = head.find(b"content-length:")
        if start < 0:
            return head[9:12] == b"204"
        length = int(head[start + 15 :].split(b"\r\n", 1)[0])
        return len(answer) >= end + 4 + length
