"""How times, durations and sizes are shown to people."""

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
    """How far a job's transfers are, of the API, in a line."""
    return describe_progress({what: Progress(**numbers) for what, numbers in document.items()})


def count(number: int, thing: str) -> str:
    """A number of things."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def remarks(job: Mapping[str, Any]) -> str:
    """What is to be said of a job: how far it is, or how it ended."""
    if job["state"] != "running":
        return str(job["reason"])
    return progress(job["progress"]) or ("waits for a worker" if job["handed_out"] and not job["worker"] else "")
