"""The queries of users: jobs by state, notifications by verdict, and the number of jobs that ended in each minute."""

from __future__ import annotations

import heapq
import time
from collections.abc import Collection, Iterator
from sqlite3 import Connection
from typing import Any

import attrs

from ..jobs.job import Ending, Job, JobState, NotificationRecord, Origin, RemoteLocation, Verdict
from ..streams.progress import parse_progress
from . import statements
from .bodies import Bodies
from .database import Database

#: Maximum number of jobs of one query, so that other queries do not wait long.
_HANDFUL = 500
#: Rows are only roughly in order of time (clock changes, shared commits): searches by time begin this many seconds
#: earlier and end as many later.
_SLACK = 120.0
_BEYOND = 1 << 62
_MINUTE = 60


@attrs.frozen(kw_only=True)
class EndedJob:
    """The number of jobs that ended in a minute.

    Args:
        minute: The beginning of the minute, in seconds since 1970.
        succeeded: The number of jobs that succeeded or were cancelled.
        dead: The number of jobs that became dead.
    """

    minute: int
    succeeded: int
    dead: int


class Records:
    """The part of the ledger that answers the queries of users.

    Args:
        database: The database of the ledger.
        bodies: The files of large notifications.

    Raises:
        KeyError: A method is given a number that no job or notification has.
        StateError: A method cannot read the database, or the file of a body.
    """

    def __init__(self, database: Database, bodies: Bodies) -> None:
        self._database = database
        self._bodies = bodies
        self._ended: dict[int, EndedJob] = {}

    def job(self, job_id: int) -> Job:
        """Look up a job."""
        return read_job(self._one(statements.ONE_JOB, job_id))

    def jobs(self, limit: int, before: int | None = None, state: JobState | None = None) -> list[Job]:
        """The newest jobs, the newest first.

        Args:
            limit: The maximum number of jobs.
            before: Return only jobs with lower numbers.
            state: Return only jobs in this state.
        """
        statement = statements.NEWEST_JOBS if state is None else statements.NEWEST_JOBS_IN_STATE[state]
        return [read_job(row) for row in self._all(statement, before or _BEYOND, limit)]

    def notifications(
        self, limit: int, before: int | None = None, verdict: Verdict | None = None
    ) -> list[NotificationRecord]:
        """The newest notifications, the newest first.

        Args:
            limit: The maximum number of notifications.
            before: Return only notifications with lower numbers.
            verdict: Return only notifications with this verdict.
        """
        statement = statements.NEWEST_NOTIFICATIONS if verdict is None else statements.NEWEST_OF_VERDICT[verdict]
        return [_notification(row) for row in self._all(statement, before or _BEYOND, limit)]

    def notification(self, number: int) -> NotificationRecord:
        """Look up a notification."""
        return _notification(self._one(statements.ONE_NOTIFICATION, number))

    def body(self, number: int) -> bytes | None:
        """The body of a notification, byte for byte as received; None if it was not kept."""
        text, file = self._one(statements.BODY_OF_NOTIFICATION, number)
        return None if text is None and file is None else self._bodies.load(text, file)

    def ended_jobs(self, since: float | None, until: float | None, states: Collection[JobState] = ()) -> Iterator[Job]:
        """Jobs that have ended or failed, in the order of their numbers.

        Args:
            since: The earliest arrival of their notifications, in seconds since 1970; None for no limit.
            until: The latest arrival of their notifications; None for no limit.
            states: The states to include; empty for all.
        """
        # A query for each state, so that a million jobs in other states are not read.
        wanted = [statements.ENDED_JOBS_IN_STATE[state] for state in states] or [statements.ENDED_JOBS]
        return heapq.merge(
            *(self._jobs_of_time(statement, since, until) for statement in wanted), key=lambda job: job.id
        )

    def _jobs_of_time(self, statement: str, since: float | None, until: float | None) -> Iterator[Job]:
        with self._database.looking() as connection:
            start = 0 if since is None else _first_since(connection, since - _SLACK)
            end = _BEYOND if until is None else _first_since(connection, until + _SLACK)
        times = (since or 0.0, float("inf") if until is None else until)
        while True:
            rows = self._all(statement, start, end, *times, _HANDFUL)
            for row in rows:
                yield read_job(row)
            if len(rows) < _HANDFUL:
                return
            start = rows[-1][0] + 1

    def ended_by_minute(self, minutes: int) -> list[EndedJob]:
        """The number of jobs that ended in each of the last minutes including the current one, the oldest first."""
        now = int(time.time()) // _MINUTE * _MINUTE
        wanted = range(now - (minutes - 1) * _MINUTE, now + 1, _MINUTE)
        # Past minutes hardly change, so they are counted once and remembered; the last one is counted again.
        since = next((minute for minute in wanted if minute not in self._ended), now)
        since = min(since, now - _MINUTE)
        succeeded = dict(self._all(statements.DONE_BY_MINUTE, since))
        dead = dict(self._all(statements.DEAD_BY_MINUTE, since))
        known = {minute: ended for minute, ended in self._ended.items() if wanted[0] <= minute < since}
        for minute in range(max(since, wanted[0]), now + 1, _MINUTE):
            known[minute] = EndedJob(minute=minute, succeeded=succeeded.get(minute, 0), dead=dead.get(minute, 0))
        self._ended = known
        return [known[minute] for minute in wanted]

    def _all(self, statement: str, *values: object) -> list[Any]:
        with self._database.looking() as connection:
            return connection.execute(statement, values).fetchall()

    def _one(self, statement: str, number: int) -> Any:
        rows = self._all(statement, number)
        if not rows:
            raise KeyError(number)
        return rows[0]


def _first_since(connection: Connection, time_: float) -> int:
    """Find the number of the first notification that arrived at a time or later, by binary search."""
    low, high = 0, connection.execute(statements.HIGHEST_NOTIFICATION).fetchone()[0] + 1
    while low < high:
        middle = (low + high) // 2
        number, received_at = connection.execute(statements.NEXT_NOTIFICATION, (middle,)).fetchone() or (high, _BEYOND)
        if received_at >= time_:
            high = middle
        else:
            low = number + 1
    return low


def read_job(row: tuple[Any, ...]) -> Job:
    """Make a job from a row of `statements.JOB`."""
    job_id, title, received_at, traceparent, origin, state, attempts, deferrals, crashes, token, *rest = row
    started_at, ended_at, status, reason, cpu_seconds, peak_memory, output_tail, progress, *rest = rest
    task, worker, directory = rest
    return Job(
        id=job_id,
        title=title,
        received_at=received_at,
        traceparent=traceparent or "",
        origin=Origin(origin),
        body=b"",
        state=JobState(state),
        attempts=attempts,
        deferrals=deferrals,
        crashes=crashes,
        token=token or "",
        started_at=started_at,
        ended_at=ended_at,
        ending=Ending(
            status=status, reason=reason, cpu_seconds=cpu_seconds, peak_memory=peak_memory, output_tail=output_tail
        ),
        progress=parse_progress(progress),
        task=task or "",
        place=RemoteLocation(worker=worker, directory=directory) if worker else None,
    )


def _notification(row: tuple[Any, ...]) -> NotificationRecord:
    number, received_at, source, event_id, title, verdict, reason, origin, kept, traceparent, job_id = row
    return NotificationRecord(
        id=number,
        received_at=received_at,
        source=source,
        event_id=event_id,
        title=title,
        verdict=Verdict(verdict),
        reason=reason,
        origin=Origin(origin),
        kept=bool(kept),
        traceparent=traceparent or "",
        job_id=job_id,
    )
