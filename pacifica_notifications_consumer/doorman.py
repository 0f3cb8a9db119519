"""The doorman: waits with all connections that have nothing to say, so that no thread has to."""

from __future__ import annotations

import collections
import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable

from .connections import Closed, Connection

#: Connections that may wait at the same time; the one that has waited longest goes when there are more.
_MOST_WAITING = 4096
#: Seconds between two looks at who has waited too long.
_LOOK = 0.5


class Doorman:
    """A thread that collects what slow and silent clients send, and calls when one has something to be answered.

    Args:
        announce: Called with a connection over which a request's head has come.
    """

    def __init__(self, announce: Callable[[Connection], None]) -> None:
        self._announce = announce
        self._selector = selectors.DefaultSelector()
        self._arriving: collections.deque[Connection] = collections.deque()
        self._waiting: dict[Connection, None] = {}
        self._bell, self._rope = socket.socketpair()
        self._bell.setblocking(False)
        self._rope.setblocking(False)
        self._closing = False
        self._room_wanted = threading.Event()
        self._thread = threading.Thread(target=self._work, name="doorman", daemon=True)
        self._thread.start()

    def take(self, connection: Connection) -> None:
        """Wait with a connection; from any thread."""
        self._arriving.append(connection)
        self._ring()

    def make_room(self) -> None:
        """Send the one away that has waited longest; from any thread."""
        self._room_wanted.set()
        self._ring()

    def close(self) -> None:
        """Close all connections that wait."""
        self._closing = True
        self._ring()
        self._thread.join()
        for connection in [*self._waiting, *self._arriving]:
            connection.close()
        self._selector.close()
        self._bell.close()
        self._rope.close()

    def _ring(self) -> None:
        # If it has no room for another byte, the bell rings already.
        with contextlib.suppress(BlockingIOError):
            self._rope.send(b"x")

    def _work(self) -> None:
        self._selector.register(self._bell, selectors.EVENT_READ, None)
        next_look = time.monotonic() + _LOOK
        while not self._closing:
            for key, _ in self._selector.select(max(0.0, next_look - time.monotonic())):
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        self._bell.recv(4096)
                else:
                    self._hear(key.data)
            while self._arriving:
                self._let_in(self._arriving.popleft())
            if self._room_wanted.is_set():
                self._room_wanted.clear()
                self._send_oldest_away()
            if time.monotonic() >= next_look:
                self._send_late_ones_away()
                next_look = time.monotonic() + _LOOK

    def _let_in(self, connection: Connection) -> None:
        connection.set_patient(False)
        self._waiting[connection] = None
        self._selector.register(connection, selectors.EVENT_READ, connection)
        if len(self._waiting) > _MOST_WAITING:
            self._send_oldest_away()
        # What came in between will not be announced by the selector if it is in the buffers of TLS.
        self._hear(connection)

    def _hear(self, connection: Connection) -> None:
        if connection not in self._waiting:
            return
        try:
            if connection.lingers:
                connection.discard()
            elif connection.gather():
                self._let_out(connection)
                connection.set_patient(True)
                self._announce(connection)
        except Closed:
            self._let_out(connection)
            connection.close()

    def _let_out(self, connection: Connection) -> None:
        del self._waiting[connection]
        self._selector.unregister(connection)

    def _send_oldest_away(self) -> None:
        for connection in self._waiting:
            self._let_out(connection)
            connection.close()
            return

    def _send_late_ones_away(self) -> None:
        now = time.monotonic()
        for connection in [each for each in self._waiting if each.deadline <= now]:
            self._let_out(connection)
            connection.close()
