"""RemoteAttempt: hands out one attempt, and decides from its record whether it runs, has ended, or was lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import attrs

from ...jobs.files import open_file
from ...jobs.job import Ending, Fate, RemoteLocation
from ..engine import Attempt, Stop
from .output import OutputCopy
from .records import AttemptRecords, AttemptView, Claim, RecordsError
from .watcher import WatchedAttempt

log = logging.getLogger(__name__)

#: Seconds between two calls of `stop`.
_POLL = 0.2
#: Seconds between two tries to hand an attempt out.
_PAUSE = 2.0
#: How often the queue must have been empty until the message of an unclaimed attempt counts as lost.
_EMPTY = 2


@attrs.define(kw_only=True, eq=False, slots=False)
class RemoteAttempt:
    """Hands an attempt out, and waits for its end; ``send`` sends its message, and may raise any exception."""

    _attempt: Attempt
    _watched: WatchedAttempt
    _stop: Callable[[], Stop | None]
    _records: AttemptRecords
    _send: Callable[[], None]
    _lost_after: float

    def __attrs_post_init__(self) -> None:
        attempt = self._attempt
        self._output_copy = OutputCopy(attempt.directory, attempt.task, attempt.terms.output_limit)
        self._place: RemoteLocation | None = None
        self._news = ""
        self._next_try = 0.0
        self._failed = False
        self._cancelled = False
        self._to_be_sent = not attempt.handed_out
        # An earlier runner may have died before it sent the message.
        self._watched.shaken = attempt.handed_out

    def wait(self) -> Ending | None:
        """See `Engine.run`."""
        while True:
            seen = self._watched.look
            reason = self._stop()
            if reason is Stop.HALT:
                return None
            try:
                if reason is Stop.CANCEL and self._cancel():
                    return None
                if self._to_be_sent and time.monotonic() >= self._next_try:
                    self._try_to_send()
                if seen and (ending := self._triage(seen)):
                    return self._unless_cancelled(ending)
            except RecordsError:
                # The watcher logs this.
                time.sleep(_POLL)
            with self._watched.changed:
                if self._watched.look is seen:
                    self._watched.changed.wait(_POLL)

    def _cancel(self) -> bool:
        """Cancel the attempt; returns whether no worker had started it."""
        self._cancelled = self._cancelled or self._records.abandon(self._attempt.task)
        return not self._cancelled

    def _unless_cancelled(self, ending: Ending) -> Ending | None:
        if self._cancelled and ending.fate is not Fate.ENDED:
            self._records.forget(self._attempt.task)
            return None
        return ending

    def _try_to_send(self) -> None:
        try:
            self._send()
        except Exception as error:
            if not self._failed:
                log.error("job %d waits: it cannot be handed out: %s", self._attempt.job_id, error)  # noqa: TRY400
            self._failed = True
            self._next_try = time.monotonic() + _PAUSE
            return
        self._watched.sent()
        self._to_be_sent = self._failed = False

    def _triage(self, look: AttemptView) -> Ending | None:
        """Act on the state in the record; returns the result of the attempt if it has ended."""
        if look.place:
            self._found(look.place)
        if look.ending:
            self._take_news(look)
            self._output_copy.finish()
            return look.ending
        if look.refused and self._records.withdraw(self._attempt.task) is Claim.OURS:
            return Ending(reason=look.refused, fate=Fate.PUT_OFF)
        if look.withdrawn:
            return Ending(reason="it had been withdrawn", fate=Fate.RETURNED)
        if look.place:
            return self._running(look, look.place)
        if look.opened:
            lost = self._watched.shaken or self._watched.queue_empty >= _EMPTY
        else:
            # Redis has lost the record. A worker that runs the attempt has noticed this, and ended it, by then.
            lost = self._watched.silence >= self._lost_after
        self._to_be_sent = self._to_be_sent or lost
        return None

    def _found(self, place: RemoteLocation) -> None:
        if place != self._place:
            self._place = place
            self._output_copy.whole = f"{place.directory} on {place.worker}"
            self._attempt.placed(place)

    def _running(self, look: AttemptView, place: RemoteLocation) -> Ending | None:
        self._take_news(look)
        if self._watched.silence < self._lost_after:
            return None
        reason = f"its worker on {place.worker} was lost: nothing was heard of it for {self._lost_after:g} s"
        return Ending(reason=reason, fate=Fate.CRASHED)

    def _take_news(self, look: AttemptView) -> None:
        if look.news == self._news:
            return
        news = self._records.news(self._attempt.task)
        self._news = look.news
        try:
            if news.progress:
                # The file that a job on this machine writes itself.
                path = self._attempt.directory.progress
                with open_file(path.parent, path.name, "wb") as file:
                    file.write(news.progress.encode())
            self._output_copy.add(news.output_start, news.output)
        except OSError as error:
            log.warning("job %d: its progress and output cannot be written here: %s", self._attempt.job_id, error)
