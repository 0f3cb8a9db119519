"""The doorman: waits with all clients at once, and calls when some of them have something to be answered.

So a silent or a slow client costs no thread. And those who come at the same time are served together.
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

#: Seconds between two looks at who has waited too long.
_LOOK = 0.5
#: Seconds to wait after a fault of ours, which may come again at once.
_PAUSE_AFTER_FAULT = 0.05


@attrs.define(eq=False, slots=False)
class Poller:
    """Lets clients in, and collects what they send.

    Args:
        listener: The socket on which they come.
        let_in: Takes the next client that is there, and returns its connection; None when there is no further one.
        serve: Called with the connections over which requests have come, and with a function that returns those that
            have come since. Those that it does not leave waiting it must `forget`; it may bring them back later with
            `take`.
        most_waiting: How many may wait at the same time; the one that has waited longest goes when there are more.

    Attributes:
        working: Whether it is at work.
    """

    _listener: socket.socket
    _let_in: Callable[[], Connection | None]
    _serve: Callable[[Sequence[Connection], Callable[[], Sequence[Connection]]], None]
    _most_waiting: int

    def __attrs_post_init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._arriving: collections.deque[Connection] = collections.deque()
        self._waiting: dict[Connection, None] = {}
        self._wakeup_receiver, self._wakeup_sender = socket.socketpair()
        self._wakeup_receiver.setblocking(False)
        self._wakeup_sender.setblocking(False)
        self._closing = threading.Event()
        self._next_look = 0.0
        self.working = False

    def take(self, connection: Connection) -> None:
        """Wait with a connection; from any thread."""
        self._arriving.append(connection)
        self._ring()

    def make_room(self) -> None:
        """Send the one away that has waited longest, unless it is just being served."""
        oldest = next((connection for connection in self._waiting if not connection.busy), None)
        if oldest is not None:
            self.forget(oldest)
            oldest.close()

    def stop(self) -> None:
        """Have `work` return; from any thread."""
        self._closing.set()
        self._ring()

    def close(self) -> None:
        """Close all connections that wait, when `work` has returned."""
        for connection in [*self._waiting, *self._arriving]:
            connection.close()
        self._selector.close()
        self._wakeup_receiver.close()
        self._wakeup_sender.close()

    def _ring(self) -> None:
        # If it has no room for another byte, the bell rings already. When all is over, nobody listens.
        with contextlib.suppress(OSError):
            self._wakeup_sender.send(b"x")

    def work(self) -> None:
        """Do all this until `stop` is called."""
        self._selector.register(self._wakeup_receiver, selectors.EVENT_READ, None)
        self._selector.register(self._listener, selectors.EVENT_READ, self._listener)
        self.working = True
        try:
            while not self._closing.is_set():
                try:
                    self._go_round()
                except Exception:
                    # A fault of ours must not leave all clients standing.
                    log.exception("some clients could not be served")
                    time.sleep(_PAUSE_AFTER_FAULT)
        finally:
            self.working = False

    def _go_round(self) -> None:
        ready = self._listen(max(0.0, self._next_look - time.monotonic()))
        while ready and not self._closing.is_set():
            ready = self._pass_on(ready)
        if time.monotonic() >= self._next_look:
            self._send_late_ones_away()
            self._next_look = time.monotonic() + _LOOK

    def _pass_on(self, ready: list[Connection]) -> list[Connection]:
        """Have the requests answered; returns the connections that have brought another one already."""
        served = list(ready)

        def more() -> list[Connection]:
            found = self._listen(0.0)
            served.extend(found)
            return found

        self._serve(ready, more)
        again: list[Connection] = []
        for connection in served:
            connection.busy = False
            if connection in self._waiting:
                # From now on it has waited least of all.
                self._waiting[connection] = self._waiting.pop(connection)
            if connection.has_more and not connection.lingers:
                self._read(connection, again)
        return again

    def _listen(self, seconds: float) -> list[Connection]:
        """Wait until something happens; returns the connections over which requests have come."""
        ready: list[Connection] = []
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                self._drain_wakeups(ready)
            elif key.data is self._listener:
                self._open_door(ready)
            else:
                self._read(key.data, ready)
        return ready

    def _drain_wakeups(self, ready: list[Connection]) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wakeup_receiver.recv(4096)
        while self._arriving:
            self._accept(self._arriving.popleft(), ready)

    def _open_door(self, ready: list[Connection]) -> None:
        while connection := self._let_in():
            self._accept(connection, ready)

    def _accept(self, connection: Connection, ready: list[Connection]) -> None:
        self._waiting[connection] = None
        self._selector.register(connection, selectors.EVENT_READ, connection)
        if len(self._waiting) > self._most_waiting:
            self.make_room()
        # It may have something in its buffers, of which no selector knows.
        self._read(connection, ready)

    def _read(self, connection: Connection, ready: list[Connection]) -> None:
        if connection not in self._waiting or connection.busy:
            return
        try:
            if connection.lingers:
                connection.discard()
            elif connection.gather():
                # Its next request has to wait until this one has been answered.
                connection.busy = True
                ready.append(connection)
        except Closed:
            self.forget(connection)
            connection.close()

    def forget(self, connection: Connection) -> None:
        """Wait no more with a connection, which must still be open; only while `work` calls."""
        if connection in self._waiting:
            del self._waiting[connection]
            self._selector.unregister(connection)

    def _send_late_ones_away(self) -> None:
        now = time.monotonic()
        for connection in [each for each in self._waiting if each.deadline <= now]:
            self.forget(connection)
            connection.close()
