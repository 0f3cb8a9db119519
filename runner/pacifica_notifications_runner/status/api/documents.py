"""The documents of the API, as types from which the OpenAPI description is derived.

Text in an annotation describes the field; a class there defines the words or the fields of the value. A type whose
name ends in ``Document`` becomes a named schema.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, NewType, TypedDict, TypeVar

import attrs

from pacifica_notifications_consumer.cloudevents.trace import trace_id
from pacifica_notifications_consumer.jobs.directory import JobDirectory
from pacifica_notifications_consumer.jobs.files import JobFile
from pacifica_notifications_consumer.jobs.job import Job, JobState, NotificationRecord, Origin, Verdict
from pacifica_notifications_consumer.ledger import EndedJob, MissedCounts
from pacifica_notifications_consumer.streams.progress import Progress
from pacifica_notifications_consumer.subscription.incident import Incident

#: A time in ISO 8601, in UTC.
Time = NewType("Time", str)
#: The fields of objects with times in seconds since 1970, which are a `Time` in documents.
TIMES = frozenset({"received_at", "started_at", "ended_at", "changed_at", "since", "until", "minute"})
State = Annotated[str, JobState]
_T = TypeVar("_T")


class JobDocument(TypedDict):
    """A job."""

    id: int
    title: str
    state: State
    origin: Annotated[str, Origin]
    received_at: Time
    started_at: Time | None
    ended_at: Time | None
    seconds: Annotated[float | None, "how long the last attempt took"]
    attempts: int
    deferrals: int
    crashes: int
    exit_status: Annotated[int | None, "of the last attempt; negative is a signal's number"]
    reason: str
    cpu_seconds: float | None
    peak_memory: Annotated[int | None, "bytes"]
    output_tail: str
    progress: Mapping[str, Annotated[Mapping[str, int], Progress]]
    directory: str
    handed_out: Annotated[bool, "whether it was handed to other machines"]
    worker: Annotated[str | None, "the machine that runs it, or ran it last, if that is another one"]
    worker_directory: Annotated[str | None, "its directory there"]
    trace: str | None


class JobsDocument(TypedDict):
    """A page of a list of jobs."""

    jobs: list[JobDocument]
    next: int | None


class NotificationDocument(TypedDict):
    """A notification."""

    id: int
    title: str
    received_at: Time
    source: str | None
    event_id: str | None
    verdict: Annotated[str, Verdict]
    reason: str
    origin: Annotated[str, Origin]
    kept: Annotated[bool, "whether its body has been kept"]
    job: int | None
    trace: str | None


class NotificationsDocument(TypedDict):
    """A page of a list of notifications."""

    notifications: list[NotificationDocument]
    next: int | None


class FilesDocument(TypedDict):
    """The files in a job's directory."""

    directory: str
    files: list[Annotated[Mapping[str, Any], JobFile]]
    more: Annotated[bool, "whether there are more than are listed"]


class EngineStatus(TypedDict):
    """Where jobs run."""

    place: Annotated[str, "the broker that jobs are handed to; empty if they run on this machine"]
    trouble: Annotated[str, "why jobs cannot be handed out, or their ends not be received; empty if they can"]


class SubscriptionStatus(TypedDict):
    """The state of the subscription."""

    well: bool
    trouble: str
    uuid: str
    target_url: str


class StatusDocument(TypedDict):
    """The state of the consumer."""

    name: str
    version: str
    state_dir: str
    running: bool
    engine: EngineStatus
    subscription: SubscriptionStatus | None
    jobs: Mapping[State, int]
    notifications: Mapping[Annotated[str, Verdict], int]
    missed: Annotated[Mapping[str, int], MissedCounts]
    waiting_seconds: Annotated[float | None, "how long the first waiting job has been due"]
    incidents: list[Annotated[Mapping[str, Any], Incident]]
    ended_by_minute: list[Annotated[Mapping[str, Any], EndedJob]]


class CancellationDocument(TypedDict, total=False):
    """Why a job is cancelled."""

    reason: str


class SelectionDocument(TypedDict, total=False):
    """Which jobs are to be replayed."""

    since: Annotated[str | None, "only jobs whose notifications were received at this time or later"]
    until: Annotated[str | None, "only jobs whose notifications were received at this time or earlier"]
    match: Annotated[str | None, "only jobs whose notifications match this JSONPath"]
    states: list[State]
    dry_run: Annotated[bool, "whether to count the jobs only"]


class ReplayedDocument(TypedDict):
    """Which jobs were queued again, or would be."""

    count: int
    jobs: Annotated[list[int], "their numbers; of more than a thousand, the first thousand"]
    dry_run: bool


class ProblemDocument(TypedDict):
    """Why a request was refused (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


def plain(value: Any, field: str = "") -> Any:
    """A value for JSON: enumerations become words, attrs classes objects, and their times ISO 8601."""
    if field in TIMES and isinstance(value, float | int):
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, enum.Enum):
        return value.value
    if attrs.has(type(value)):
        return {name: plain(getattr(value, name), name) for name in attrs.fields_dict(type(value))}
    if isinstance(value, Mapping):
        return {plain(key): plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


def document_of(kind: type[_T], thing: object, **fields: Any) -> _T:
    """A document with the given fields; the others are attributes of an object."""
    values = ((name, fields[name] if name in fields else getattr(thing, name)) for name in kind.__annotations__)
    return kind(**{name: plain(value, name) for name, value in values})


def job_document(job: Job, directory: JobDirectory) -> JobDocument:
    """A job."""
    return document_of(
        JobDocument,
        job,
        cpu_seconds=job.ending.cpu_seconds,
        peak_memory=job.ending.peak_memory,
        output_tail=job.ending.output_tail,
        directory=str(directory.path),
        handed_out=bool(job.task),
        worker=job.place.worker if job.place else None,
        worker_directory=job.place.directory if job.place else None,
        trace=trace_id(job.traceparent) or None,
    )


def notification_document(record: NotificationRecord) -> NotificationDocument:
    """A notification."""
    return document_of(NotificationDocument, record, job=record.job_id, trace=trace_id(record.traceparent) or None)
