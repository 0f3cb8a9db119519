"""A job: the run of an entry-point for one notification."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs

from .progress import Progress


class Verdict(enum.Enum):
    """What became of a notification."""

    #: The filter matches, so there is a job for it.
    MATCHED = "matched"
    #: The filter does not match.
    UNMATCHED = "unmatched"
    #: It announces what this very consumer uploaded.
    OWN = "own"
    #: It came before, with the same source and event id.
    DUPLICATE = "duplicate"
    #: The filter failed on it.
    UNDECIDABLE = "undecidable"
    #: It is JSON, but no notification.
    MALFORMED = "malformed"
    #: It is no JSON.
    UNREADABLE = "unreadable"


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


@attrs.frozen(kw_only=True)
class Job:
    """A job as the ledger knows it.

    Args:
        id: Its number.
        title: The event id of its notification, for logs.
        body: The notification, byte for byte as received; empty unless the job was claimed to be run.
        state: Where it stands.
        attempts: How many attempts have ended; one that a shutdown interrupted does not count.
        exit_status: The last attempt's exit status; negative is the number of the signal that ended it.
        reason: Why the last attempt failed, in words.
        progress: How far the ``download`` and the ``upload`` of the last attempt are, as far as it has begun them.
    """

    id: int
    title: str
    body: bytes = attrs.field(repr=False)
    state: JobState
    attempts: int
    exit_status: int | None = None
    reason: str = ""
    progress: Mapping[str, Progress] = attrs.field(factory=dict)
