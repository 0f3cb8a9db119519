"""Waiting for conditions, and reading files that another process is writing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

#: Seconds that a loaded machine may take for what an idle one does at once. A passing test never waits for its end.
DEADLINE = 240.0
T = TypeVar("T")


def wait_until(condition: Callable[[], T | None], what: str = "", seconds: float = DEADLINE) -> T:
    """Return the first true value of a condition, or fail when there was none in time."""
    deadline = time.monotonic() + seconds
    pause = 0.005
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still not after {seconds:g} s: {what or condition}"
        # Longer and longer, because asking takes processor time from the one who is waited for.
        time.sleep(pause)
        pause = min(1.5 * pause, 0.05)
    return value


def whole_lines(path: Path) -> list[str]:
    """The lines of a file that are complete, without their ends; none if it does not exist yet."""
    text = path.read_bytes().decode(errors="replace") if path.exists() else ""
    return [line[:-1] for line in text.splitlines(keepends=True) if line.endswith("\n")]


def wait_for_line(path: Path) -> str:
    """Wait until a file has a complete line, and return the first one."""
    return wait_until(lambda: whole_lines(path), f"a line in {path}")[0]
