"""Jobs, notifications and incidents as the JSON documents of the API; their schemas stand in `openapi`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs

from pacifica_notifications_consumer.cloudevents.trace import trace_id
from pacifica_notifications_consumer.jobs.directory import JobDirectory
from pacifica_notifications_consumer.jobs.job import Job, NotificationRecord
from pacifica_notifications_consumer.subscription.incident import Incident


def moment(seconds: float | None) -> str | None:
    """A time as ISO 8601 writes it, in UTC, to the millisecond."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def job_document(job: Job, directory: JobDirectory) -> dict[str, Any]:
    """A job."""
    return {
        "id": job.id,
        "title": job.title,
        "state": job.state.value,
        "origin": job.origin.value,
        "received_at": moment(job.received_at),
        "started_at": moment(job.started_at),
        "ended_at": moment(job.ended_at),
        "seconds": job.seconds,
        "attempts": job.attempts,
        "deferrals": job.deferrals,
        "crashes": job.crashes,
        "exit_status": job.exit_status,
        "reason": job.reason,
        "cpu_seconds": job.ending.cpu_seconds,
        "peak_memory": job.ending.peak_memory,
        "output_tail": job.ending.output_tail,
        "progress": {what: attrs.asdict(how_far) for what, how_far in job.progress.items()},
        "directory": str(directory.path),
        "handed_out": bool(job.task),
        "worker": job.place.worker if job.place else None,
        "worker_directory": job.place.directory if job.place else None,
        "trace": trace_id(job.traceparent) or None,
    }


def notification_document(record: NotificationRecord) -> dict[str, Any]:
    """A notification."""
    return {
        "id": record.id,
        "title": record.title,
        "received_at": moment(record.received_at),
        "source": record.source,
        "event_id": record.event_id,
        "verdict": record.verdict.value,
        "reason": record.reason,
        "origin": record.origin.value,
        "kept": record.kept,
        "job": record.job_id,
        "trace": trace_id(record.traceparent) or None,
    }


def incident_document(incident: Incident) -> dict[str, Any]:
    """An incident of the subscription."""
    return {
        "kind": incident.kind.value,
        "since": moment(incident.since),
        "until": moment(incident.until),
        "detail": incident.detail,
    }
