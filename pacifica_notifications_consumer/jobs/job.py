"""A job: the run of an entry-point for one notification."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs

from ..streams.progress import Progress


class Verdict(enum.Enum):
    """What became of a notification."""

    #: The filter matches, so there is a job for it.
    MATCHED = "matched"
    #: The filter does not match.
    UNMATCHED = "unmatched"
    #: It announces what this very consumer uploaded.
    OWN = "own"
    #: It says that it was to be processed by a time that has passed.
    EXPIRED = "expired"
    #: It came before, with the same source and event id.
    DUPLICATE = "duplicate"
    #: The filter failed on it.
    UNDECIDABLE = "undecidable"
    #: It is JSON, but no notification.
    MALFORMED = "malformed"
    #: It is no JSON.
    UNREADABLE = "unreadable"

    @property
    def set_aside(self) -> bool:
        """Whether it is kept for people to look at, though there is no job."""
        return self in (Verdict.UNDECIDABLE, Verdict.MALFORMED, Verdict.UNREADABLE)


class Origin(enum.Enum):
    """How a notification came to us."""

    #: The producer posted it.
    DELIVERED = "delivered"
    #: Nobody did, so it was made of what policy tells of the transaction.
    RECOVERED = "recovered"


@attrs.frozen(kw_only=True)
class Receipt:
    """What was committed to the ledger for a notification.

    Args:
        notification_id: Its number in the ledger.
        verdict: What became of it.
        job_id: Its job, if the verdict is `Verdict.MATCHED`.
        reason: Why it is undecidable, malformed or unreadable, in words.
    """

    notification_id: int
    verdict: Verdict
    job_id: int | None = None
    reason: str = ""


@attrs.frozen(kw_only=True)
class NotificationRecord:
    """A notification as the ledger knows it.

    Args:
        id: Its number.
        received_at: When it came, in seconds since 1970.
        source: The producer's ``source``, None if it has none.
        event_id: The producer's ``eventID``, None if it has none.
        title: How to call it.
        verdict: What became of it.
        reason: Why it is undecidable, malformed or unreadable, in words.
        origin: How it came to us.
        kept: Whether its body has been kept.
        traceparent: Names the trace that it belongs to; empty if there is none.
        job_id: Its job, if there is one.
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
    """Where a job stands.

    queued → running → succeeded, or failed → running again, or dead; what was interrupted is queued again; what is not
    running can be cancelled, and what has ended be queued anew.
    """

    #: It waits for its turn.
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    #: An attempt failed, and the next one is due after a pause.
    FAILED = "failed"
    #: The last attempt failed. It is kept.
    DEAD = "dead"
    #: Somebody said that it is not to be run (any more).
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the job will not be run any more by itself."""
        return self in (JobState.SUCCEEDED, JobState.DEAD, JobState.CANCELLED)


class Fate(enum.Enum):
    """What brought an attempt to its end, which says what it counts for."""

    #: Its own doing, or that it took too long, or could not be started: it counts as an attempt.
    ENDED = "ended"
    #: Something under it died: that counts against a limit of its own.
    CRASHED = "crashed"
    #: It was not begun, and is to be tried again later.
    PUT_OFF = "put off"
    #: Whoever ran it had to stop: it counts for nothing.
    RETURNED = "returned"


@attrs.frozen(kw_only=True)
class Ending:
    """How an attempt ended.

    Args:
        status: The exit status, negative for a signal; None if the entry-point was not started.
        reason: Why it failed, in words; empty if it succeeded.
        cpu_seconds: The processor time that it and its children took, if known.
        peak_memory: The most memory that one of them held, in bytes, if known.
        output_tail: The last lines that it printed.
        fate: What brought it about.
    """

    status: int | None = None
    reason: str = ""
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    output_tail: str = ""
    fate: Fate = Fate.ENDED


@attrs.frozen(kw_only=True)
class RemoteLocation:
    """Where a job is run that was handed to another machine.

    Args:
        worker: Who runs it there.
        directory: Its directory there.
    """

    worker: str
    directory: str


@attrs.frozen(kw_only=True)
class Job:
    """A job as the ledger knows it.

    Args:
        id: Its number.
        title: The event id of its notification, for logs.
        received_at: When that came, in seconds since 1970.
        traceparent: Names the trace that it belongs to; empty if there is none.
        origin: How it came to us.
        body: The notification, byte for byte as received; empty unless the job was claimed to be run.
        state: Where it stands.
        attempts: How many attempts have ended; those that a shutdown or a crash interrupted do not count, nor do those
            that asked to be tried again later.
        deferrals: How many attempts asked for that, with exit status 75.
        crashes: How often it was running when the runner or the machine died.
        token: Proves that this claim is the one under which the job runs; empty unless it was claimed to be run.
        started_at: When the last attempt began, in seconds since 1970.
        ended_at: When it ended, in seconds since 1970.
        ending: How the last attempt ended.
        progress: How far the ``download`` and the ``upload`` of the last attempt are, as far as it has begun them.
        task: What it is called where it is handed to other machines; empty when it is not.
        place: Where it is run, or was last, if that is another machine.
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
        """The last attempt's exit status; negative is the number of the signal that ended it."""
        return self.ending.status

    @property
    def reason(self) -> str:
        """Why the last attempt failed, in words."""
        return self.ending.reason

    @property
    def seconds(self) -> float | None:
        """How long the last attempt took; None before its end."""
        if self.started_at is None or self.ended_at is None:
            return None
        return max(0.0, self.ended_at - self.started_at)
