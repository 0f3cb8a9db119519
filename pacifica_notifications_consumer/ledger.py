"""The ledger: one SQLite database with every notification and every job, and the only truth about them.

All SQL of the project stands here. A write returns when it is on the disk.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import StateError
from .job import Job, JobState, Receipt, Verdict
from .notification import Notification
from .progress import parse_progress

_VERSION = 2
#: Seconds to wait for somebody who looks into the database; to give up would refuse a notification.
_PATIENCE = 60.0

_SCHEMA = """
CREATE TABLE notifications (
    id INTEGER PRIMARY KEY,
    received_at REAL NOT NULL,      -- seconds since 1970
    source TEXT,
    event_id TEXT,
    title TEXT NOT NULL,
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    body BLOB                       -- as received, where it may be needed again
);
CREATE UNIQUE INDEX notifications_by_identity ON notifications (source, event_id) WHERE verdict <> 'duplicate';
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    notification_id INTEGER NOT NULL UNIQUE REFERENCES notifications (id),
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at REAL NOT NULL,           -- not to be run before
    started_at REAL,
    ended_at REAL,
    exit_status INTEGER,
    reason TEXT NOT NULL DEFAULT '',
    progress TEXT NOT NULL DEFAULT ''   -- what the last attempt noted of its downloads and uploads, in JSON
);
CREATE INDEX jobs_by_state ON jobs (state, due_at, id);
"""

#: What makes a ledger of a version one of the next.
_MIGRATIONS = {1: "ALTER TABLE jobs ADD COLUMN progress TEXT NOT NULL DEFAULT '';"}

_FIND_NOTIFICATION = "SELECT id FROM notifications WHERE source = ? AND event_id = ? AND verdict <> 'duplicate'"
_ADD_NOTIFICATION = """
INSERT INTO notifications (received_at, source, event_id, title, verdict, reason, body) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_ADD_JOB = "INSERT INTO jobs (notification_id, state, due_at) VALUES (?, 'queued', ?)"
_NEXT_JOB = "SELECT id FROM jobs WHERE state = 'queued' AND due_at <= ? ORDER BY due_at, id LIMIT 1"
_JOB_TO_RUN = """
SELECT jobs.id, title, body, state, attempts, exit_status, jobs.reason, progress
FROM jobs JOIN notifications ON notifications.id = notification_id WHERE jobs.id = ?
"""
# Without the body, which may have megabytes, for those who only look.
_ONE_JOB = _JOB_TO_RUN.replace(" body,", " x'',")
_NEXT_DUE = "SELECT min(due_at) FROM jobs WHERE state = 'queued'"
_START_JOB = "UPDATE jobs SET state = 'running', started_at = ?, progress = '' WHERE id = ?"
_NOTE_PROGRESS = "UPDATE jobs SET progress = ? WHERE id = ?"
_END_ATTEMPT = """
UPDATE jobs SET state = ?, attempts = attempts + 1, due_at = ?, ended_at = ?, exit_status = ?, reason = ? WHERE id = ?
"""
_HAND_BACK = "UPDATE jobs SET state = 'queued', started_at = NULL WHERE id = ?"
_HAND_BACK_ALL = "UPDATE jobs SET state = 'queued', started_at = NULL WHERE state = 'running'"
_COUNT_JOBS = "SELECT state, count(*) FROM jobs GROUP BY state"
_COUNT_VERDICTS = "SELECT verdict, count(*) FROM notifications GROUP BY verdict"


class Ledger:
    """The ledger in a file, for one process; its methods may be called from any thread.

    Args:
        path: The database; it is created when missing.

    Raises:
        StateError: It cannot be opened, is damaged, or was made by a later version. Every method raises it, too, when
            the disk does not take a write.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        # Notifications are nobody else's business. What cannot be created, SQLite explains better.
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        with self._explained():
            self._connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            with self._explained():
                self._open()
        except BaseException:
            self._connection.close()
            raise

    def _open(self) -> None:
        # FULL makes a commit wait until its data are on the disk, so that they survive the loss of power.
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise StateError(
                f"the ledger {self._path} was made by a later version of this program",
                "run that version, or choose another --state-dir",
            )
        if version == 0:
            self._connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
        for older in range(version or _VERSION, _VERSION):
            self._connection.executescript(f"BEGIN; {_MIGRATIONS[older]} PRAGMA user_version = {older + 1}; COMMIT;")

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()

    def accept(self, notification: Notification, verdict: Verdict, reason: str = "") -> Receipt:
        """Commit a notification, and with it its job if it matched.

        Args:
            notification: What came.
            verdict: What the filter says; a notification that came before becomes a `Verdict.DUPLICATE`.
            reason: Why the filter could not decide.
        """
        now = time.time()
        identity = (notification.source, notification.event_id)
        with self._transaction() as connection:
            if connection.execute(_FIND_NOTIFICATION, identity).fetchone():
                verdict = Verdict.DUPLICATE
            kept = verdict in (Verdict.MATCHED, Verdict.UNDECIDABLE)
            body = notification.body if kept else None
            row = (now, *identity, notification.title, verdict.value, reason, body)
            notification_id = connection.execute(_ADD_NOTIFICATION, row).lastrowid
            job_id = None
            if verdict is Verdict.MATCHED:
                job_id = connection.execute(_ADD_JOB, (notification_id, now)).lastrowid
        assert notification_id is not None  # noqa: S101  (an INSERT has one)
        return Receipt(notification_id=notification_id, verdict=verdict, job_id=job_id)

    def claim(self) -> Job | None:
        """Take the job that has waited longest and is due, and mark it as running."""
        now = time.time()
        with self._transaction() as connection:
            row = connection.execute(_NEXT_JOB, (now,)).fetchone()
            if row is None:
                return None
            connection.execute(_START_JOB, (now, row[0]))
            return _job(connection.execute(_JOB_TO_RUN, (row[0],)).fetchone())

    def end_attempt(
        self, job: Job, state: JobState, *, exit_status: int | None = None, reason: str = "", delay: float = 0.0
    ) -> None:
        """Note how an attempt ended.

        Args:
            job: The job.
            state: Its state from now on; `JobState.QUEUED` for another attempt.
            exit_status: The exit status, negative for a signal; None if the entry-point was not started.
            reason: Why it failed.
            delay: Seconds before the next attempt.
        """
        now = time.time()
        with self._transaction() as connection:
            connection.execute(_END_ATTEMPT, (state.value, now + delay, now, exit_status, reason, job.id))

    def note_progress(self, job_id: int, noted: str) -> None:
        """Keep what a running job has noted of its downloads and uploads."""
        with self._transaction() as connection:
            connection.execute(_NOTE_PROGRESS, (noted, job_id))

    def hand_back(self, job: Job) -> None:
        """Return a running job to the queue without counting the attempt."""
        with self._transaction() as connection:
            connection.execute(_HAND_BACK, (job.id,))

    def hand_back_all(self) -> int:
        """Return the jobs that a runner left running when it died; returns their number."""
        with self._transaction() as connection:
            return connection.execute(_HAND_BACK_ALL).rowcount

    def job(self, job_id: int) -> Job:
        """Look up a job.

        Raises:
            KeyError: There is none of this number.
        """
        with self._reading() as connection:
            row = connection.execute(_ONE_JOB, (job_id,)).fetchone()
        if row is None:
            raise KeyError(job_id)
        return _job(row)

    def next_due(self) -> float | None:
        """When the next queued job is due, in seconds since 1970; None when none is queued."""
        with self._reading() as connection:
            due: float | None = connection.execute(_NEXT_DUE).fetchone()[0]
        return due

    def count_jobs(self) -> dict[JobState, int]:
        """Count the jobs in each state."""
        with self._reading() as connection:
            counts = dict(connection.execute(_COUNT_JOBS).fetchall())
        return {state: counts.get(state.value, 0) for state in JobState}

    def count_verdicts(self) -> dict[Verdict, int]:
        """Count the notifications of each verdict."""
        with self._reading() as connection:
            counts = dict(connection.execute(_COUNT_VERDICTS).fetchall())
        return {verdict: counts.get(verdict.value, 0) for verdict in Verdict}

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Look without a transaction: a reader must never keep a writer waiting."""
        with self._lock, self._explained():
            yield self._connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StateError(
                f"the ledger {self._path} cannot be used: {error}",
                "check the disk's space and the access rights of the state directory",
            ) from error


def _job(row: tuple[Any, ...]) -> Job:
    job_id, title, body, state, attempts, exit_status, reason, progress = row
    return Job(
        id=job_id,
        title=title,
        body=body,
        state=JobState(state),
        attempts=attempts,
        exit_status=exit_status,
        reason=reason,
        progress=parse_progress(progress),
    )
