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
from ..settings.converters import check, path

#: The number of jobs that one transaction queues again; more would block other writers for long.
_HANDFUL = 100
#: The name under which the ledger keeps the settings of the last `Triage`.
TRIAGE = "judge"
#: The name under which the ledger keeps the name of the engine to which jobs are handed out.
ENGINE = "place"


@attrs.frozen(kw_only=True)
class Selection:
    """Selects jobs to be replayed among those that have ended or failed.

    Args:
        since: The earliest arrival of their notifications, in seconds since 1970; None for any time.
        until: The latest arrival, likewise.
        match: The filter that their notifications match; None for any.
        states: The states of the jobs; empty for any.
    """

    since: float | None = None
    until: float | None = None
    match: Filter | None = None
    states: frozenset[JobState] = frozenset()


class JobBook:
    """A consumer's notifications and jobs; `JobRunner` is a subclass that also runs them.

    For a stopped consumer, use this class itself, as a context manager that keeps the consumer from being started.

    Args:
        state_dir: The consumer's state directory.

    Raises:
        ConfigurationError: No consumer has used the state directory (when entering).
        InUse: The consumer is running (when entering).
        StateError: The state directory cannot be used (when entering).
    """

    #: The ledger, for all further queries about notifications and jobs.
    ledger: Ledger
    _state: StateDirectory

    def __init__(self, state_dir: str | os.PathLike[str]) -> None:
        #: The directory of the queue and the jobs' directories.
        check(path, state_dir=state_dir)
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
        return str((self.coverage.fact(TRIAGE) or {}).get("name", ""))

    @property
    def engine_name(self) -> str:
        """The broker to which the runner hands its jobs out, or did last; empty if they run on its own machine."""
        return str((self.coverage.fact(ENGINE) or {}).get("place", ""))

    @property
    def trouble(self) -> str:
        """Why jobs cannot be handed out or results cannot be received; empty if they can, or in a stopped consumer."""
        return ""

    @property
    def coverage(self) -> Coverage:
        """The transactions that have been examined, whether or not they were announced."""
        return self.ledger.coverage

    def cancel(self, job_id: int, reason: str = "cancelled") -> bool:
        """Cancel a waiting or running job; its processes are ended.

        Returns:
            Whether it was waiting or running. A running job may still succeed before its processes are ended.
        """
        return self.ledger.cancel(job_id, reason)

    def requeue(self, job_id: int) -> bool:
        """Queue a job again that has ended or failed; its counts of attempts and crashes are reset.

        Returns:
            Whether it had ended or failed.
        """
        return bool(self._requeue([job_id]))

    def _requeue(self, job_ids: Sequence[int]) -> list[int]:
        return self.ledger.requeue(job_ids)

    def select(self, selection: Selection) -> Iterator[Job]:
        """Find jobs that have ended or failed, the oldest first.

        Raises:
            FilterError: ``selection.match`` fails on a notification, or a notification is damaged.
        """
        for job in self.ledger.records.ended_jobs(selection.since, selection.until, selection.states):
            if selection.match is None or self._matches(selection.match, job):
                yield job

    def _matches(self, filter_: Filter, job: Job) -> bool:
        body = self.ledger.records.body(job.id)
        try:
            return body is not None and filter_.matches(Notification.parse(body).event)
        except (FilterError, NotificationError) as error:
            raise FilterError(f"the notification of job {job.id}: {error.problem}", error.advice) from error

    def replay(self, selection: Selection) -> list[int]:
        """Queue the selected jobs again, see `requeue`.

        Returns:
            The numbers of the queued jobs.

        Raises:
            FilterError: See `select`.
        """
        # Find all jobs before queueing any: a job that ends again meanwhile would be found twice.
        found = [job.id for job in self.select(selection)]
        handfuls = (found[start : start + _HANDFUL] for start in range(0, len(found), _HANDFUL))
        return [number for handful in handfuls for number in self._requeue(handful)]

    def job(self, job_id: int) -> Job:
        """Look up a job.

        Raises:
            KeyError: The job does not exist.
        """
        return self.ledger.records.job(job_id)

    def jobs(self, limit: int = 100, before: int | None = None, state: JobState | None = None) -> list[Job]:
        """The newest jobs, the newest first.

        Args:
            limit: The maximum number of jobs.
            before: Only jobs with lower numbers; None for all.
            state: Only jobs in this state; None for all.
        """
        return self.ledger.records.jobs(limit, before, state)

    def directory(self, job_id: int) -> JobDirectory:
        """The directory of a job, with ``SRC``, ``DST`` and the output."""
        return self._state.job(job_id)

    def count_jobs(self) -> dict[JobState, int]:
        """Count the jobs in each state."""
        return self.ledger.count_jobs()
