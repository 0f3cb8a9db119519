"""A job, which runs the entry-point for one notification; and the states and results of jobs and notifications."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs

from ..streams.progress import Progress


class Verdict(enum.Enum):
    """The result of the triage of a notification."""

    #: The filter matches, so the notification has a job.
    MATCHED = "matched"
    #: The filter does not match.
    UNMATCHED = "unmatched"
    #: The notification announces an upload of this consumer.
    OWN = "own"
    #: The time by which the notification asked to be processed has passed.
    EXPIRED = "expired"
    #: A notification with the same source and event id arrived before.
    DUPLICATE = "duplicate"
    #: The filter failed on the notification.
    UNDECIDABLE = "undecidable"
    #: The body is JSON, but not a notification.
    MALFORMED = "malformed"
    #: The body is not JSON.
    UNREADABLE = "unreadable"

    @property
    def set_aside(self) -> bool:
        """Whether the notification has no job, but its body is kept for the operator to examine."""
        return self in (Verdict.UNDECIDABLE, Verdict.MALFORMED, Verdict.UNREADABLE)


class Origin(enum.Enum):
    """The way in which a notification arrived."""

    #: The producer posted it.
    DELIVERED = "delivered"
    #: It was missed, so catch-up built it from the transaction as policy returned it.
    RECOVERED = "recovered"


@attrs.frozen(kw_only=True)
class Receipt:
    """The entry that was committed to the ledger for a notification.

    Args:
        notification_id: The number of the notification in the ledger.
        verdict: The result of its triage.
        job_id: The number of its job; None unless the verdict is `Verdict.MATCHED`.
        reason: Why the notification is undecidable, malformed or unreadable, as a text.
    """

    notification_id: int
    verdict: Verdict
    job_id: int | None = None
    reason: str = ""


@attrs.frozen(kw_only=True)
class NotificationRecord:
    """A notification in the ledger.

    Args:
        id: Its number.
        received_at: The time of its arrival, in seconds since 1970.
        source: The producer's ``source``; None without one.
        event_id: The producer's ``eventID``; None without one.
        title: Its name in logs and lists.
        verdict: The result of its triage.
        reason: Why it is undecidable, malformed or unreadable, as a text.
        origin: The way in which it arrived.
        kept: Whether its body is kept.
        traceparent: The ``traceparent`` of its trace; empty without one.
        job_id: The number of its job; None without one.
    """

    id: int
    received_at: float
    source: str | None
    event_id: str | None
    title: str
    verdict: Verdict
    reason: str
    origin: Origin
    kept: bool
    traceparent: str
    job_id: int | None


class JobState(enum.Enum):
    """The state of a job.

    A queued job becomes running, then succeeded, failed or dead; a failed job becomes running again. An interrupted job
    is queued again. A queued or failed job can be cancelled; a job that has ended or failed can be queued again.
    """

    #: The job waits for its turn.
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    #: An attempt failed, and the next one is due after a pause.
    FAILED = "failed"
    #: The last permitted attempt failed. The job is kept.
    DEAD = "dead"
    #: An operator has cancelled the job.
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the job has ended, so that it runs again only if an operator requeues it."""
        return self in (JobState.SUCCEEDED, JobState.DEAD, JobState.CANCELLED)


class Fate(enum.Enum):
    """The cause of an attempt's end, which determines how the attempt is counted."""

    #: It ended by itself, took too long, or could not be started: counts as an attempt.
    ENDED = "ended"
    #: The process that ran it died: counts as a crash, for which there is a separate limit.
    CRASHED = "crashed"
    #: It was not begun and will be tried again later: does not count.
    PUT_OFF = "put off"
    #: The worker that ran it had to stop: does not count.
    RETURNED = "returned"


def _storable(text: str) -> str:
    # SQLite keeps no lone surrogates.
    return text.encode("utf-8", "backslashreplace").decode()


@attrs.frozen(kw_only=True)
class Ending:
    """The result of an attempt.

    Args:
        status: The exit status, or the negative number of a signal; None if the entry-point was not started.
        reason: Why the attempt failed, as a text; empty if it succeeded.
        remark: What looks wrong about a success, as a text: files that were not uploaded.
        cpu_seconds: The processor time of its processes in seconds; None if unknown.
        peak_memory: The largest memory of one of its processes in bytes; None if unknown.
        output_tail: The last lines of its output.
        fate: The cause of its end.
    """

    status: int | None = None
    reason: str = attrs.field(default="", converter=_storable)
    remark: str = attrs.field(default="", converter=_storable)
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    output_tail: str = attrs.field(default="", converter=_storable)
    fate: Fate = Fate.ENDED


@attrs.frozen(kw_only=True)
class RemoteLocation:
    """The place of a job that was handed out to another machine.

    Args:
        worker: The name of the worker that runs it.
        directory: The job's directory on that machine.
    """

    worker: str
    directory: str


@attrs.frozen(kw_only=True)
class Job:
    """A job in the ledger.

    Args:
        id: Its number.
        title: The event id of its notification, for logs.
        received_at: The time of the notification's arrival, in seconds since 1970.
        traceparent: The ``traceparent`` of its trace; empty without one.
        origin: The way in which the notification arrived.
        body: The notification, byte for byte as received; empty unless the job was claimed to be run.
        state: Its state.
        attempts: The number of attempts that have ended, without those that were interrupted by a shutdown or a crash
            or asked to be tried again later.
        deferrals: The number of attempts that asked to be tried again later, with exit status 75.
        crashes: The number of crashes of the runner or the machine while the job was running.
        token: Identifies the claim under which the job runs; empty unless it was claimed to be run.
        started_at: When the last attempt began, in seconds since 1970.
        ended_at: When the last attempt ended, in seconds since 1970.
        ending: The result of the last attempt.
        progress: The progress of the last attempt's ``download`` and ``upload``, for each that has begun.
        task: The name of its task on other machines; empty unless it was handed out.
        place: The machine on which it runs or ran last; None for this machine.
    """

    id: int
    title: str
    received_at: float = 0.0
    traceparent: str = ""
    origin: Origin = Origin.DELIVERED
    body: bytes = attrs.field(repr=False)
    state: JobState
    attempts: int
    deferrals: int = 0
    crashes: int = 0
    token: str = attrs.field(default="", repr=False)
    started_at: float | None = None
    ended_at: float | None = None
    ending: Ending = Ending()
    progress: Mapping[str, Progress] = attrs.field(factory=dict)
    task: str = ""
    place: RemoteLocation | None = None

    @property
    def exit_status(self) -> int | None:
        """The last attempt's exit status, or the negative number of the signal that ended it."""
        return self.ending.status

    @property
    def reason(self) -> str:
        """Why the last attempt failed, or what looks wrong about its success, as a text."""
        return self.ending.reason

    @property
    def seconds(self) -> float | None:
        """How long the last attempt took, in seconds; None before its end."""
        if self.started_at is None or self.ended_at is None:
            return None
        return max(0.0, self.ended_at - self.started_at)
