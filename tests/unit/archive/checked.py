"""A consumer to check, and what is found in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pacifica_notifications_consumer.archive.findings import Finding

CONSUMER = "import sys\nfrom pacifica_notifications_consumer import download, upload\nprint(sys.argv)\n"
TEXT = '$["data"][*][?(@["mimetype"] = "text/plain")]'


def consumer(directory: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in {"__main__.py": CONSUMER, **files}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return directory


def told(findings: Iterable[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.level.value, finding.position, f"{finding.problem}; {finding.advice}") for finding in findings]


def expect(findings: Iterable[Finding], expected: Iterable[tuple[str, str, str]]) -> None:
    """Compare findings with the level, the beginning of the position and a part of the sentence of each."""
    found = told(findings)
    short = [
        (level, position[: len(place)], words if words in sentence else sentence)
        for (level, position, sentence), (_, place, words) in zip(found, expected, strict=False)
    ]
    assert (short, len(found)) == (list(expected), len(short)), found
