"""A filter is explained on notifications, and consumers that would process each other's uploads are found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from pacifica_notifications_consumer.archive.archive import Consumer
from pacifica_notifications_consumer.archive.filter_checks import Match, check_loops, check_notification
from pacifica_notifications_consumer.archive.findings import Finding
from pacifica_notifications_consumer.filter.filter import Filter
from tests.support.paths import NOTIFICATIONS as FOLDER
from tests.unit.archive.checked import CONSUMER, TEXT, consumer, told

NOTIFICATIONS = sorted(FOLDER.glob("*.json"))
LOOPS: list[tuple[str, Mapping[str, str], list[tuple[str, str]]]] = [
    ("only downloads", {"__main__.py": "from pacifica_notifications_consumer import download\n"}, []),
    ("narrow", {"jsonpath2.txt": '$["data"][*][?(@["mimetype"] = "application/x-raw")]'}, []),
    ("text", {"jsonpath2.txt": TEXT}, [("note", "The consumer skips its own uploads")]),
    ("all", {}, [("warning", "without a filter it matches")]),
    (
        "text, by a module",
        {"__main__.py": "import util\n", "util.py": CONSUMER, "jsonpath2.txt": TEXT},
        [("note", "skips")],
    ),
    (
        "another uploader",
        {"__main__.py": "from pacifica.uploader import Uploader\n", "jsonpath2.txt": TEXT},
        [("error", "it would process its own uploads in an endless loop")],
    ),
    ("another uploader, narrow", {"__main__.py": "import pacifica.uploader\n", "jsonpath2.txt": '$["nothing"]'}, []),
]


@pytest.mark.parametrize(("files", "expected"), [row[1:] for row in LOOPS], ids=[row[0] for row in LOOPS])
def test_loops(tmp_path: Path, files: Mapping[str, str], expected: list[tuple[str, str]]) -> None:
    """A consumer that would process consumers' uploads is found; the level depends on how it uploads."""
    found = told(list(check_loops(Consumer.load(consumer(tmp_path, files)))))
    assert [(level, words in sentence) for (level, words), (_, _, sentence) in zip(expected, found, strict=True)] == [
        (level, True) for level, _, _ in found
    ]


def test_notifications_are_explained(tmp_path: Path) -> None:
    """The result for a notification says whether it matches, and why; a file that is not a notification is an error."""
    nested = next(path for path in NOTIFICATIONS if path.stem == "ingest-nested-files")
    match = check_notification(Filter(TEXT), nested)
    assert isinstance(match, Match)
    assert (match.matches, match.explanation.splitlines()[0]) == (True, "it matches")
    miss = check_notification(Filter('$["data"][*]["nothing"]'), nested)
    assert isinstance(miss, Match)
    assert (miss.matches, "finds nothing" in miss.explanation) == (False, True)
    everything = check_notification(None, nested)
    assert isinstance(everything, Match)
    assert everything.matches
    (tmp_path / "list.json").write_text(json.dumps([]))
    for path, words in ((tmp_path / "list.json", "JSON array"), (tmp_path / "none.json", "cannot read it")):
        bad = check_notification(None, path)
        assert isinstance(bad, Finding)
        assert words in bad.problem
