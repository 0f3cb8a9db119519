"""A small HTTP server on `http.server`, for the endpoint, the status page and the sandbox.

Design: one thread, the poller, waits for all connections. It answers whole requests to a quick handler itself. All
other requests are answered on a bounded number of threads: those to other handlers, and those with a large body, which
is read while it arrives. By the head of a request, its handler decides whether its client is waited for at all. Idle
and slow clients, however many, therefore delay no other client. Connections beyond the limit, or beyond their deadline,
and those that hold too much, are closed.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import queue
import resource
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from http.server import HTTPServer
from typing import Any, cast

import attrs

from ..errors import EndpointError
from ..settings.converters import check, header_text
from ..settings.converters import port as is_port
from .connection import Connection
from .errors import HTTPError
from .handler import Handler
from .limits import ServerLimits
from .poller import Poller

__all__ = ["Handler", "Server", "serve"]

log = logging.getLogger(__name__)

#: Maximum number of requests that have a thread or wait for one; further connections are closed.
_MOST_QUEUED = 1024
#: Once this many requests are collected, they are answered before further ones are read.
_MOST_TOGETHER = 64
#: Connections take at most this part of the files that may be open: two servers half of them; the rest is for jobs.
_PART_OF_FILES = 4
_HANG_UP_SECONDS = 5.0
#: Seconds to wait before accepting the next connection when the limit of open files is reached.
_PAUSE_WITHOUT_FILES = 0.05


class Server(HTTPServer):
    """Polls its connections on one thread, and answers requests on a bounded number of others.

    Requests to a handler that is `Handler.quick`, except large ones, are answered on the poller's thread, and those
    that arrive at the same time are answered together. All threads are daemon threads.

    Args:
        address: The address and the port to listen on.
        handler: The class that answers the requests.
        tls: The TLS context; None for plain HTTP.
        limits: Limits on the resources that clients may use.
    """

    # The default of 5 drops connections when a few dozen clients connect at once.
    request_queue_size = 1024
    # A port that another server uses must be an error, not shared with it.
    allow_reuse_port = False

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[Handler],
        tls: ssl.SSLContext | None = None,
        limits: ServerLimits | None = None,
    ) -> None:
        #: Limits on the resources that clients may use.
        self.limits = limits or ServerLimits()
        self.address_family = _family(address[0])
        self._handler = handler
        self._tls = tls
        self._queue: queue.SimpleQueue[Connection | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._threads_lock = threading.Lock()
        # Connections that wait for a thread or have one.
        self._load = 0
        self._claims = 0  # those of them whose sender is not known for certain
        self._closing = threading.Event()
        super().__init__(address, handler)
        self.socket.setblocking(False)
        self._poller = Poller(
            self.socket, self._accept, self._serve, lambda: self._load, self.limits.connections, self.limits.held
        )

    @property
    def url(self) -> str:
        """The server's URL, ``http://host:port`` or ``https://host:port``."""
        scheme = "https" if self._tls else "http"
        host, port = self.server_address[:2]
        shown = f"[{host!s}]" if self.address_family is socket.AF_INET6 else str(host)
        return f"{scheme}://{shown}:{port}"

    def server_bind(self) -> None:
        """Bind without the reverse DNS look-up of `HTTPServer`, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def serve_forever(self, poll_interval: float = 0.5) -> None:  # noqa: ARG002  (nothing is polled)
        """Serve until `shutdown`."""
        self._poller.work()

    @property
    def alive(self) -> bool:
        """Whether the server accepts requests."""
        return self._poller.working

    def shutdown(self) -> None:
        """Stop accepting connections and requests."""
        self._poller.stop()

    def _accept(self) -> Connection | None:
        try:
            client, address = self.socket.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                # The limit of open files is reached: close an idle connection.
                self._poller.make_room()
                time.sleep(_PAUSE_WITHOUT_FILES)
            return None
        try:
            return Connection(client, address, self._tls, self.limits, self._handler.allowance)
        except OSError:
            # The client has disconnected already.
            client.close()
            return None

    def _serve(self, connections: Sequence[Connection], more: Callable[[], Sequence[Connection]]) -> None:
        begun: list[tuple[Connection, Handler]] = []
        while connections:
            for connection in connections:
                if (connection.is_large or not self._handler.quick) and self._admits(connection):
                    self._pass_to_thread(connection)
                    continue
                # All clients wait for this thread: a client that does not read its response at once is disconnected.
                connection.patient = False
                if handler := self._begin(connection):
                    begun.append((connection, handler))
                else:
                    self._poller.forget(connection)
                    connection.close()
            # Requests that have arrived meanwhile are answered together with these.
            connections = more() if 0 < len(begun) < _MOST_TOGETHER else ()
        self._finish(begun)
        for connection, handler in begun:
            if not self._stays(connection, handler):
                self._poller.forget(connection)
                connection.close()

    def _admits(self, connection: Connection) -> bool:
        """Whether a request may take a thread; if not, it is refused without reading its body."""
        head = connection.head
        connection.is_claim = head is not None and connection.is_known and not self._handler.is_certain(head)
        if connection.is_claim and self._claims >= max(1, min(self.limits.threads, self.limits.connections) // 2):
            reason = "too many bodies of senders without the token are being read; send it again later"
            connection.problem = HTTPError(HTTPStatus.SERVICE_UNAVAILABLE, reason)
            return False
        return True

    def _pass_to_thread(self, connection: Connection) -> None:
        self._poller.forget(connection)
        connection.busy = False
        with self._threads_lock:
            if self._load >= min(_MOST_QUEUED, self.limits.connections) or not self._have_thread():
                connection.close()
                return
            self._load += 1
            self._claims += connection.is_claim
        self._queue.put(connection)

    def _have_thread(self) -> bool:
        """Start another thread if all are busy; returns whether there is any."""
        # One thread is left to known senders, even if the limit is one.
        if self._load >= len(self._threads) and len(self._threads) < max(self.limits.threads, self._claims + 1):
            thread = threading.Thread(target=self._work, name=f"http {len(self._threads) + 1}", daemon=True)
            try:
                thread.start()
                self._threads.append(thread)
            except RuntimeError as error:
                log.error("no further thread can be started for requests: %s", error)  # noqa: TRY400
        return bool(self._threads)

    def _work(self) -> None:
        while connection := self._queue.get():
            # A thread does not wait for a client that may be any.
            connection.patient = connection.is_known
            is_claim = connection.is_claim
            handler = self._begin(connection)
            if handler:
                self._finish([(connection, handler)])
            with self._threads_lock:
                self._load -= 1
                self._claims -= is_claim
            if handler and self._stays(connection, handler) and not self._closing.is_set():
                self._poller.take(connection)
            else:
                connection.close()

    def _begin(self, connection: Connection) -> Handler | None:
        """Answer a request, or prepare to answer it together with others; None if that failed."""
        try:
            return self._handler(cast("Any", connection), connection.address, self)
        except Exception:
            log.exception("unexpected error while answering a request; the connection was closed")
            return None

    def _finish(self, begun: Sequence[tuple[Connection, Handler]]) -> None:
        """Answer the deferred requests."""
        deferred = [handler for _, handler in begun if handler.deferred]
        if not deferred:
            return
        try:
            self._handler.answer_together(deferred)
        except Exception:
            log.exception("unexpected error while answering %d requests; their connections were closed", len(deferred))
            for handler in deferred:
                handler.close_connection = True

    @staticmethod
    def _stays(connection: Connection, handler: Handler) -> bool:
        """Whether the connection stays open."""
        if not handler.close_connection:
            connection.rest()
            return True
        return handler.body_left and connection.linger()

    def hang_up(self) -> None:
        """Let each thread finish its current request, wait up to 5 seconds for them, and close all connections."""
        self._closing.set()
        for _ in self._threads:
            self._queue.put(None)
        deadline = time.monotonic() + _HANG_UP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._poller.close()


@contextlib.contextmanager
def serve(
    handler: type[Handler],
    address: str,
    port: int,
    tls: ssl.SSLContext | None = None,
    limits: ServerLimits | None = None,
    *,
    settings: tuple[str, str] = ("address", "port"),
) -> Iterator[Server]:
    """Listen, and serve in background threads until the context ends.

    Args:
        handler: The class that answers the requests.
        address: The address to listen on, such as ``127.0.0.1``.
        port: The port to listen on; 0 picks a free one.
        tls: The TLS context; None for plain HTTP.
        limits: Limits on the resources that clients may use.
        settings: The names of the settings of the address and of the port, for errors.

    Raises:
        ConfigurationError: The address is empty, or the port is not a number from 0 to 65535.
        EndpointError: The address or the port cannot be used.
    """
    limits = _fitted(limits or ServerLimits())
    with _naming(address, port, settings):
        server = Server((address, port), handler, tls, limits)
    thread = threading.Thread(target=server.serve_forever, name=f"http {server.url}", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        # No connection is accepted from here on; requests that have a thread are still answered.
        server.server_close()
        server.hang_up()


@contextlib.contextmanager
def reserved(address: str, port: int, settings: tuple[str, str] = ("address", "port")) -> Iterator[None]:
    """Hold an address until the context ends; raises the error that `serve` would raise."""
    with socket.socket(_family(address)) as holder:
        with _naming(address, port, settings):
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind((address, port))
            holder.listen()
        yield


@contextlib.contextmanager
def _naming(address: str, port: int, settings: tuple[str, str]) -> Iterator[None]:
    """Turn an error of listening into one that names the setting to change."""
    name_of_address, name_of_port = settings
    check(header_text, **{name_of_address: address})  # type: ignore[arg-type]
    check(is_port, **{name_of_port: port})  # type: ignore[arg-type]
    try:
        yield
    except (OSError, UnicodeError) as error:
        # UnicodeError: a name with an empty or a too long part.
        if isinstance(error, socket.gaierror | UnicodeError) or error.errno == errno.EADDRNOTAVAIL:
            advice = f"set `{name_of_address}` to an address of this machine"
        elif error.errno == errno.EADDRINUSE:
            advice = f"stop the process that uses it, or set `{name_of_port}` to another one (0 picks a free one)"
        else:
            advice = f"set `{name_of_port}` to one from 1024 on, which needs no rights"
        reason = getattr(error, "strerror", None) or error
        raise EndpointError(f"cannot listen on {address} port {port}: {reason}", advice) from error


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _fitted(limits: ServerLimits) -> ServerLimits:
    """Raise the process's limit of open files as far as the connections need, or else permit fewer connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = limits.connections * _PART_OF_FILES
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return limits
    fewer = max(1, soft // _PART_OF_FILES)
    _tell(
        f"only {fewer} connections may wait, not {limits.connections}: this process may open no more than {soft} "
        f"files; permit it {needed}, such as by `ulimit -n` or systemd's LimitNOFILE"
    )
    return attrs.evolve(limits, connections=fewer)


@functools.cache
def _tell(problem: str) -> None:
    """Log a warning, once for all servers."""
    log.warning("%s", problem)
