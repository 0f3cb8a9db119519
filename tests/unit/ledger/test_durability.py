"""Names of new files and directories are synced to the disk before anything is promised that depends on them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer.errors import StateError
from pacifica_notifications_consumer.jobs.directory import StateDirectory
from pacifica_notifications_consumer.jobs.job import Verdict
from pacifica_notifications_consumer.jobs.triage import Decision
from pacifica_notifications_consumer.ledger.ledger import Ledger

Pending = Callable[[], set[str]]


@pytest.fixture
def pending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pending:
    """Return the directories below ``tmp_path`` whose names may vanish in a power cut."""
    #: The names in each directory when it was last synced, by the directory's identity.
    synced: dict[tuple[int, int], set[str]] = {}
    fsync = os.fsync

    def record(handle: int) -> None:
        fsync(handle)
        seen = os.fstat(handle)
        here = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]
        for path in here:
            if (path.stat().st_dev, path.stat().st_ino) == (seen.st_dev, seen.st_ino):
                synced[seen.st_dev, seen.st_ino] = {child.name for child in path.iterdir()}

    monkeypatch.setattr(os, "fsync", record)

    def unsynced() -> set[str]:
        found = set()
        for path in tmp_path.rglob("*"):
            parent = path.parent.stat()
            if path.name not in synced.get((parent.st_dev, parent.st_ino), set()):
                found.add(str(path.relative_to(tmp_path)))
        return found

    return unsynced


def test_state_directory_and_jobs(tmp_path: Path, pending: Pending) -> None:
    """A new state directory, its parents, and the directories of a job up to ``DST`` are on the disk."""
    state = StateDirectory(tmp_path / "new" / "parents" / "state", "tester")
    try:
        # The lock needs to outlive no power cut.
        assert pending() == {"new/parents/state/lock"}
        state.job(1).prepare(b"{}", ["a"])
        assert {name for name in pending() if name.endswith(("jobs", "1", "outgoing", "incoming"))} == set()
    finally:
        state.close()


def test_directory_that_a_killed_process_left(tmp_path: Path, pending: Pending) -> None:
    """Directories that exist may have been made by a process that was killed before it synced them."""
    (tmp_path / "parents" / "state" / "jobs").mkdir(parents=True)
    StateDirectory(tmp_path / "parents" / "state", "tester").close()
    assert pending() == {"parents/state/lock"}


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_large_bodies(tmp_path: Path, pending: Pending, size: int) -> None:
    """When a notification has been accepted, its file and the directory of the file are on the disk."""
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    try:
        ledger.accept([(Decision(verdict=Verdict.MATCHED, title="t"), b"x" * size)])
        assert {name for name in pending() if name.startswith("notifications")} == set()
    finally:
        ledger.close()


def test_file_system_without_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system on which SQLite keeps no write-ahead log is refused, instead of being used without one."""
    connect = sqlite3.connect

    def without_shared_memory(path: Path, **arguments: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(f"{path.as_uri()}?vfs=unix-dotfile", uri=True, **arguments)
        return connection

    monkeypatch.setattr(sqlite3, "connect", without_shared_memory)
    with pytest.raises(StateError, match=r"cannot have a write-ahead log: .* is delete; put the state directory on"):
        Ledger(tmp_path / "ledger.sqlite3")
