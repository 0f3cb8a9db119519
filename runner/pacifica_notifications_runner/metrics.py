"""What the consumer has done, counted, in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version

from pacifica_notifications_consumer import JobRunner

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "pacifica_consumer_"


def write_metrics(runner: JobRunner) -> str:
    """Write down the counts of a consumer; they are those of its state directory, so they outlive a restart."""
    missed = runner.count_missed()
    verdicts = {verdict.value: count for verdict, count in runner.count_verdicts().items()}
    jobs = {state.value: count for state, count in runner.count_jobs().items()}
    incidents = {kind.value: count for kind, count in runner.count_incidents().items()}
    found = {"recovered": missed.recovered, "refused": missed.refused}
    parts = (
        _family("notifications_total", "counter", "Notifications taken, by what became of them.", "verdict", verdicts),
        _family("jobs", "gauge", "Jobs in each state.", "state", jobs),
        _family("incidents_total", "counter", "Repairs of the subscription.", "kind", incidents),
        _family("missed_total", "counter", "Transactions that nobody announced, and that match.", "fate", found),
        _family("missed_unknown", "gauge", "Transactions of which policy cannot tell.", "", {"": missed.unknown}),
        _family("build_info", "gauge", "The version.", "version", {version("pacifica-notifications-consumer"): 1}),
    )
    return "".join(f"{line}\n" for part in parts for line in part)


def _family(name: str, kind: str, help_text: str, label: str, values: Mapping[str, int]) -> Iterator[str]:
    name = _PREFIX + name
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {kind}"
    for value, number in values.items():
        # No value here has characters that would have to be escaped.
        yield f'{name}{{{label}="{value}"}} {number}' if label else f"{name} {number}"
