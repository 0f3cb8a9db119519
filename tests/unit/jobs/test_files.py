"""Users can list and read the files of a job, and nothing outside of its directory."""

import contextlib
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer.jobs import files
from pacifica_notifications_consumer.jobs.files import JobFile, list_files, open_file
from pacifica_notifications_consumer.system.temporary import temporary_directory
from tests.support.machine.trees import LONG, nest


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


def test_long_list(tmp_path: Path) -> None:
    """A list that is too long ends early, and says so."""
    for name in "abc":
        (tmp_path / name).touch()
    assert [len(list_files(tmp_path, 3)[0]), list_files(tmp_path, 3)[1]] == [3, False]
    (tmp_path / "d").touch()
    listed, more = list_files(tmp_path, 3)
    assert ([file.path for file in listed], more) == (["a", "b", "c"], True)


@pytest.mark.parametrize(
    ("entries", "openings", "found", "more"),
    [(5, 6, 3, False), (4, 6, 3, True), (3, 6, 2, True), (1, 6, 0, True), (5, 5, 3, True), (5, 2, 0, True)],
)
def test_limits_of_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entries: int, openings: int, found: int, *, more: bool
) -> None:
    """Each entry counts, here two folders and three files, and each opening of a folder, here six."""
    monkeypatch.setattr(files, "_MOST_ENTRIES", entries)
    monkeypatch.setattr(files, "_MOST_OPENINGS", openings)
    for folder in "ab":
        (tmp_path / folder).mkdir()
    for number in range(3):
        (tmp_path / "a" / str(number)).touch()
    listed, left_out = list_files(tmp_path)
    assert (len(listed), left_out) == (found, more)


def test_work_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a directory with more entries than the limit, only so many are taken from the system."""
    monkeypatch.setattr(files, "_MOST_ENTRIES", 10)
    taken = 0

    @contextlib.contextmanager
    def scandir(folder: int) -> Iterator[Iterator[os.DirEntry[str]]]:
        def counted(entries: Iterator[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
            nonlocal taken
            for entry in entries:
                taken += 1
                yield entry

        with real(folder) as entries:
            yield counted(entries)

    for number in range(100):
        (tmp_path / str(number)).touch()
    real = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    listed, more = list_files(tmp_path)
    assert (len(listed), more, taken) == (11, True, 11)


@pytest.mark.whole
def test_thousand_folders_in_each_other() -> None:
    """A file below a thousand folders is listed, with few open files; a path that is too long ends the list."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    # pytest could not remove it.
    with temporary_directory("x-") as directory:
        at = os.open(directory, os.O_RDONLY)
        for number in range(1010):
            if number in (1000, 1009):
                os.close(os.open("file", os.O_CREAT, dir_fd=at))
            name = "a" if number < 1000 else "a" * 250
            os.mkdir(name, dir_fd=at)
            inner = os.open(name, os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = inner
        os.close(at)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 8, before[1]))  # noqa: PTH208
        try:
            listed, more = list_files(directory)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert ([file.path for file in listed], more) == (["a/" * 1000 + "file"], True)


@pytest.mark.parametrize("name", ["a", "a/b", "c"])
def test_folder_that_becomes_a_link_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A job that swaps a folder for a link, after it was seen as a folder, does not lead the list elsewhere."""
    job, elsewhere = tmp_path / "job", tmp_path / "elsewhere"
    for folder in (job / "a" / "b", job / "c", elsewhere / "b"):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    (elsewhere / "secret").touch()

    def swapping(real: Callable[..., Any]) -> Callable[..., Any]:
        def swap(path: Any, *arguments: Any, **named: Any) -> Any:
            if isinstance(path, str | Path) and Path(path).name == Path(name).name and not (job / name).is_symlink():
                (job / name).rename(tmp_path / "away")
                (job / name).symlink_to(elsewhere)
            return real(path, *arguments, **named)

        return swap

    for function in ("open", "listdir", "scandir"):
        monkeypatch.setattr(os, function, swapping(getattr(os, function)))
    listed, more = list_files(job)
    monkeypatch.undo()
    assert (job / name).is_symlink()
    left = {"a/b/file", "c/file"} - {f"{name}/file", f"{name}/b/file"}
    assert ({file.path for file in listed}, more) == (left, False)


def test_files_that_vanish_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that the job removes while its folder is listed does not hide the files after it."""
    for name in "abc":
        (tmp_path / name).touch()
    real = sorted

    def removing(found: Any, **named: Any) -> Any:
        ordered = real(found, **named)
        (tmp_path / "a").unlink(missing_ok=True)
        return ordered

    monkeypatch.setattr(files, "sorted", removing, raising=False)
    assert [file.path for file in list_files(tmp_path)[0]] == ["b", "c"]


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


def test_a_deep_folder_hides_nothing_else(tmp_path: Path) -> None:
    """A folder whose path is too long is left out, which is said; the files beside it and after it are listed."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "file").touch()
    with nest(tmp_path, 20, LONG):
        listed, more = list_files(tmp_path)
    assert ([file.path for file in listed], more) == (["b/file"], True)
