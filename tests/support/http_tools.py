"""Handlers for test servers, and raw requests that HTTP clients would not send."""

import re
import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

import requests

from pacifica_notifications_consumer.http.errors import HTTPError
from pacifica_notifications_consumer.http.limits import ServerLimits
from pacifica_notifications_consumer.http.server import Handler, Server
from tests.support.machine.waiting import DEADLINE

#: Limits with which the server waits for each client for longer than a test does.
PATIENT = ServerLimits(head_seconds=1000.0, idle_seconds=1000.0, stall_seconds=1000.0, body_seconds=1000.0)


class Echo(Handler):
    """Answers with the body of the request, or with the path of a GET."""

    def do_POST(self) -> None:
        try:
            body = self.read_body(1 << 20)
        except HTTPError as error:
            self.send_error(error.status, error.reason)
        else:
            self.reply(200, body)

    def do_GET(self) -> None:
        self.reply(200, self.path.encode())

    do_HEAD = do_GET


class Hasty(Echo):
    """Answers on the poller's thread."""

    quick = True

    def do_GET(self) -> None:
        self.reply(200, b"x" * 60_000)


def connect(url: str, timeout: float = DEADLINE) -> socket.socket:
    """Connect to the server of a URL."""
    parts = urlsplit(url)
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=timeout)


def rest_of(connection: socket.socket) -> bytes:
    """All bytes until the server closes the connection."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def raw(url: str, request: bytes) -> bytes:
    """Send bytes, and return all bytes until the server closes the connection."""
    with connect(url) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return rest_of(connection)


def replies(answer: bytes) -> list[bytes]:
    """Split a stream of responses."""
    return [piece for piece in re.split(rb"(?=HTTP/1\.1 \d)", answer) if piece]


def answered(url: str) -> None:
    """Check that a new client is answered; with `PATIENT` limits, no other client has been given up until then."""
    assert requests.post(url, data=b"{}", timeout=DEADLINE).content == b"{}"


def statuses(answer: bytes) -> list[int]:
    return [int(reply.split()[1]) for reply in replies(answer)]


def idle(stack: ExitStack, server: Server, count: int, first: bytes = b"") -> list[socket.socket]:
    """Connect clients that send these bytes and then nothing."""
    clients = []
    for _ in range(count):
        client = stack.enter_context(connect(server.url))
        if first:
            client.sendall(first)
        clients.append(client)
    return clients
