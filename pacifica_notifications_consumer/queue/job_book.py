"""JobBook: looks up a consumer's notifications and jobs, and cancels jobs or queues them again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import attrs

from ..cloudevents.notification import Notification
from ..errors import FilterError, NotificationError
from ..filter.filter import Filter
from ..jobs.directory import JobDirectory, StateDirectory, check_used
from ..jobs.job import Job, JobState
from ..ledger.coverage import Coverage
from ..ledger.ledger import Ledger

#: How many jobs are queued again in one transaction; more would block other writers for long.
_HANDFUL = 100
#: The name under which the ledger keeps the settings of the last `Triage`.
TRIAGE = "judge"
#: The name under which it keeps the place that jobs are handed to.
PLACE = "place"


@attrs.frozen(kw_only=True)
class Selection:
    """Which jobs are to be replayed, of those that have ended or failed.

    Args:
        since: When their notifications came at the earliest, in seconds since 1970; None for any time.
        until: And at the latest.
        match: What their notifications match; None for anything.
        states: The states that they are in; empty for any.
    """

    since: float | None = None
    until: float | None = None
    match: Filter | None = None
    states: frozenset[JobState] = frozenset()


class JobBook:
    """A consumer's notifications and jobs; `JobRunner` is a subclass that also runs them.

    For a consumer that is stopped it is used by itself, as a context manager that keeps the consumer from being started
    meanwhile.

    Args:
        state_dir: The consumer's state directory.

    Raises:
        ConfigurationError: No consumer has run there (when entering).
        InUse: It is running (when entering).
        StateError: The state directory cannot be used (when entering).
    """

    #: The ledger, in which everything else about notifications and jobs can be looked up.
    ledger: Ledger
    _state: StateDirectory

    def __init__(self, state_dir: str | os.PathLike[str]) -> None:
        #: Where the queue and the jobs' directories live.
        self.state_dir = Path(state_dir).resolve()
        self._book = contextlib.ExitStack()

    def __enter__(self) -> Self:
        check_used(self.state_dir)
        with contextlib.ExitStack() as stack:
            self._state = stack.enter_context(contextlib.closing(StateDirectory(self.state_dir, "another command")))
            self.ledger = stack.enter_context(contextlib.closing(Ledger(self._state.ledger)))
            self._book = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._book.close()

    @property
    def name(self) -> str:
        """The consumer's name."""
        settings = self.coverage.fact(TRIAGE) or {}
        return str(settings.get("name", ""))

    @property
    def place(self) -> str:
        """The broker that its jobs are handed to, or were when it ran last; empty if they run on its own machine."""
        return str((self.coverage.fact(PLACE) or {}).get("place", ""))

    @property
    def trouble(self) -> str:
        """Why jobs cannot be handed out, or their ends not be received; empty if they can, or if it is not running."""
        return ""

    @property
    def coverage(self) -> Coverage:
        """Which transactions have been looked at, announced or not."""
        return self.ledger.coverage

    def cancel(self, job_id: int, reason: str = "cancelled") -> bool:
        """Cancel a job that waits or is running; its processes are ended.

        Returns:
            Whether it was such a job. One that runs is cancelled a moment later, unless it succeeds in that moment.
        """
        return self.ledger.cancel(job_id, reason)

    def requeue(self, job_id: int) -> bool:
        """Queue a job anew that has ended, or that waits for its next attempt; its attempts are counted afresh.

        Returns:
            Whether it was such a job.
        """
        return bool(self._requeue([job_id]))

    def _requeue(self, job_ids: Sequence[int]) -> list[int]:
        return self.ledger.requeue(job_ids)

    def select(self, selection: Selection) -> Iterator[Job]:
        """Look for jobs that have ended or failed, the oldest first.

        Raises:
            FilterError: ``selection.match`` fails on a notification.
        """
        for job in self.ledger.records.ended_jobs(selection.since, selection.until, selection.states):
            if selection.match is None or self._matches(selection.match, job):
                yield job

    def _matches(self, filter_: Filter, job: Job) -> bool:
        body = self.ledger.records.body(job.id)
        try:
            return body is not None and filter_.matches(Notification.parse(body).event)
        except NotificationError:
            return False
        except FilterError as error:
            raise FilterError(f"{filter_.jsonpath} fails on the notification of job {job.id}: {error}") from error

    def replay(self, selection: Selection) -> list[int]:
        """Queue jobs anew, as `requeue` does.

        Args:
            selection: Which ones.

        Returns:
            The numbers of those that were queued.

        Raises:
            FilterError: As `select`.
        """
        # All are found before any is queued, so that one that has ended again by then is not found twice.
        found = [job.id for job in self.select(selection)]
        handfuls = (found[start : start + _HANDFUL] for start in range(0, len(found), _HANDFUL))
        return [number for handful in handfuls for number in self._requeue(handful)]

    def job(self, job_id: int) -> Job:
        """Look up a job.

        Raises:
            KeyError: There is no such job.
        """
        return self.ledger.records.job(job_id)

    def jobs(self, limit: int = 100, before: int | None = None, state: JobState | None = None) -> list[Job]:
        """The newest jobs, the newest first.

        Args:
            limit: How many at most.
            before: Only those with lower numbers.
            state: Only those in it.
        """
        return self.ledger.records.jobs(limit, before, state)

    def directory(self, job_id: int) -> JobDirectory:
        """Where a job's ``SRC``, ``DST`` and output are."""
        return self._state.job(job_id)

    def count_jobs(self) -> dict[JobState, int]:
        """Count the jobs in each state."""
        return self.ledger.count_jobs()
