"""Removing the directories of attempts that have ended on a worker."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection
from pathlib import Path

from ...jobs.retention import Keep
from ...system.temporary import remove_tree


def remove_old(jobs: Path, keep: Keep, running: Collection[str]) -> None:
    """Remove the directories of attempts that are not to be kept.

    Args:
        jobs: Where they are.
        keep: Which ones stay.
        running: The names of those that are in use.
    """
    ended: list[tuple[float, Path]] = []
    for path in jobs.iterdir():
        # Another thread may be at it, too.
        with contextlib.suppress(OSError):
            if path.name not in running:
                ended.append((path.stat().st_mtime, path))
    ended.sort(reverse=True)
    oldest = time.time() - keep.age if keep.age is not None else 0.0
    for number, (changed_at, path) in enumerate(ended):
        if changed_at < oldest or (keep.count is not None and number >= keep.count):
            remove_tree(path)
