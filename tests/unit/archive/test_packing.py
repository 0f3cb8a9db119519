"""Packing is reproducible, leaves out unwanted files, and makes archives that can be deployed."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pacifica_notifications_consumer.archive.archive import open_archive
from pacifica_notifications_consumer.archive.packing import open_consumer, pack
from pacifica_notifications_consumer.errors import ArchiveError, PacificaError, UploadError
from pacifica_notifications_consumer.testing.instrument import files_below


@pytest.fixture
def consumer(tmp_path: Path) -> Path:
    directory = tmp_path / "consumer"
    for name in ("__main__.py", "lib/util.py", "jsonpath2.txt", "init.sh"):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("$" if name == "jsonpath2.txt" else "pass\n")
    (directory / "init.sh").chmod(0o755)
    return directory


def test_same_input_same_bytes(consumer: Path, tmp_path: Path) -> None:
    """The archive does not depend on time stamps, the order of creation, or the directory."""
    pack(consumer, tmp_path / "one.zip")
    elsewhere = tmp_path / "elsewhere"
    for name in ("lib/util.py", "init.sh", "jsonpath2.txt", "__main__.py"):
        path = elsewhere / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((consumer / name).read_bytes())
        path.chmod(0o700 if name == "init.sh" else 0o600)
        os.utime(path, (1, 1))
    pack(elsewhere, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_what_is_left_out(consumer: Path, tmp_path: Path) -> None:
    """Tests, compiled code, hidden files, environments and archives are left out and reported."""
    for name in (
        "test_consumer.py",
        "tests/test_more.py",
        "conftest.py",
        ".git/config",
        ".hidden",
        "__pycache__/x.pyc",
        "lib/util.pyc",
        "env/pyvenv.cfg",
        "env/bin/python",
        "old.zip",
        "notes.txt~",
    ):
        path = consumer / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    packed = pack(consumer, consumer / "consumer.zip")
    again = pack(consumer, consumer / "consumer.zip")
    assert packed.files == again.files == ("__main__.py", "init.sh", "jsonpath2.txt", "lib/util.py")
    with zipfile.ZipFile(consumer / "consumer.zip") as archive:
        assert tuple(archive.namelist()) == packed.files
    assert dict(again.left_out) == {
        "test_consumer.py": "tests",
        "tests": "tests",
        "conftest.py": "tests",
        ".git": "version control",
        ".hidden": "hidden",
        "__pycache__": "compiled code",
        "lib/util.pyc": "compiled code",
        "env": "a virtual environment",
        "old.zip": "another archive",
        "notes.txt~": "an editor's backup",
        "consumer.zip": "the archive itself",
    }


def test_what_is_packed_can_be_opened(consumer: Path, tmp_path: Path) -> None:
    """A packed consumer and its directory give the same consumer when opened."""
    pack(consumer, tmp_path / "consumer.zip")
    for opened in (
        open_archive(tmp_path / "consumer.zip"),
        open_consumer(consumer),
        open_consumer(tmp_path / "consumer.zip"),
    ):
        with opened as extracted:
            assert (extracted.directory / "lib" / "util.py").read_text() == "pass\n"
            assert extracted.init_script is not None
            assert os.access(extracted.init_script, os.X_OK)


def test_bad_directories(consumer: Path, tmp_path: Path) -> None:
    """A bad directory is not packed, an older archive is kept, and no partial file is left."""
    archive = tmp_path / "consumer.zip"
    archive.write_text("old")
    with pytest.raises(ArchiveError, match="is not a directory"):
        pack(tmp_path / "nothing", archive)
    (consumer / "link").symlink_to("/etc/passwd")
    with pytest.raises(ArchiveError, match="is a symbolic link"):
        pack(consumer, archive)
    (consumer / "link").unlink()
    (consumer / "__main__.py").unlink()
    with pytest.raises(ArchiveError, match=r"/consumer has no __main__.py"):
        pack(consumer, archive)
    with pytest.raises(ArchiveError, match="cannot pack"):
        pack(consumer, tmp_path / "no" / "consumer.zip")
    assert archive.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["consumer", "consumer.zip"]


def test_unreadable_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path or folder that the user may not read is an error that names it; no file is left out silently."""

    def refuse(*arguments: object, **_: object) -> bool:
        raise PermissionError(13, "Permission denied", "/secret")

    calls: list[tuple[Callable[[], object], type[PacificaError]]] = [
        (lambda: pack(tmp_path, tmp_path / "x.zip"), ArchiveError),
        (lambda: files_below([tmp_path]), UploadError),
    ]
    with monkeypatch.context() as patched:
        patched.setattr(Path, "is_dir", refuse)
        for call, error in calls:
            with pytest.raises(error, match=r"cannot read .*: Permission denied"):
                call()
    monkeypatch.setattr(os, "scandir", refuse)
    for call, error in calls:
        with pytest.raises(error, match="cannot read /secret: Permission denied"):
            call()


def test_names_of_uploaded_files(tmp_path: Path) -> None:
    """A file is uploaded under its name, a folder's files below the folder's name; equal names are refused."""
    for name in ("a.txt", "more/a.txt", "more/deep/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = files_below([tmp_path / "a.txt", tmp_path / "more"])
    assert list(found) == ["a.txt", "more/a.txt", "more/deep/b.txt"]
    with pytest.raises(UploadError, match=r".* and .* have the same name a.txt"):
        files_below([tmp_path / "a.txt", tmp_path / "more" / "a.txt"])
    with pytest.raises(UploadError, match="does not exist"):
        files_below([tmp_path / "nothing"])
