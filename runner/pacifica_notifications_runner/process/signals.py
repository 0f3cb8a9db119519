"""SIGINT, SIGTERM and SIGHUP as events that a thread can wait for."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
from typing import Any, Self, TypeVar

from pacifica_notifications_consumer.errors import Cancelled

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL = 0.05
_PATIENCE = 2.0
_LEFT_BEHIND = "the producer may keep the subscription"
#: Ends the watching thread; no signal has this number.
_END = b"\0"


class StopSignals:
    """Sets the event ``stop`` at the first SIGINT, SIGTERM or SIGHUP, and ``now`` at the second.

    An exception raised by a handler could strike after a step was entered and before its undoing was registered, and a
    handler that sets the event could deadlock, since it may interrupt code that holds the event's lock. So Python
    writes the signal's number into a pipe (`signal.set_wakeup_fd`), and a thread reads it there.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.now = threading.Event()
        #: Called at the second and each later signal, on the thread.
        self.on_second: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)
        self._thread.start()
        self._previous_fd = signal.set_wakeup_fd(self._writer)
        self._previous: dict[signal.Signals, Any] = {
            number: signal.signal(number, lambda *_: None)
            for number in _SIGNALS
            # nohup ignores SIGHUP, which must stay ignored.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
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
                self.now.set()
                self.on_second()
            self.stop.set()

    @contextlib.contextmanager
    def abandoning(self, context: AbstractContextManager[T]) -> Iterator[T]:
        """Enter a context, at most until some seconds after the first signal, and leave it, until after the second."""
        value = _wait_for(context.__enter__, self.stop, _LEFT_BEHIND)
        try:
            yield value
        finally:
            _wait_for(lambda: context.__exit__(None, None, None), self.now, _LEFT_BEHIND)

    def unless_stopped(self, work: Callable[[], T]) -> T:
        """Do work that may hang on the network, at most until some seconds after the first signal."""
        return _wait_for(work, self.stop)


def _wait_for(work: Callable[[], T], event: threading.Event, advice: str = "") -> T:
    """Do work on another thread, and raise `Cancelled` if it does not end within some seconds after an event."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    patience = _PATIENCE
    while not wait([future], _POLL).done:
        if event.is_set():
            patience -= _POLL
            if patience < 0:
                raise Cancelled("stopped by a signal, without an answer from Pacifica", advice)
    return future.result()
