"""Temporary directories go, whatever is in them."""

import tempfile
from pathlib import Path

import pytest

from pacifica_notifications_consumer.errors import StateError
from pacifica_notifications_consumer.temporary import temporary_directory


def test_read_only_folders(tmp_path: Path) -> None:
    """A tree with read-only folders, as some installers leave them, is removed, but not what its links lead to."""
    tmp_path.chmod(0o500)
    with temporary_directory("x-") as directory:
        (directory / "a" / "b").mkdir(parents=True)
        (directory / "a" / "b" / "file").touch()
        (directory / "link").symlink_to(tmp_path)
        (directory / "a" / "b").chmod(0o500)
        (directory / "a").chmod(0o500)
    assert not directory.exists()
    assert tmp_path.stat().st_mode & 0o777 == 0o500


def test_no_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A place for temporary files that does not exist is named as the cause."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(StateError, match="cannot make a temporary directory"), temporary_directory("x-"):
        pass
