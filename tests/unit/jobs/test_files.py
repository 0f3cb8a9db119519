"""Users can list and read the files of a job, and nothing outside of its directory."""

import os
import sys
from pathlib import Path

import pytest

from pacifica_notifications_consumer.jobs import files
from pacifica_notifications_consumer.jobs.files import JobFile, list_files, open_file


def test_list(tmp_path: Path) -> None:
    """All regular files are listed in the order of their paths, with sizes and times; links and pipes are not."""
    for name, content in {"b": b"12", "a/z": b"", "a/y": b"123"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, (1e9, 1e9 + 0.5))
    (tmp_path / "d").symlink_to("/etc/passwd")
    (tmp_path / "e").symlink_to("/etc")
    os.mkfifo(tmp_path / "f")
    sizes = {"b": 2, "a/y": 3, "a/z": 0}
    expected = [JobFile(path=path, size=size, changed_at=1e9 + 0.5) for path, size in sizes.items()]
    assert list_files(tmp_path) == (expected, False)
    assert list_files(tmp_path / "missing") == ([], False)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS allows only names in UTF-8")
def test_name_that_is_not_text(tmp_path: Path) -> None:
    """A name that is not UTF-8 is listed in a form that JSON can represent."""
    (tmp_path / os.fsdecode(b"c\xff")).touch()
    assert [file.path for file in list_files(tmp_path)[0]] == ["c\N{REPLACEMENT CHARACTER}"]


def test_long_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that is too long ends early, and says so."""
    monkeypatch.setattr(files, "_MOST_FILES", 3)
    for name in "abc":
        (tmp_path / name).touch()
    assert [len(list_files(tmp_path)[0]), list_files(tmp_path)[1]] == [3, False]
    (tmp_path / "d").touch()
    listed, more = list_files(tmp_path)
    assert ([file.path for file in listed], more) == (["a", "b", "c"], True)


def test_reading(tmp_path: Path) -> None:
    """A file is read by its path below the directory."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"content")
    with open_file(tmp_path, "a/b/c") as file:
        assert file.read() == b"content"


ELSEWHERE = ["", ".", "..", "../secret", "a/../../secret", "/etc/passwd", "a//x", "a/", "./a/x"]
OTHER = ["a/x/y", "a", "none", "a\0b", "link", "folder/secret", "pipe"]


@pytest.mark.parametrize("path", ELSEWHERE + OTHER)
def test_what_cannot_be_read(tmp_path: Path, path: str) -> None:
    """Paths that lead elsewhere, directories, links and pipes are not found, and reading a pipe does not block."""
    (tmp_path / "secret").write_text("secret")
    job = tmp_path / "job"
    (job / "a").mkdir(parents=True)
    (job / "a" / "x").write_text("x")
    (job / "link").symlink_to(tmp_path / "secret")
    (job / "folder").symlink_to(tmp_path)
    os.mkfifo(job / "pipe")
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208
    with pytest.raises(FileNotFoundError):
        open_file(job, path)
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208
