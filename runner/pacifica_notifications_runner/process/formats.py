"""Times, durations, sizes and the facts about jobs as text; the commands and the status page show the same."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pacifica_notifications_consumer.settings.converters import describe_size
from pacifica_notifications_consumer.streams.progress import Progress, describe_progress

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def duration(seconds: float | None) -> str:
    """A duration, in at most two units."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, smaller, smaller_unit in ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "min")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {smaller_unit}"
    return f"{whole // _MINUTE} min {whole % _MINUTE} s"


def size(count: int | None) -> str:
    """A number of bytes."""
    return "" if count is None else describe_size(count)


def clock(moment: str | None) -> str:
    """A time of the API, in this machine's zone."""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def since(moment: str | None) -> float | None:
    """Seconds since a time of the API."""
    return max(0.0, time.time() - datetime.fromisoformat(moment).timestamp()) if moment else None


def progress(document: Mapping[str, Mapping[str, int]]) -> str:
    """The progress of a job's transfers, in a line."""
    return describe_progress({name: Progress(**numbers) for name, numbers in document.items()})


def took(job: Mapping[str, Any]) -> str:
    """How long a job's last attempt took, or has taken so far."""
    return duration(since(job["started_at"]) if job["state"] == "running" else job["seconds"])


def remarks(job: Mapping[str, Any]) -> str:
    """The progress of a running job; the reason for the state of any other, such as why it is dead."""
    if job["state"] != "running":
        return str(job["reason"])
    return progress(job["progress"]) or ("waits for a worker" if job["handed_out"] and not job["worker"] else "")


def job_row(job: Mapping[str, Any]) -> tuple[str, ...]:
    """A job in a list: its number, state, start, duration, memory, event and remarks."""
    start, memory = clock(job["started_at"]), size(job["peak_memory"])
    return str(job["id"]), job["state"], start, took(job), memory, job["title"], remarks(job)


def job_facts(job: Mapping[str, Any]) -> dict[str, Any]:
    """The facts about a job, by name; some values may be empty."""
    return {
        "state": job["state"],
        "remarks": remarks(job),
        "notification": f"{job['title']} ({job['origin']})",
        "received": clock(job["received_at"]),
        "started": clock(job["started_at"]),
        "ended": "" if job["state"] == "running" else clock(job["ended_at"]),
        "took": took(job),
        "processor time": duration(job["cpu_seconds"]),
        "memory": size(job["peak_memory"]),
        "exit status": job["exit_status"],
        "attempts": job["attempts"] or "",
        "put off": job["deferrals"] or "",
        "crashes": job["crashes"] or "",
        "progress": progress(job["progress"]),
        "trace": job["trace"],
        "directory": job["directory"],
        "worker": job["worker"],
        "remote path": job["worker_directory"],
    }
