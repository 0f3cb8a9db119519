"""A small HTTP server on http.server, as the runner's endpoint and the sandbox's services need it."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .errors import EndpointError

_LARGEST_PORT = 65535
_HANG_UP_SECONDS = 5.0
_LONGEST_LENGTH = 18


class Server(ThreadingHTTPServer):
    """One thread a connection, none of which keeps the process alive."""

    daemon_threads = True
    # The default of 5 drops connections when a few dozen clients connect at once.
    request_queue_size = 128
    # Another server that listens on the same port must be noticed, not shared with.
    allow_reuse_port = False

    def __init__(self, address: tuple[str, int], handler: type[Handler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._connections_lock = threading.Lock()
        super().__init__(address, handler)

    @property
    def url(self) -> str:
        """Where it listens, as ``http://host:port``."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if self.address_family is socket.AF_INET6 else f"http://{host!s}:{port}"

    def server_bind(self) -> None:
        """Bind without the reverse look-up of one's own name, which can take seconds."""
        super(ThreadingHTTPServer, self).server_bind()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    @contextlib.contextmanager
    def connected(self, connection: socket.socket) -> Iterator[None]:
        """Remember a connection while this thread serves it."""
        with self._connections_lock:
            self._connections[threading.current_thread()] = connection
        try:
            yield
        finally:
            with self._connections_lock:
                del self._connections[threading.current_thread()]

    def hang_up(self) -> None:
        """Let every thread finish the request it is at, and no further one; waits for them a few seconds."""
        with self._connections_lock:
            threads = list(self._connections)
            for connection in self._connections.values():
                # What the client has not sent yet is not read any more, what it is owed can still be written.
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
        deadline = time.monotonic() + _HANG_UP_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


class BadRequest(Exception):  # noqa: N818  (named as HTTP names it)
    """A request cannot be taken; the handler answers with the status and the reason."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Handler(BaseHTTPRequestHandler):
    """Speaks HTTP/1.1 with keep-alive and sends each response in one write.

    A response in two writes waits about 40 ms for the other side's delayed acknowledgement.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    #: Seconds that a read may take before the connection is given up.
    timeout = 60.0
    server: Server

    def handle(self) -> None:
        """Serve a connection; a client that leaves in the middle of an answer is nobody's error."""
        with self.server.connected(self.connection), contextlib.suppress(ConnectionError, TimeoutError):
            super().handle()

    def finish(self) -> None:
        """End a connection, on which the last answer may not have gone out."""
        with contextlib.suppress(OSError):
            super().finish()

    def handle_expect_100(self) -> bool:
        """Tell a client that waits for it to go on; unflushed, some wait a second for that."""
        go_on = super().handle_expect_100()
        self.wfile.flush()
        return go_on

    def reply(self, status: int, body: bytes = b"", content_type: str = "", **headers: str) -> None:
        """Send a whole response; keyword arguments name headers, with ``_`` for ``-``."""
        self.send_response(status)
        if content_type:
            self.send_header("Content-Type", content_type)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def reply_json(self, status: int, document: Any, content_type: str = "application/json") -> None:
        """Send a document as JSON."""
        self.reply(status, json.dumps(document).encode("ascii"), content_type)

    def reply_problem(self, status: HTTPStatus, detail: str, **headers: str) -> None:
        """Send a refusal as RFC 9457 describes it: what is wrong, in words."""
        document = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
        self.reply(status, json.dumps(document).encode("ascii"), "application/problem+json", **headers)

    def content_length(self, limit: int | None = None) -> int:
        """The length of the request's body in bytes.

        Raises:
            BadRequest: It is missing, no number, or above the limit (in bytes).
        """
        length = self.headers.get("Content-Length", "")
        if not length or "Transfer-Encoding" in self.headers:
            # With both, a proxy in between may see another end of the request than we do.
            raise BadRequest(HTTPStatus.LENGTH_REQUIRED, "the request must carry a Content-Length, and come unchunked")
        if len(self.headers.get_all("Content-Length", [])) > 1:
            raise BadRequest(HTTPStatus.BAD_REQUEST, "there is more than one Content-Length")
        if not (length.isascii() and length.isdigit()):
            raise BadRequest(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
        if len(length) > _LONGEST_LENGTH:
            raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Content-Length is beyond all measure")
        if limit is not None and int(length) > limit:
            reason = f"the body has {length} bytes, the limit is {limit}"
            raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
        return int(length)

    def read_body(self, limit: int | None = None) -> bytes:
        """Read the request's whole body.

        Raises:
            BadRequest: As `content_length`, or the client closed the connection before it was whole.
        """
        length = self.content_length(limit)
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            raise BadRequest(HTTPStatus.BAD_REQUEST, f"the body ended after {len(body)} of {length} bytes")
        return body

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: who serves decides what is logged."""


@contextlib.contextmanager
def serve(handler: type[Handler], address: str, port: int) -> Iterator[Server]:
    """Listen, and serve in a background thread until the context ends.

    Args:
        handler: Answers the requests.
        address: The address to listen on, such as ``127.0.0.1``.
        port: The port to listen on; 0 picks a free one.

    Raises:
        EndpointError: The address or the port cannot be had.
    """
    if not 0 <= port <= _LARGEST_PORT:
        raise EndpointError(f"{port} is no port", f"choose one from 1 to {_LARGEST_PORT}, or 0 for a free one")
    try:
        server = Server((address, port), handler)
    except OSError as error:
        raise EndpointError(
            f"cannot listen on {address} port {port}: {error.strerror or error}",
            "choose an address that this machine has"
            if error.errno == errno.EADDRNOTAVAIL
            else "stop what uses it, or choose another port (0 picks a free one)",
        ) from error
    # The short poll only bounds how long the shutdown below waits.
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name=f"http {server.url}", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.hang_up()
        server.server_close()
