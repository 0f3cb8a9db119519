"""CeleryEngine: hands attempts out to workers on other machines, and waits for their results.

A worker claims an attempt in its record and sends a heartbeat every second. When these do not arrive any more, the
attempt ends on the worker's side before the job can be run again (here with `lost_after` = 60)::

    seconds since the last heartbeat  0           30                  45                   60
    worker                            silent ──── ends the attempt
    watchdog                          if the worker cannot: ───────── ends its processes
    runner                            waits ────────────────────────────────────────────── crashed; queued again
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ...jobs.job import Ending
from ...system.orphans import end_marked
from ...system.processes import KILL_AFTER
from ..engine import Attempt, Stop
from .app import CONFIRM, count_waiting, make_app, priority_of
from .broker import Broker
from .message import TASK, Message
from .records import AttemptRecords, RecordsError
from .waiting import RemoteAttempt
from .watcher import Watcher

log = logging.getLogger(__name__)


class CeleryEngine:
    """Hands attempts out to `RemoteWorker` processes on any machine.

    Args:
        broker: The broker of the workers.
        archive: The digest of the consumer, see `archive.digest`; workers with another consumer refuse its attempts.
    """

    def __init__(self, broker: Broker, archive: str) -> None:
        self._broker = broker
        self._archive = archive
        self._records = AttemptRecords(broker.records_url)
        self._app = make_app(broker)
        self._watcher = Watcher(self._records, lambda: count_waiting(self._app, broker))

    @property
    def name(self) -> str:
        """See `RemoteEngine.name`."""
        return self._broker.name

    @property
    def trouble(self) -> str:
        """A description of what cannot be reached; empty if all can."""
        return self._watcher.trouble

    def open(self, mark: str) -> int:
        """See `Engine.open`; attempts wait for the broker. Ends programs that an earlier runner ran on this machine."""
        ended = end_marked(mark, KILL_AFTER)
        try:
            self._records.ping()
            count_waiting(self._app, self._broker)
        except Exception as error:
            log.error("jobs wait: %s cannot be reached: %s", self.name, error)  # noqa: TRY400
        self._watcher.start()
        return ended

    def close(self) -> None:
        """See `Engine.close`."""
        self._watcher.stop()
        self._records.close()
        self._app.close()

    def run(self, attempt: Attempt, stop: Callable[[], Stop | None]) -> Ending | None:
        """See `RemoteEngine`."""
        watched = self._watcher.watch(attempt.task)
        try:
            return RemoteAttempt(
                attempt=attempt,
                watched=watched,
                stop=stop,
                records=self._records,
                send=lambda: self._send(attempt),
                lost_after=self._broker.lost_after,
            ).wait()
        finally:
            self._watcher.unwatch(watched)

    def forget(self, task: str) -> None:
        """See `RemoteEngine.forget`."""
        try:
            self._records.forget(task)
        except RecordsError as error:
            # Redis removes the record itself when it expires.
            log.warning("the record of attempt %s cannot be removed: %s", task, error)

    def abandon(self, task: str) -> None:
        """See `RemoteEngine.abandon`."""
        try:
            self._records.abandon(task)
        except RecordsError as error:
            log.warning("attempt %s, which was cancelled, may run to its end: %s", task, error)

    def _send(self, attempt: Attempt) -> None:
        """Send the message of an attempt, also again if it may have been lost; raises the clients' own errors."""
        message = Message(
            job_id=attempt.job_id,
            archive=self._archive,
            body=attempt.body,
            terms=attempt.terms,
            traceparent=attempt.traceparent,
        )
        self._records.open(attempt.task)
        self._app.send_task(
            TASK,
            kwargs=message.document(),
            task_id=attempt.task,
            priority=priority_of(self._broker),
            ignore_result=True,
            retry=False,
            confirm_timeout=CONFIRM,
            # Monitoring tools show these instead of the arguments.
            argsrepr="()",
            kwargsrepr=f"{{'job_id': {attempt.job_id}}}",
        )
