"""The metrics of a consumer, in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from importlib.metadata import version
from typing import Any

import attrs

from ..jobs.job import JobState
from .histograms import Distribution, Histogram, Histograms
from .job_runner import JobRunner

PREFIX = "pacifica_consumer_"

#: A number, numbers by the values of a label, or a distribution.
Value = float | Mapping[Any, int] | Distribution


@attrs.frozen
class Family:
    """Metrics with the same name, which stands here without the prefix; the label is empty if there is only one."""

    name: str
    #: ``counter``, ``gauge`` or ``histogram``.
    kind: str
    help: str
    read: Callable[[JobRunner], Value]
    label: str = ""


def _depth(runner: JobRunner) -> float:
    states = runner.count_jobs()
    return states[JobState.QUEUED] + states[JobState.FAILED]


def _age(runner: JobRunner) -> float:
    due = runner.ledger.next_due()
    return 0.0 if due is None else round(max(0.0, time.time() - due), 3)


def _missed(runner: JobRunner) -> Mapping[str, int]:
    missed = runner.ledger.coverage.counts()
    return {"recovered": missed.recovered, "refused": missed.refused}


def _histogram(name: str, help: str, which: Callable[[Histograms], Histogram]) -> Family:
    return Family(name, "histogram", help, lambda runner: which(runner.histograms).read())


FAMILIES = (
    Family(
        "notifications_total",
        "counter",
        "Notifications taken, by verdict.",
        lambda runner: runner.ledger.count_verdicts(),
        "verdict",
    ),
    Family("jobs", "gauge", "Jobs in each state.", JobRunner.count_jobs, "state"),
    Family("queue_depth", "gauge", "Jobs that wait for an attempt.", _depth),
    Family("queue_age_seconds", "gauge", "For how long the first waiting job has been due.", _age),
    _histogram(
        "commit_seconds", "From the end of reading notifications to their commit to disk.", lambda of: of.commits
    ),
    _histogram(
        "job_wait_seconds", "From the arrival of a notification to the first attempt at its job.", lambda of: of.waits
    ),
    _histogram("job_seconds", "How long attempts took.", lambda of: of.attempts),
    Family(
        "incidents_total",
        "counter",
        "Repairs of the subscription.",
        lambda runner: runner.ledger.count_incidents(),
        "kind",
    ),
    Family("missed_total", "counter", "Matching transactions that were never announced, by fate.", _missed, "fate"),
    Family(
        "missed_unknown",
        "gauge",
        "Numbers of transactions of which policy knows nothing yet.",
        lambda runner: runner.ledger.coverage.counts().unknown,
    ),
    Family("build_info", "gauge", "The version.", lambda _: {version("pacifica-notifications-consumer"): 1}, "version"),
)


def write_metrics(runner: JobRunner) -> str:
    """Write the metrics of a consumer.

    The counts are read from the ledger, so they outlive a restart; the histograms are empty at each start.

    Args:
        runner: The consumer's runner, entered.
    """
    return "".join(f"{line}\n" for family in FAMILIES for line in _lines(family, family.read(runner)))


def _lines(family: Family, value: Value) -> Iterator[str]:
    name = PREFIX + family.name
    yield f"# HELP {name} {family.help}"
    yield f"# TYPE {name} {family.kind}"
    if isinstance(value, Distribution):
        for bound, count in zip(value.bounds, value.counts, strict=True):
            yield f'{name}_bucket{{le="{bound:g}"}} {count}'
        yield f'{name}_bucket{{le="+Inf"}} {value.count}'
        yield f"{name}_sum {value.total:.6f}"
        yield f"{name}_count {value.count}"
    elif isinstance(value, Mapping):
        for word, number in value.items():
            # None of the values contains characters that must be escaped.
            yield f'{name}{{{family.label}="{word.value if isinstance(word, Enum) else word}"}} {number}'
    else:
        yield f"{name} {value}"
