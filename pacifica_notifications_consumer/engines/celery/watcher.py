"""Watcher: two threads that poll the records of all attempts on other machines, and the queue."""

from __future__ import annotations

import functools
import logging
import math
import threading
import time
from collections.abc import Callable

import attrs

from ...system.periodic import Periodic
from .records import AttemptRecords, AttemptView, RecordsError

log = logging.getLogger(__name__)

#: Seconds between two polls of the records, plus seconds for each attempt.
_LOOK, _LOOK_EACH = 0.05, 0.0005
#: Seconds between two polls of the queue, while workers have not claimed all attempts.
_QUEUE = 5.0
#: Seconds before the next poll if Redis or the broker cannot be reached.
_PAUSE = 1.0
#: The maximum number of seconds that one poll adds to a silence: a late poll may have missed changes.
_LONGEST_STEP = 1.0


@attrs.define(eq=False)
class WatchedAttempt:
    """An attempt that is being watched; its condition is notified when its record has changed."""

    task: str
    changed: threading.Condition
    #: The state in its record; None before the first poll.
    look: AttemptView | None = None
    #: Seconds for which polls found the record unchanged.
    silence: float = 0.0
    #: How often the queue was empty since it was handed out.
    queue_empty: int = 0
    #: Whether the broker or Redis may have lost messages or records since then.
    shaken: bool = False

    def sent(self) -> None:
        """Note that its message has just been sent."""
        self.silence, self.queue_empty, self.shaken = 0.0, 0, False

    def see(self, look: AttemptView, seconds: float) -> bool:
        """Note the state in the record, some seconds after the last call; returns whether it has changed."""
        if look == self.look:
            self.silence += seconds
            return False
        self.look, self.silence = look, 0.0
        return True


class Watcher:
    """Watches attempts; ``count_waiting`` returns the number of messages in the queue, and may raise any exception."""

    def __init__(self, records: AttemptRecords, count_waiting: Callable[[], int]) -> None:
        self._records = records
        self._count_waiting = count_waiting
        self._changed = threading.Condition()
        self._watched: list[WatchedAttempt] = []
        self._trouble = {"records": "", "queue": ""}
        self._looked_at = 0.0
        self._loops = [
            Periodic(functools.partial(self._guarded, what, look), name=f"watcher of the {what}", interval=_PAUSE)
            for what, look in (("records", self._look), ("queue", self._look_at_queue))
        ]

    def start(self) -> None:
        """Start the threads."""
        for loop in self._loops:
            loop.start()

    def stop(self) -> None:
        """Stop the threads."""
        for loop in self._loops:
            # Signal both threads before waiting for one, so that their last polls run at the same time.
            loop.stopping.set()
        for loop in self._loops:
            loop.stop()

    @property
    def trouble(self) -> str:
        """A description of what cannot be reached; empty if all can."""
        return "; ".join(filter(None, self._trouble.values()))

    def watch(self, task: str) -> WatchedAttempt:
        """Start to watch an attempt."""
        watched = WatchedAttempt(task, self._changed)
        with self._changed:
            idle = not self._watched
            self._watched.append(watched)
        if idle:
            for loop in self._loops:
                loop.wake()
        return watched

    def unwatch(self, watched: WatchedAttempt) -> None:
        """Stop watching an attempt."""
        with self._changed:
            self._watched.remove(watched)

    def _guarded(self, what: str, look: Callable[[list[WatchedAttempt]], float]) -> float:
        """Poll if attempts are being watched; returns the seconds until the next poll."""
        with self._changed:
            watched = list(self._watched)
        if not watched:
            return math.inf
        try:
            pause = look(watched)
        except Exception as error:
            if not self._trouble[what]:
                log.error("the %s of attempts on other machines cannot be looked at: %s", what, error)  # noqa: TRY400
            self._trouble[what] = f"the {what} of attempts on other machines cannot be looked at"
            return _PAUSE
        if self._trouble[what]:
            self._trouble[what] = ""
            log.warning("the %s of attempts on other machines can be looked at again", what)
            # The service may have lost data when it was restarted.
            with self._changed:
                for attempt in self._watched:
                    attempt.shaken = True
                self._changed.notify_all()
        return pause

    def _look(self, watched: list[WatchedAttempt]) -> float:
        began = time.monotonic()
        seconds = min(began - self._looked_at, _LONGEST_STEP)
        try:
            looks = self._records.look([each.task for each in watched])
        except RecordsError:
            # Changes in the meantime cannot be seen, so this time does not count as silence.
            self._looked_at = time.monotonic()
            raise
        self._looked_at = began
        with self._changed:
            # A list, not a generator: `see` must be called for each attempt.
            if any([each.see(look, seconds) for each, look in zip(watched, looks, strict=True)]):  # noqa: C419
                self._changed.notify_all()
        return _LOOK + _LOOK_EACH * len(watched)

    def _look_at_queue(self, watched: list[WatchedAttempt]) -> float:
        waiting = [each for each in watched if each.look and each.look.opened and not each.look.place]
        if waiting and not self._count_waiting():
            for each in waiting:
                each.queue_empty += 1
        return _QUEUE
