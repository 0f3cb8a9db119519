"""What the targets of fuzzing share: what good input looks like, and how it is said that something was found."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

from tests.support.paths import NOTIFICATIONS as DATA

Try = Callable[[random.Random], None]
NOTIFICATIONS = [path.read_bytes() for path in sorted(DATA.glob("*.json"))]
SMALL = [body for body in NOTIFICATIONS if len(body) < 10_000]
_EVENT = {
    "specversion": "1.0",
    "type": "t",
    "source": "/s",
    "id": "i",
    "data": {"a": [1, "ä"]},
    "time": "2020-01-01T00:00:00Z",
}
EVENTS = [
    json.dumps(_EVENT).encode(),
    json.dumps({**_EVENT, "specversion": "0.3", "datacontentencoding": "base64", "data": "AAAA"}).encode(),
    json.dumps([_EVENT, {**_EVENT, "id": "j", "expirytime": "2001-01-01T00:00:00Z", "dataref": "http://x"}]).encode(),
    *SMALL,
]


class Finding(AssertionError):  # noqa: N818  (it is what is looked for)
    """Something that must not be."""


def remove(path: Path) -> None:
    """Remove a directory with what is in it."""
    for each in sorted(path.rglob("*"), reverse=True):
        each.rmdir() if each.is_dir() else each.unlink()
    path.rmdir()
