"""Filtering notifications: Filter beside jsonpath2 and beside reading the JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonpath2

from pacifica_notifications_consumer import Filter
from tests.benchmarks.measure import compare, seconds

_EXAMPLE = Path(__file__).parents[2] / "runner" / "pacifica_notifications_runner" / "example" / "jsonpath2.txt"
_FILES = 1000


def main() -> None:
    """Measure the documented expression on a notification that names many files."""
    expression = _EXAMPLE.read_text().strip()
    row = {"destinationTable": "Files", "_id": 1, "name": "a", "subdir": "", "mimetype": "image/png", "size": 1}
    event = {"eventID": "e", "eventType": "org.pacifica.metadata.ingest", "data": [row] * _FILES}
    text = json.dumps(event)
    ours, theirs = Filter(expression), jsonpath2.Path.parse_str(expression)

    def milliseconds(act: Callable[[], object]) -> Callable[[], float]:
        return lambda: seconds(act) * 1000

    compare(
        f"Filtering a notification of {_FILES} files, none of which matches (less is better)",
        "ms",
        {
            "Filter.matches()": milliseconds(lambda: ours.matches(event)),
            "jsonpath2": milliseconds(lambda: list(theirs.match(event))),
            "json.loads of the same, for scale": milliseconds(lambda: json.loads(text)),
        },
        "jsonpath2",
    )
