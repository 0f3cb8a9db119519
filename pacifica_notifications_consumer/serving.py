"""A small HTTP server on http.server, as the runner's endpoint and the sandbox's services need it.

A thread serves a connection only while there is a request to be answered. Idle and slow clients wait with the
doorman, so however many there are, a thread is free for the next one who has something to say.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import queue
import resource
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, cast

from .connections import Body, ChunkedBody, Closed, Connection, SizedBody
from .doorman import Doorman
from .errors import EndpointError
from .http_messages import BadRequest, Head, Headers

__all__ = ["BadRequest", "Handler", "Server", "serve"]

log = logging.getLogger(__name__)

#: Threads that answer requests at the same time, and requests that may wait for one of them.
MOST_THREADS, _MOST_QUEUED = 128, 4096
_MOST_FILES = 3 * _MOST_QUEUED
_LARGEST_PORT = 65535
_HANG_UP_SECONDS = 5.0
#: Seconds to wait before the next connection when there are too many open files.
_PAUSE_WITHOUT_FILES = 0.05
_GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


class Server(HTTPServer):
    """Serves connections on a bounded number of threads, none of which keeps the process alive."""

    # The default of 5 drops connections when a few dozen clients connect at once.
    request_queue_size = 1024
    # Another server that listens on the same port must be noticed, not shared with.
    allow_reuse_port = False

    def __init__(self, address: tuple[str, int], handler: type[Handler], tls: ssl.SSLContext | None = None) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._handler: Any = handler
        self._tls = tls
        self._queue: queue.SimpleQueue[Connection | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._threads_lock = threading.Lock()
        # Connections that wait for a thread or have one.
        self._load = 0
        self._served: dict[int, Connection] = {}
        self._closing = threading.Event()
        super().__init__(address, handler)
        self._doorman = Doorman(self._enqueue)

    @property
    def url(self) -> str:
        """Where it listens, as ``http://host:port``."""
        scheme = "https" if self._tls else "http"
        host, port = self.server_address[:2]
        shown = f"[{host!s}]" if self.address_family is socket.AF_INET6 else str(host)
        return f"{scheme}://{shown}:{port}"

    def server_bind(self) -> None:
        """Bind without the reverse look-up of one's own name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def shutdown(self) -> None:
        """Let nobody in any more."""
        # Wakes the thread that waits for the next connection, which would otherwise look up at its next poll only.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        super().shutdown()

    def get_request(self) -> tuple[Any, Any]:
        """Take the next connection; when there are no more files to be had, an idle one makes room."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._doorman.make_room()
                time.sleep(_PAUSE_WITHOUT_FILES)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  (socketserver's arguments)
        """Pass a new connection to a thread."""
        try:
            connection = Connection(request, self._tls)
        except OSError:
            # The client has gone already.
            self.shutdown_request(request)
            return
        if self._queue.qsize() > _MOST_QUEUED:
            connection.close()
        else:
            self._enqueue(connection)

    def _enqueue(self, connection: Connection) -> None:
        self._queue.put(connection)
        with self._threads_lock:
            self._load += 1
            if self._load > len(self._threads) and len(self._threads) < MOST_THREADS and not self._closing.is_set():
                thread = threading.Thread(target=self._work, name=f"http {len(self._threads) + 1}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _work(self) -> None:
        while True:
            connection = self._queue.get()
            if connection is None:
                return
            self._served[threading.get_ident()] = connection
            try:
                self._serve(connection)
            except Closed:
                connection.close()
            except Exception:
                log.exception("a request could not be answered")
                connection.close()
            del self._served[threading.get_ident()]
            with self._threads_lock:
                self._load -= 1

    def _serve(self, connection: Connection) -> None:
        """Answer the requests of a connection as long as they come without delay."""
        # Nobody is waited for while others wait for a thread.
        connection.set_patient(self._queue.empty())
        while connection.gather():
            # In this order: either we see that the server is closing, or the closing server sees that we are busy.
            connection.busy = True
            if self._closing.is_set():
                break
            connection.set_patient(True)
            handler = self._handler(connection, connection.socket, self)
            if self._closing.is_set():
                break
            if handler.close_connection:
                if handler.body_left and connection.linger():
                    self._doorman.take(connection)
                    return
                break
            connection.busy = False
            connection.rest()
            if not self._queue.empty():
                # Others wait for a thread. If this client has something to say already, that comes after them.
                self._doorman.take(connection)
                return
        else:
            if not self._closing.is_set():
                self._doorman.take(connection)
                return
        connection.close()

    def hang_up(self) -> None:
        """Let every thread finish the request it is at, and no further one; waits for them a few seconds."""
        self._closing.set()
        self._doorman.close()
        for connection in list(self._served.values()):
            # A request that has begun is read and answered; what comes after it is not.
            if not connection.busy:
                with contextlib.suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_RD)
        for _ in self._threads:
            self._queue.put(None)
        deadline = time.monotonic() + _HANG_UP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


class Handler(BaseHTTPRequestHandler):
    """Answers one request, in one write.

    A response in two writes waits about 40 ms for the other side's delayed acknowledgement.

    Attributes:
        connection: The client's socket.
        rfile: The request's body, of which nothing needs to be read.
        body_left: Whether some of it was not.
    """

    protocol_version = "HTTP/1.1"
    server: Server
    connection: socket.socket
    headers: Headers  # type: ignore[assignment]
    rfile: Body  # type: ignore[assignment]

    def setup(self) -> None:
        """Take over the connection."""
        self._client = cast("Connection", self.request)
        self.connection = self._client.socket
        self.wfile = _Writer(self._client)  # type: ignore[assignment]
        self.close_connection = True
        self.body_left = False

    def handle(self) -> None:
        """Answer the request; a client that leaves in the middle of that is nobody's error."""
        try:
            self._answer()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def finish(self) -> None:
        """End the request; the connection may serve others."""

    def _answer(self) -> None:
        self.command, self.request_version, self.requestline = "", self.protocol_version, ""
        try:
            head = self._read_head()
            self.rfile = self._open_body(head)
            method = self._method(head.method)
        except BadRequest as error:
            self.body_left = True
            self.send_error(error.status, error.reason)
            return
        self.close_connection = not head.keeps_connection
        method()
        if not self.rfile.is_read:
            self.close_connection = self.body_left = True

    def _read_head(self) -> Head:
        if self._client.problem:
            raise self._client.problem
        head = Head.parse(self._client.take_head())
        self.command, self.path, self.request_version = head.method, head.target, head.version
        self.requestline = f"{head.method} {head.target} {head.version}"
        self.headers = head.headers
        return head

    def _method(self, name: str) -> Callable[[], None]:
        method: Callable[[], None] | None = getattr(self, f"do_{name}", None)
        if method is None:
            raise BadRequest(HTTPStatus.NOT_IMPLEMENTED, f"the method {name[:50]} is not known here")
        return method

    def _open_body(self, head: Head) -> Body:
        go_on = None
        if expected := head.headers.get("Expect"):
            if expected.lower() != "100-continue":
                raise BadRequest(HTTPStatus.EXPECTATION_FAILED, "the only Expect that is known here is 100-continue")
            if head.version != "HTTP/1.0":
                go_on = self._go_on
        length = head.body_length()
        return ChunkedBody(self._client, go_on) if length is None else SizedBody(self._client, length, go_on)

    def _go_on(self) -> None:
        self._client.send(_GO_ON)

    def address_string(self) -> str:
        """The client's address."""
        with contextlib.suppress(OSError):
            return str(self.connection.getpeername()[0])
        return "a client that has gone"

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The time as HTTP writes it, made once a second."""
        return _now() if timestamp is None else formatdate(timestamp, usegmt=True)

    def reply(self, status: int, body: bytes = b"", content_type: str = "", **headers: str) -> None:
        """Send a whole response; keyword arguments name headers, with ``_`` for ``-``."""
        if not self.close_connection and not self.rfile.is_read:
            # What is left of it must not be taken for the next request.
            self.close_connection = True
        lines = [
            f"HTTP/1.1 {int(status)} {self.responses.get(status, ('',))[0]}",
            f"Server: {self.version_string()}",
            f"Date: {_now()}",
        ]
        if content_type:
            lines.append(f"Content-Type: {content_type}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if status != HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {len(body)}")
        if self.close_connection:
            lines.append("Connection: close")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        self._client.send(head if self.command == "HEAD" else head + body)

    def reply_json(self, status: int, document: Any, content_type: str = "application/json") -> None:
        """Send a document as JSON."""
        self.reply(status, json.dumps(document).encode("ascii"), content_type)

    def reply_problem(self, status: HTTPStatus, detail: str, **headers: str) -> None:
        """Send a refusal as RFC 9457 describes it: what is wrong, in words."""
        document = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
        self.reply(status, json.dumps(document).encode("ascii"), "application/problem+json", **headers)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what no method of this class has looked at."""
        self.close_connection = True
        self.reply_problem(HTTPStatus(code), explain or message or HTTPStatus(code).phrase)

    def read_body(self, limit: int | None = None) -> bytes:
        """Read the request's whole body.

        Args:
            limit: The most bytes that it may have.

        Raises:
            BadRequest: It is longer, malformed, or the client breaks off.
        """
        if limit is None:
            return self.rfile.read()
        if isinstance(self.rfile, SizedBody) and self.rfile.length > limit:
            reason = f"the body has {self.rfile.length} bytes, the limit is {limit}"
            raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
        body = self.rfile.read(limit)
        if not self.rfile.is_read and self.rfile.read(1):
            raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {limit} bytes")
        return body

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: who serves decides what is logged."""


class _Writer:
    """What http.server writes to."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def write(self, data: bytes) -> int:
        self._connection.send(data)
        return len(data)

    def flush(self) -> None:
        """There is nothing held back."""


_date = (0, "")


def _now() -> str:
    global _date
    second = int(time.time())
    if _date[0] != second:
        _date = (second, formatdate(second, usegmt=True))
    return _date[1]


@contextlib.contextmanager
def serve(handler: type[Handler], address: str, port: int, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Listen, and serve in background threads until the context ends.

    Args:
        handler: Answers the requests.
        address: The address to listen on, such as ``127.0.0.1``.
        port: The port to listen on; 0 picks a free one.
        tls: What to secure the connections with; None for plain HTTP.

    Raises:
        EndpointError: The address or the port cannot be had.
    """
    if not 0 <= port <= _LARGEST_PORT:
        raise EndpointError(f"{port} is no port", f"choose one from 1 to {_LARGEST_PORT}, or 0 for a free one")
    _raise_file_limit()
    try:
        server = Server((address, port), handler, tls)
    except OSError as error:
        raise EndpointError(
            f"cannot listen on {address} port {port}: {error.strerror or error}",
            "choose an address that this machine has"
            if error.errno == errno.EADDRNOTAVAIL
            else "stop what uses it, or choose another port (0 picks a free one)",
        ) from error
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name=f"http {server.url}", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        # From now on nobody is let in; those who are in get their answers.
        server.server_close()
        server.hang_up()


def _raise_file_limit() -> None:
    """Allow enough open files for all connections that may wait, if the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(_MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
