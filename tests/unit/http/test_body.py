"""Bodies take memory for their bytes, not for the pieces in which they arrive."""

import io
import socket
import threading
import tracemalloc
from collections.abc import Callable

import pytest

from pacifica_notifications_consumer.endpoint import HTTPRequest
from pacifica_notifications_consumer.http.body import ChunkedBody
from pacifica_notifications_consumer.http.connection import Connection
from tests.support.http_tools import PATIENT

SIZE = 100_000


@pytest.fixture
def chunked() -> Callable[[], bytes]:
    """Reads a body in chunks of two bytes, which another thread sends."""

    def read() -> bytes:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            sock, address = listener.accept()
        connection = Connection(sock, address, None, PATIENT, lambda _: None)
        sender = threading.Thread(target=client.sendall, args=(wire,))
        sender.start()
        with client:
            body = ChunkedBody(connection).read()
            sender.join()
        connection.close()
        return body

    wire = b"2\r\nab\r\n" * (SIZE // 2) + b"0\r\n\r\n"
    return read


@pytest.fixture
def framed() -> Callable[[], bytes]:
    """Reads a body that a web framework gives in pieces of two bytes."""
    sent = io.BytesIO(b"ab" * (SIZE // 2))
    request = HTTPRequest("POST", "/receive", {"Transfer-Encoding": "chunked"}, lambda _: sent.read(2))
    return lambda: request.read_body(SIZE)


@pytest.mark.sampled
@pytest.mark.parametrize("way", ["chunked", "framed"])
def test_memory_of_small_pieces(way: str, request: pytest.FixtureRequest) -> None:
    """A body in pieces of two bytes takes about its size: an object for each piece takes dozens of times as much."""
    read: Callable[[], bytes] = request.getfixturevalue(way)
    tracemalloc.start()
    try:
        body = read()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(body) == SIZE
    assert peak < 6 * SIZE
