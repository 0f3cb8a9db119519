"""A relay before a service that breaks connections, or cuts the network, where a test says so."""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

_BUFFER = 1 << 16


def answer_all(request: bytes, passed: int) -> int | None:
    """Let all answers pass."""
    return None


class Relay:
    """Passes bytes on in both directions.

    Args:
        url: The service's address, of whatever protocol over TCP.
        on_answer: See below.

    Attributes:
        port: The port of this machine where it listens.
        url: The same as a URL.
        requests: What clients have sent, by connection; only the first 64 KiB of each.
        request_limits: How many bytes of requests are passed on before the connection is reset, for each of the next
            connections.
        on_answer: Called with the request of a connection and the number of bytes of answers that have been passed on
            over it so far; returns how many more may be, before the connection is reset, or None for all.
    """

    def __init__(self, url: str, on_answer: Callable[[bytes, int], int | None] = answer_all) -> None:
        parts = urlsplit(url)
        self._target = (str(parts.hostname), parts.port or 80)
        self.on_answer = on_answer
        self.request_limits: list[int] = []
        self.requests: list[bytearray] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._sockets: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self._whole = threading.Event()
        self._whole.set()
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Let nothing pass, without a word to either side."""
        self._whole.clear()

    def mend(self) -> None:
        """Let all pass again; connections of before are reset, as by a router that has forgotten them."""
        while not self._sockets.empty():
            _reset(self._sockets.get())
        self._whole.set()

    def close(self) -> None:
        """Stop, and end all connections."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        self.mend()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            request = bytearray()
            self.requests.append(request)
            for each in (client, server):
                self._sockets.put(each)
            threading.Thread(target=self._pass_requests, args=(client, server, request), daemon=True).start()
            threading.Thread(target=self._pass_answers, args=(client, server, request), daemon=True).start()

    def _received(self, sender: socket.socket) -> Iterator[bytes]:
        """Yield all that comes; the end of it, too, waits while the network is cut."""
        while data := sender.recv(_BUFFER):
            self._whole.wait()
            yield data
        self._whole.wait()

    def _pass_requests(self, client: socket.socket, server: socket.socket, request: bytearray) -> None:
        limit = self.request_limits.pop(0) if self.request_limits else None
        with contextlib.suppress(OSError):
            for data in self._received(client):
                request += data[: _BUFFER - len(request)]
                if limit is not None and limit < len(data):
                    _reset(client)
                    _end(server)
                    return
                server.sendall(data)
                limit = None if limit is None else limit - len(data)
            server.shutdown(socket.SHUT_WR)

    def _pass_answers(self, client: socket.socket, server: socket.socket, request: bytearray) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            for data in self._received(server):
                allowed = self.on_answer(bytes(request), passed)
                if allowed is not None and allowed < len(data):
                    client.sendall(data[:allowed])
                    _reset(client)
                    _end(server)
                    return
                client.sendall(data)
                passed += len(data)
            client.shutdown(socket.SHUT_WR)


def _reset(connection: socket.socket) -> None:
    # With this the other side gets a reset, not an orderly end.
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    _end(connection)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RD)
    connection.close()
