"""Filtering notifications: Filter beside jsonpath2, other implementations, and reading the JSON."""

from __future__ import annotations

import functools
import importlib
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonpath2

from pacifica_notifications_consumer import Filter
from pacifica_notifications_consumer.filter.compiler import compile_node
from tests.benchmarks.measure import seconds

_TEMPLATES = Path(__file__).parents[2] / "runner" / "pacifica_notifications_runner" / "templates"
_EXAMPLE = _TEMPLATES / "uppercase" / "jsonpath2.txt"
#: What others can say of it, in their own dialects.
_STANDARD = '$.data[?(@.destinationTable == "Files" && @.mimetype == "text/plain")]._id'
_ROW = {
    "destinationTable": "Files",
    "_id": 1,
    "name": "file.dat",
    "subdir": "run 1/raw",
    "size": 1 << 20,
    "hashtype": "sha1",
    "hashsum": "6fe25deddd524255baa1a9dc5a4928d1bf7abf36",
    "mimetype": "application/octet-stream",
    "ctime": "2026-11-24T00:14:30",
    "mtime": "2026-11-24T00:14:30",
}
#: Seconds for which one contender is measured, and how often it is tried at least and at most.
_SECONDS, _LEAST, _MOST = 0.5, 3, 200


def main() -> None:
    """Measure the documented expression on notifications of few and many files."""
    for files in (10, 1_000, 10_000, 100_000):
        cases = {"the first matches": 0, "the last matches": files - 1, "none matches": None}
        events = {name: _event(files, position) for name, position in cases.items()}
        print(f"\nFiltering a notification of {files} files: microseconds, medians (and as a share of json.loads)")
        print(f"  {'':<34} {''.join(f'{name:>24}' for name in cases)}")
        reading = {
            name: _microseconds(functools.partial(json.loads, json.dumps(event))) for name, event in events.items()
        }
        for contender, make in _contenders().items():
            cells = []
            for name, event in events.items():
                took = _microseconds(make(event))
                cells.append(f"{took:>14.1f} ({took / reading[name]:>6.1%})")
            print(f"  {contender:<34} {''.join(f'{cell:>24}' for cell in cells)}")
        print(f"  {'json.loads of the same':<34} {''.join(f'{took:>15.1f}         ' for took in reading.values())}")


def _event(files: int, position: int | None) -> dict[str, Any]:
    rows = [_ROW | {"_id": number, "name": f"file-{number}.dat"} for number in range(files)]
    if position is not None:
        rows[position]["mimetype"] = "text/plain"
    return {"eventID": "metadata.ingest.1", "eventType": "org.pacifica.metadata.ingest", "data": rows}


def _contenders() -> dict[str, Callable[[Any], Callable[[], object]]]:
    """Make of an event what is to be measured; each stops at the first hit, as far as it can."""
    ours = Filter(_EXAMPLE.read_text().strip())
    theirs = jsonpath2.Path.parse_str(ours.jsonpath)
    closures = compile_node(theirs.root_node).test
    contenders: dict[str, Callable[[Any], Callable[[], object]]] = {
        "Filter.matches()": lambda event: lambda: ours.matches(event),
        "its closures, nothing generated": lambda event: lambda: closures(event, event),
        "a predicate written by hand": lambda event: lambda: _predicate(event),
        "jsonpath2": lambda event: lambda: next(iter(theirs.match(event)), None),
    }
    try:
        standard = importlib.import_module("jsonpath").compile(_STANDARD)
        next_generation = importlib.import_module("jsonpath_ng.ext").parse(_STANDARD)
        finder = importlib.import_module("jsonpath_rust_bindings").Finder
    except ImportError as error:
        print(f"left out: {error}; they come with `make bench`")
        return contenders
    return contenders | {
        "python-jsonpath": lambda event: lambda: next(iter(standard.finditer(event)), None),
        "jsonpath-ng, a part of it": lambda event: lambda: next_generation.find(event),
        "jsonpath-rust-bindings, a part of it": lambda event: lambda: finder(event).find(_STANDARD),
    }


def _predicate(event: dict[str, Any]) -> bool:
    if not ("eventID" in event and event.get("eventType") == "org.pacifica.metadata.ingest"):
        return False
    for row in event["data"]:
        if row.get("destinationTable") == "Files" and row.get("mimetype") == "text/plain" and "_id" in row:
            return True
    return False


def _microseconds(act: Callable[[], object]) -> float:
    times: list[float] = []
    while len(times) < _LEAST or (sum(times) < _SECONDS and len(times) < _MOST):
        times.append(seconds(act))
    return statistics.median(times) * 1_000_000


if __name__ == "__main__":
    main()
