"""Periodic: calls a function at intervals on a separate thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Self

import attrs

log = logging.getLogger(__name__)


@attrs.define(eq=False, slots=False)
class Periodic:
    """A thread that calls a function, pauses, and calls it again, until it is stopped; also a context manager.

    The function may return the seconds until the next call, by default ``interval``. An exception is logged with its
    traceback and the name of the thread, and the function is called again after ``interval``. ``delay`` are the seconds
    until the first call. A long call should check the event ``stopping``, which ends the thread.
    """

    _work: Callable[[], float | None]
    _name: str = attrs.field(kw_only=True)
    _interval: float = attrs.field(kw_only=True)
    _delay: float = attrs.field(default=0.0, kw_only=True)
    _daemon: bool = attrs.field(default=False, kw_only=True)
    stopping: threading.Event = attrs.field(factory=threading.Event, kw_only=True)

    def __attrs_post_init__(self) -> None:
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=self._daemon)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """End the pause; during a call, the next one follows at once."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread after the current call, and wait for it; does nothing if it was never started."""
        self.stopping.set()
        self.wake()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        pause: float | None = self._delay
        while True:
            self._wake.wait(min(self._interval if pause is None else pause, threading.TIMEOUT_MAX))
            # Before the call, so that a wake-up during it is not lost.
            self._wake.clear()
            if self.stopping.is_set():
                return
            try:
                pause = self._work()
            except Exception:
                pause = None
                log.exception("the thread %r failed; it goes on in %g s", self._name, self._interval)
