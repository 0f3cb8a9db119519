"""SIGINT and SIGTERM as something to wait for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: No signal has this number: it ends the watching thread.
_END = b"\0"


class StopSignals:
    """Turns the first SIGINT or SIGTERM into an event, and each further one into a call.

    An exception thrown by a handler could strike between the entering of a step and the noting that it must be undone;
    an event cannot. And a handler must not set the event itself, since it may have interrupted the very code that
    holds the event's lock: so Python writes the signal's number into a pipe, and a thread reads it there.

    Attributes:
        stop: Set by the first signal.
        on_second: Called by each further one, on another thread.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.on_second: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)
        self._thread.start()
        self._previous_fd = signal.set_wakeup_fd(self._writer)
        self._previous: dict[signal.Signals, Any] = {
            number: signal.signal(number, lambda *_: None) for number in _SIGNALS
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_fd)
        os.write(self._writer, _END)
        self._thread.join()
        os.close(self._reader)
        os.close(self._writer)

    def _watch(self) -> None:
        while (byte := os.read(self._reader, 1)) != _END:
            if byte[0] not in _SIGNALS:
                continue
            if self.stop.is_set():
                self.on_second()
            self.stop.set()
