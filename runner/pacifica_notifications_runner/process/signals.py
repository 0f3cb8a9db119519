"""SIGINT, SIGTERM and SIGHUP as something to wait for."""

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
_LEFT_BEHIND = "the producer may keep a subscription of ours"
#: No signal has this number: it ends the watching thread.
_END = b"\0"


class StopSignals:
    """Turns the first SIGINT, SIGTERM or SIGHUP into an event, and the second into another, and a call.

    An exception thrown by a handler could strike between the entering of a step and the note that it must be undone;
    an event cannot. And a handler must not set the event itself, since it may have interrupted the code that holds the
    event's lock: so Python writes the signal's number into a pipe, and a thread reads it there.

    Attributes:
        stop: Set by the first signal.
        now: Set by the second.
        on_second: Called by each further one, on another thread.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.now = threading.Event()
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
            # nohup has it ignored, and so it stays.
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
        """Enter and leave a context that may hang on a silent network.

        Entering is given up (`Cancelled`) some seconds after the first signal, leaving some seconds after the second.
        """
        value = _given_up_after(self.stop, context.__enter__, _LEFT_BEHIND)
        try:
            yield value
        finally:
            _given_up_after(self.now, lambda: context.__exit__(None, None, None), _LEFT_BEHIND)

    def unless_stopped(self, work: Callable[[], T]) -> T:
        """Do work that may hang on a silent network; given up (`Cancelled`) some seconds after the first signal."""
        return _given_up_after(self.stop, work)


def _given_up_after(event: threading.Event, work: Callable[[], T], advice: str = "") -> T:
    """Do work on a thread of its own, and wait for it until an event, and a little longer."""
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
