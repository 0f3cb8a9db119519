"""Polls all idle connections on one thread and hands over those on which a whole request has arrived.

An idle or slow client therefore takes no thread, and requests that arrive at the same time are served together.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence

import attrs

from .connection import Closed, Connection

log = logging.getLogger(__name__)

#: Seconds between two searches for connections whose deadline is over.
_EXPIRY_INTERVAL = 0.5
#: Connections that are accepted at once: those that are known wait meanwhile.
_MOST_ACCEPTED = 64
#: Seconds to wait after an unexpected error, which may occur again at once.
_PAUSE_AFTER_FAULT = 0.05


@attrs.define(eq=False, slots=False)
class Poller:
    """Accepts connections, and reads requests from them.

    ``accept`` returns None when no further client waits. ``serve`` is called with the connections on which a request
    has arrived, and with a function that returns those on which one has arrived since. It must `forget` each
    connection that it closes or passes to a thread; a thread returns it with `take`. ``elsewhere`` tells
    the number of those that are with threads, and ``most`` how many connections there may be. ``most_held`` is
    `ServerLimits.held`.
    """

    _listener: socket.socket
    _accept: Callable[[], Connection | None]
    _serve: Callable[[Sequence[Connection], Callable[[], Sequence[Connection]]], None]
    _elsewhere: Callable[[], int]
    _most: int
    _most_held: int

    def __attrs_post_init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._arriving: collections.deque[Connection] = collections.deque()
        self._waiting: dict[Connection, None] = {}
        self._holding: dict[Connection, None] = {}  # those with bytes, in the order in which they began to hold some
        self._wakeup_receiver, self._wakeup_sender = socket.socketpair()
        self._wakeup_receiver.setblocking(False)
        self._wakeup_sender.setblocking(False)
        self._closing = threading.Event()
        self._held = 0
        self._next_expiry = 0.0
        self.working = False

    def take(self, connection: Connection) -> None:
        """Poll a connection; may be called from any thread."""
        self._arriving.append(connection)
        self._wake()

    def make_room(self, *, of_bytes: bool = False) -> bool:
        """Close the connection that has waited, or has held bytes, for the longest time; no busy one is closed."""
        candidates = self._holding if of_bytes else self._waiting
        oldest = next((each for each in candidates if not each.busy), None)
        if oldest is not None:
            self.forget(oldest)
            oldest.close()
        return oldest is not None

    def stop(self) -> None:
        """Make `work` return; may be called from any thread."""
        self._closing.set()
        self._wake()

    def close(self) -> None:
        """Close all waiting connections; to be called after `work` has returned."""
        for connection in [*self._waiting, *self._arriving]:
            connection.close()
        self._selector.close()
        self._wakeup_receiver.close()
        self._wakeup_sender.close()

    def _wake(self) -> None:
        # If the buffer is full, a wake-up is pending already. After `close`, no thread waits for one.
        with contextlib.suppress(OSError):
            self._wakeup_sender.send(b"x")

    def work(self) -> None:
        """Accept, read and serve until `stop` is called."""
        self._selector.register(self._wakeup_receiver, selectors.EVENT_READ, None)
        self._selector.register(self._listener, selectors.EVENT_READ, self._listener)
        self.working = True
        try:
            while not self._closing.is_set():
                try:
                    self._poll()
                except Exception:
                    # An error in this program must not stop the service for all clients.
                    log.exception("unexpected error while serving HTTP requests; some clients got no response")
                    time.sleep(_PAUSE_AFTER_FAULT)
        finally:
            self.working = False

    def _poll(self) -> None:
        ready = self._select(max(0.0, self._next_expiry - time.monotonic()))
        self._close_expired()
        while ready and not self._closing.is_set():
            # Clients that send without a pause must not keep others waiting, or alive.
            if ready := self._serve_ready(ready):
                ready += self._select(0.0)
            self._close_expired()

    def _serve_ready(self, ready: list[Connection]) -> list[Connection]:
        """Have the requests answered; returns the connections on which another one has arrived already."""
        served = list(ready)

        def more() -> list[Connection]:
            found = self._select(0.0)
            served.extend(found)
            return found

        self._serve(ready, more)
        again: list[Connection] = []
        for connection in served:
            connection.busy = False
            if connection in self._waiting:
                # Moves to the end of the order: it has waited for the shortest time.
                self._waiting[connection] = self._waiting.pop(connection)
                # What it holds now belongs to its next request.
                self._count(connection, 0)
                self._count(connection, connection.held)
            if connection.held and not connection.lingers:
                self._read(connection, again)
        return again

    def _select(self, seconds: float) -> list[Connection]:
        """Wait for events on the sockets; returns the connections on which a request has arrived."""
        ready: list[Connection] = []
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                self._drain_wakeups(ready)
            elif key.data is self._listener:
                for _ in range(_MOST_ACCEPTED):
                    if self._is_full(ready) or not (connection := self._accept()):
                        break
                    self._add(connection, ready)
            elif not self._is_full(ready):
                self._read(key.data, ready)
        return ready

    def _is_full(self, ready: Sequence[Connection]) -> bool:
        """Whether no more may be read before others are answered; if none is ready, the oldest are closed instead."""
        while self._held > self._most_held:
            if ready or not self.make_room(of_bytes=True):
                return True
        return False

    def _count(self, connection: Connection, held: int) -> None:
        self._held += held - connection.counted
        connection.counted = held
        if not held:
            self._holding.pop(connection, None)
        elif connection not in self._holding:
            self._holding[connection] = None

    def _drain_wakeups(self, ready: list[Connection]) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wakeup_receiver.recv(4096)
        while self._arriving:
            self._add(self._arriving.popleft(), ready)

    def _add(self, connection: Connection, ready: list[Connection]) -> None:
        self._waiting[connection] = None
        self._selector.register(connection, selectors.EVENT_READ, connection)
        if len(self._waiting) + self._elsewhere() > self._most:
            self.make_room()
        # Its own buffer or that of TLS may hold bytes that the selector does not report.
        self._read(connection, ready)

    def _read(self, connection: Connection, ready: list[Connection]) -> None:
        if connection not in self._waiting or connection.busy:
            return
        try:
            if connection.lingers:
                connection.discard()
            elif connection.gather():
                # The next request on it waits until this one has been answered.
                connection.busy = True
                ready.append(connection)
            self._count(connection, connection.held)
        except Closed:
            self.forget(connection)
            connection.close()

    def forget(self, connection: Connection) -> None:
        """Stop polling a connection, which must still be open; only to be called on the thread of `work`."""
        if connection in self._waiting:
            del self._waiting[connection]
            self._count(connection, 0)
            self._selector.unregister(connection)

    def _close_expired(self) -> None:
        now = time.monotonic()
        if now < self._next_expiry:
            return
        self._next_expiry = now + _EXPIRY_INTERVAL
        for connection in [each for each in self._waiting if each.deadline <= now and not each.busy]:
            self.forget(connection)
            connection.close()
