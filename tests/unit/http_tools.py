"""Ways to speak to a server that no HTTP client would choose."""

import re
import socket
from urllib.parse import urlsplit


def connect(url: str, timeout: float = 10.0) -> socket.socket:
    """Connect to the server of a URL."""
    parts = urlsplit(url)
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=timeout)


def rest_of(connection: socket.socket) -> bytes:
    """What comes until the server hangs up."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def raw(url: str, request: bytes) -> bytes:
    """Send bytes and return the answer up to where the server hangs up."""
    with connect(url) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return rest_of(connection)


def replies(answer: bytes) -> list[bytes]:
    """The single responses of an answer."""
    return [piece for piece in re.split(rb"(?=HTTP/1\.1 \d)", answer) if piece]
