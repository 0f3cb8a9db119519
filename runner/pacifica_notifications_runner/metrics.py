"""What the consumer has done, counted, in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from platform import python_version

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.job import JobState
from pacifica_notifications_consumer.meters import Distribution

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "pacifica_consumer_"


def write_metrics(runner: JobRunner) -> str:
    """Write down the counts of a consumer.

    They are those of its state directory, so they outlive a restart; only the histograms begin anew with each.
    """
    missed = runner.count_missed()
    verdicts = {verdict.value: count for verdict, count in runner.count_verdicts().items()}
    states = runner.count_jobs()
    jobs = {state.value: count for state, count in states.items()}
    incidents = {kind.value: count for kind, count in runner.count_incidents().items()}
    found = {"recovered": missed.recovered, "refused": missed.refused}
    due = runner.next_due()
    age = 0.0 if due is None else max(0.0, time.time() - due)
    build = f'version="{version("pacifica-notifications-consumer")}",python="{python_version()}"'
    meters = runner.meters
    parts = (
        _family("notifications_total", "counter", "Notifications taken, by what became of them.", "verdict", verdicts),
        _family("jobs", "gauge", "Jobs in each state.", "state", jobs),
        _single("queue_depth", "Jobs that wait for an attempt.", states[JobState.QUEUED] + states[JobState.FAILED]),
        _single("queue_age_seconds", "Since when the first waiting job is due.", round(age, 3)),
        _histogram("commit_seconds", "From a read notification to one on disk.", meters.commits.read()),
        _histogram("job_wait_seconds", "From a notification to the first attempt at its job.", meters.waits.read()),
        _histogram("job_seconds", "How long attempts took.", meters.attempts.read()),
        _family("incidents_total", "counter", "Repairs of the subscription.", "kind", incidents),
        _family("missed_total", "counter", "Transactions that nobody announced, and that match.", "fate", found),
        _single("missed_unknown", "Transactions of which policy cannot tell.", missed.unknown),
        (*_head("build_info", "gauge", "The version."), f"{_PREFIX}build_info{{{build}}} 1"),
    )
    return "".join(f"{line}\n" for part in parts for line in part)


def _head(name: str, kind: str, help_text: str) -> tuple[str, str]:
    return f"# HELP {_PREFIX}{name} {help_text}", f"# TYPE {_PREFIX}{name} {kind}"


def _single(name: str, help_text: str, value: float) -> Iterator[str]:
    yield from _head(name, "gauge", help_text)
    yield f"{_PREFIX}{name} {value}"


def _family(name: str, kind: str, help_text: str, label: str, values: Mapping[str, int]) -> Iterator[str]:
    yield from _head(name, kind, help_text)
    for value, number in values.items():
        # No value here has characters that would have to be escaped.
        yield f'{_PREFIX}{name}{{{label}="{value}"}} {number}'


def _histogram(name: str, help_text: str, counted: Distribution) -> Iterator[str]:
    yield from _head(name, "histogram", help_text)
    for bound, count in zip(counted.bounds, counted.counts, strict=True):
        yield f'{_PREFIX}{name}_bucket{{le="{bound:g}"}} {count}'
    yield f'{_PREFIX}{name}_bucket{{le="+Inf"}} {counted.count}'
    yield f"{_PREFIX}{name}_sum {counted.total:.6f}"
    yield f"{_PREFIX}{name}_count {counted.count}"
