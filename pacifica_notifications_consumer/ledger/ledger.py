"""Writes notifications and jobs to the ledger and reads them."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from sqlite3 import Connection
from typing import TypeVar

import attrs

from ..errors import LeaseLost
from ..jobs.job import Ending, Job, JobState, Origin, Receipt, RemoteLocation, Verdict
from ..jobs.retention import Keep
from ..jobs.triage import Decision
from ..subscription.incident import Incident, IncidentKind
from . import schema, statements
from .arrivals import Arrival, Arrivals
from .bodies import Bodies
from .coverage import Coverage
from .database import Database
from .records import Records, read_job

Word = TypeVar("Word", Verdict, JobState, IncidentKind)

#: The verdicts of notifications whose bodies may be needed again.
_KEPT = frozenset({Verdict.MATCHED, Verdict.UNDECIDABLE, Verdict.MALFORMED, Verdict.UNREADABLE})

#: Seconds for which a job is put off whose notification cannot be read.
_PUT_OFF = 60.0
_LEASE_LOST = "the claim of job {} is lost: its lease has expired, or the job was taken over"


@attrs.frozen(kw_only=True)
class RemoteJob:
    """A job that was handed out to other machines."""

    job_id: int
    state: JobState
    task: str  #: its name on the other machines


class Ledger:
    """The ledger in a file, for one process; its methods may be called from any thread.

    Args:
        path: The database; created if missing. Large notifications are in the directory ``notifications`` beside it.

    Raises:
        StateError: The database cannot be opened, is damaged, or was made by a later version. Every method also raises
            it if the database cannot be read or written.
        LeaseLost: A method is given a job whose claim does not hold any more.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        self._database = Database(path, schema.STEPS)
        with self._database.reading() as connection:
            self._arrivals = Arrivals(connection)
        self._bodies = Bodies(path.with_name("notifications"))
        #: The transactions that catch-up has examined.
        self.coverage = Coverage(self._database)
        #: The queries of users.
        self.records = Records(self._database, self._bodies)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def accept(
        self, notifications: Sequence[tuple[Decision, bytes]], origin: Origin = Origin.DELIVERED
    ) -> list[Receipt]:
        """Commit notifications, together with a job for each that matches; returns their receipts in the same order.

        One that arrived before gets the verdict `Verdict.DUPLICATE`. If they cannot be written, none is kept.
        """
        now = time.time()
        arrivals: list[Arrival] = []
        receipts: Sequence[Receipt] = ()
        try:
            for decision, body in notifications:
                text, file = self._bodies.store(body) if decision.verdict in _KEPT else (None, None)
                arrivals.append(Arrival(received_at=now, decision=decision, body=text, body_file=file, origin=origin))
            receipts = self._database.write(lambda writer: self._arrivals.add(writer, arrivals), transaction=False)
        finally:
            committed = [receipt.verdict is not Verdict.DUPLICATE for receipt in receipts] or [False] * len(arrivals)
            for arrival, kept in zip(arrivals, committed, strict=True):
                if not kept:
                    self._bodies.remove(arrival.body_file)
        return list(receipts)

    def claim(self, lease: float, *, to_hand_out: bool = False) -> Job | None:
        """Take the due job that has waited longest, and mark it as running.

        The claim expires after `lease` seconds, unless it is renewed. If the body cannot be read, the job is put off.
        The task of a job that will be handed out to other machines gets its name in the same commit, so that it can be
        found after a crash; a job that is already handed out keeps its task.
        """
        now = time.time()
        token = secrets.token_hex(8)

        def claim(connection: Connection) -> tuple[Job, tuple[bytes | None, str | None]] | None:
            found = connection.execute(statements.NEXT_JOB, (now, now)).fetchone()
            if found is None:
                return None
            if not connection.execute(statements.RESUME_JOB, (token, now + lease, *found)).rowcount:
                task = f"{found[0]}.{token}" if to_hand_out else None
                connection.execute(statements.START_JOB, (token, now + lease, now, task, *found))
            job = read_job(connection.execute(statements.ONE_JOB, found).fetchone())
            return job, connection.execute(statements.BODY_OF_JOB, found).fetchone()

        # Usually no job is due, and a query needs no commit.
        if not self._database.read(statements.NEXT_JOB, now, now):
            return None
        if (claimed := self._database.write(claim)) is None:
            return None
        job, where = claimed
        try:
            body = self._bodies.load(*where)
        except BaseException as error:
            # Later: the job that has waited longest would be claimed again and again, and hold up all others.
            self._change_claimed(job, statements.PUT_OFF, time.time() + _PUT_OFF, str(error))
            raise
        return attrs.evolve(job, body=body)

    def renew(self, jobs: Iterable[Job], lease: float) -> None:
        """Renew the claims of running jobs, which then expire `lease` seconds from now."""
        rows = [(time.time() + lease, job.id, job.token) for job in jobs]
        if rows:
            self._database.write(lambda connection: connection.executemany(statements.RENEW_LEASE, rows) and None)

    def end_attempt(self, job: Job, state: JobState, ending: Ending, *, delay: float = 0.0) -> None:
        """Record the end of an attempt, the new state of its job, and the seconds before the next attempt, if any.

        The state is `JobState.FAILED` if the job will be tried again, `JobState.QUEUED` if the attempt asked for that.
        """
        now = time.time()
        deferred = state is JobState.QUEUED
        self._change_claimed(
            job,
            statements.END_ATTEMPT,
            state.value,
            int(not deferred and state is not JobState.CANCELLED),
            int(deferred),
            now + delay,
            now,
            ending.status,
            ending.reason or ending.remark,
            ending.cpu_seconds,
            ending.peak_memory,
            ending.output_tail,
        )

    def hand_back(self, job: Job, *, ended: bool = False) -> None:
        """Return a running job to the queue without counting the attempt.

        Unless the task of a job that was handed out has ended, the next claim of the job waits for the task.
        """
        self._change_claimed(job, statements.HAND_BACK_ENDED if ended else statements.HAND_BACK)

    def note_place(self, job: Job, place: RemoteLocation) -> None:
        """Record the machine on which a job that was handed out has begun to run."""
        self._change_claimed(job, statements.NOTE_PLACE, place.worker, place.directory, time.time())

    def handed_out(self) -> list[RemoteJob]:
        """The jobs whose results have not arrived from other machines, including cancelled jobs."""
        rows = self._database.read(statements.HANDED_OUT)
        return [RemoteJob(job_id=job_id, state=JobState(state), task=task) for job_id, state, task in rows]

    def take_in(self, handed_out: RemoteJob) -> None:
        """Record that the result of a job that was handed out has arrived."""
        self._database.change(statements.TAKE_IN, handed_out.job_id, handed_out.task)

    def note_progress(self, job: Job, noted: str) -> None:
        """Store the progress, in JSON, of a running job's downloads and uploads."""
        self._change_claimed(job, statements.NOTE_PROGRESS, noted)

    def _change_claimed(self, job: Job, statement: str, *values: object) -> None:
        if not self._database.change(statement, *values, job.id, job.token):
            raise LeaseLost(_LEASE_LOST.format(job.id))

    def recover(self, crash_limit: int, *, expired: bool = False) -> dict[int, JobState]:
        """Queue the jobs again that a dead runner has left running; returns the states of those with a new crash.

        A job may survive `crash_limit` crashes; the next one makes it dead. Jobs that were handed out to other machines
        have not died with the runner: they are queued, too, but no crash is counted. With `expired`, only jobs whose
        lease has expired are recovered.
        """
        now = time.time()
        before = now if expired else float("inf")

        def recover(connection: Connection) -> dict[int, JobState]:
            connection.execute(statements.LEAVE_HANDED_OUT, (before,))
            abandoned = connection.execute(statements.ABANDONED, (before,)).fetchall()
            reason = "was running when the runner or the machine died"
            return {row[0]: _count_crash(connection, row, crash_limit, reason, now) for row in abandoned}

        return self._database.write(recover)

    def crash(self, job: Job, crash_limit: int, reason: str) -> JobState:
        """Count a crash that a job did not cause itself; queue the job again, or make it dead at the limit."""
        now = time.time()

        def count(connection: Connection) -> JobState | None:
            if row := connection.execute(statements.CLAIMED_JOB, (job.id, job.token)).fetchone():
                return _count_crash(connection, row, crash_limit, reason, now)
            return None

        if (state := self._database.write(count)) is None:
            raise LeaseLost(_LEASE_LOST.format(job.id))
        return state

    def cancel(self, job_id: int, reason: str) -> bool:
        """Cancel a queued or failed job; returns whether the job was in one of these states."""
        return bool(self._database.change(statements.CANCEL, time.time(), reason, job_id))

    def requeue(self, job_ids: Sequence[int]) -> list[int]:
        """Queue jobs that have ended or failed, with all counts reset; returns the numbers of the queued jobs."""
        now = time.time()

        def requeue(connection: Connection) -> list[int]:
            return [number for number in job_ids if connection.execute(statements.REQUEUE, (now, number)).rowcount]

        return self._database.write(requeue)

    def next_due(self) -> float | None:
        """When the next waiting job is due, in seconds since 1970; None if no job waits."""
        due: float | None = self._database.read(statements.NEXT_DUE)[0][0]
        return due

    def finished(self, keep: Keep, limit: int) -> list[int]:
        """Find at most `limit` jobs that have ended and exceed the limits of retention."""
        rows: list[tuple[int]] = []
        if keep.age is not None:
            before = time.time() - keep.age
            for statement in (statements.DONE_BEFORE, statements.DEAD_BEFORE):
                rows += self._database.read(statement, before, limit)
        if keep.count is not None:
            counts = self.count_jobs()
            excess = counts[JobState.SUCCEEDED] + counts[JobState.CANCELLED] - keep.count
            rows += self._database.read(statements.OLDEST_DONE, max(0, min(excess, limit)))
        return list(dict.fromkeys(number for (number,) in rows))[:limit]

    def forget(self, job_ids: Iterable[int]) -> None:
        """Remove jobs that have ended; rows of their notifications stay, so that later duplicates are recognized."""
        numbers = list(job_ids)

        def forget(connection: Connection) -> list[str | None]:
            files = []
            for number in numbers:
                if found := connection.execute(statements.FINISHED_JOB, (number,)).fetchone():
                    notification_id, file = found
                    connection.execute(statements.FORGET_JOB, (number,))
                    connection.execute(statements.FORGET_BODY, (notification_id,))
                    files.append(file)
            return files

        for file in self._database.write(forget):
            self._bodies.remove(file)

    def forget_set_aside(self, age: float, limit: int) -> None:
        """Remove old bodies of notifications that were set aside.

        Args:
            age: Seconds since their arrival from which they are removed.
            limit: The maximum number of bodies to remove.
        """
        rows = self._database.read(statements.SET_ASIDE_BEFORE, time.time() - age, limit)
        numbers = [(number,) for number, _ in rows]
        if numbers:
            self._database.write(lambda connection: connection.executemany(statements.FORGET_BODY, numbers) and None)
        for _, file in rows:
            self._bodies.remove(file)

    def remove_orphans(self) -> None:
        """Remove the files of notifications that a crash kept from being committed; nothing else may use the ledger."""
        self._bodies.remove_all_but({file for (file,) in self._database.read(statements.BODY_FILES)})

    def note_incident(self, incident: Incident) -> None:
        """Store an incident of a subscription."""
        values = (incident.kind.value, incident.since, incident.until, incident.detail)
        self._database.change(statements.ADD_INCIDENT, *values)

    def incidents(self, limit: int) -> list[Incident]:
        """The newest incidents, the newest first."""
        rows = self._database.read(statements.NEWEST_INCIDENTS, limit)
        return [
            Incident(kind=IncidentKind(kind), since=since, until=until, detail=detail)
            for kind, since, until, detail in rows
        ]

    def count_jobs(self) -> dict[JobState, int]:
        """Count the jobs in each state."""
        return self._count("job", JobState)

    def count_verdicts(self) -> dict[Verdict, int]:
        """Count the notifications of each verdict."""
        return self._count("verdict", Verdict)

    def count_incidents(self) -> dict[IncidentKind, int]:
        """Count the incidents of each kind."""
        return self._count("incident", IncidentKind)

    def _count(self, kind: str, words: type[Word]) -> dict[Word, int]:
        counts: Mapping[str, int] = dict(self._database.read(statements.TALLY, kind))
        return {word: counts.get(word.value, 0) for word in words}


def _count_crash(connection: Connection, row: tuple[int, int], crash_limit: int, reason: str, now: float) -> JobState:
    job_id, crashes = row
    state = JobState.QUEUED if crashes < crash_limit else JobState.DEAD
    times = f"{crashes + 1} time{'s' if crashes else ''}"
    connection.execute(statements.COUNT_CRASH, (state.value, now, f"{reason} ({times})", job_id))
    return state
