"""The metrics of a consumer, in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any

import attrs

from ..jobs.job import JobState
from .histograms import Distribution
from .job_runner import JobRunner

PREFIX = "pacifica_consumer_"

#: A number, numbers by the value of a label, or a distribution.
Value = float | Mapping[str, int] | Distribution


@attrs.frozen(kw_only=True)
class Family:
    """Metrics of one name.

    Args:
        name: Their name, without the prefix.
        kind: ``counter``, ``gauge`` or ``histogram``.
        help: Their meaning.
        label: The label that tells one from another; empty if there is only one metric.
        read: Reads their values.
    """

    name: str
    kind: str
    help: str
    label: str = ""
    read: Callable[[JobRunner], Value]


def _by_word(counts: Mapping[Any, int]) -> dict[str, int]:
    return {str(word.value): count for word, count in counts.items()}


def _depth(runner: JobRunner) -> float:
    states = runner.count_jobs()
    return states[JobState.QUEUED] + states[JobState.FAILED]


def _age(runner: JobRunner) -> float:
    due = runner.next_due()
    return 0.0 if due is None else round(max(0.0, time.time() - due), 3)


def _missed(runner: JobRunner) -> Mapping[str, int]:
    missed = runner.count_missed()
    return {"recovered": missed.recovered, "refused": missed.refused}


def _build(_: JobRunner) -> Mapping[str, int]:
    return {version("pacifica-notifications-consumer"): 1}


FAMILIES = (
    Family(
        name="notifications_total",
        kind="counter",
        help="Notifications taken, by verdict.",
        label="verdict",
        read=lambda runner: _by_word(runner.count_verdicts()),
    ),
    Family(
        name="jobs",
        kind="gauge",
        help="Jobs in each state.",
        label="state",
        read=lambda runner: _by_word(runner.count_jobs()),
    ),
    Family(name="queue_depth", kind="gauge", help="Jobs that wait for an attempt.", read=_depth),
    Family(name="queue_age_seconds", kind="gauge", help="For how long the first waiting job has been due.", read=_age),
    Family(
        name="commit_seconds",
        kind="histogram",
        help="From the end of reading notifications to their commit to disk.",
        read=lambda runner: runner.histograms.commits.read(),
    ),
    Family(
        name="job_wait_seconds",
        kind="histogram",
        help="From the arrival of a notification to the first attempt at its job.",
        read=lambda runner: runner.histograms.waits.read(),
    ),
    Family(
        name="job_seconds",
        kind="histogram",
        help="How long attempts took.",
        read=lambda runner: runner.histograms.attempts.read(),
    ),
    Family(
        name="incidents_total",
        kind="counter",
        help="Repairs of the subscription.",
        label="kind",
        read=lambda runner: _by_word(runner.count_incidents()),
    ),
    Family(
        name="missed_total",
        kind="counter",
        help="Matching transactions that were never announced, by what became of them.",
        label="fate",
        read=_missed,
    ),
    Family(
        name="missed_unknown",
        kind="gauge",
        help="Numbers of transactions that policy does not know yet, or cannot tell about.",
        read=lambda runner: runner.count_missed().unknown,
    ),
    Family(
        name="build_info",
        kind="gauge",
        help="The version.",
        label="version",
        read=_build,
    ),
)


def write_metrics(runner: JobRunner) -> str:
    """Write the metrics of a consumer.

    The counts are those of its state directory, so they outlive a restart; the histograms begin anew with each start.

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
            # None of the words has characters that would have to be escaped.
            yield f'{name}{{{family.label}="{word}"}} {number}'
    else:
        yield f"{name} {value}"
