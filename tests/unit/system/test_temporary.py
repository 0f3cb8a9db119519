"""Temporary directories are removed with any content."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pacifica_notifications_consumer.errors import StateError
from pacifica_notifications_consumer.system import temporary
from pacifica_notifications_consumer.system.temporary import temporary_directory
from tests.support.machine.other_user import IS_ROOT
from tests.support.machine.trees import LONG, nest
from tests.support.machine.waiting import DEADLINE


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


def test_folders_in_each_other() -> None:
    """More folders in each other than Python's recursion allows, and than a path can name, are removed."""
    with temporary_directory("x-") as directory:
        (directory / "long").mkdir()
        with nest(directory, 1100, leave=True), nest(directory / "long", 20, LONG, leave=True):
            pass
    assert not directory.exists()


def test_no_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A place for temporary files that does not exist is named as the cause."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(StateError, match="cannot make a temporary directory"), temporary_directory("x-"):
        pass


_HOLDER = """
import sys, tempfile
from pacifica_notifications_consumer.system.temporary import temporary_directory
tempfile.tempdir = sys.argv[1]
with temporary_directory("x-") as directory:
    (directory / "file").touch()
    print(directory, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_leaves_goes_with_the_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Directories that are locked, new, of another name or another user stay, and so do files and links."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    command = [sys.executable, "-c", _HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        held = Path(holder.stdout.readline().strip())
        (tmp_path / "x-file").touch()
        (tmp_path / "y-other").mkdir()
        (tmp_path / "x-link").symlink_to(tmp_path / "y-other")
        stays = {"x-file", "y-other", "x-link"}
        if IS_ROOT:
            (tmp_path / "x-foreign").mkdir()
            os.chown(tmp_path / "x-foreign", 12345, 12345)
            stays.add("x-foreign")
        for path in tmp_path.iterdir():
            os.utime(path, (0, 0), follow_symlinks=False)
        with temporary_directory("x-") as mine:
            assert {path.name for path in tmp_path.iterdir()} == stays | {held.name, mine.name}
        holder.kill()
    with temporary_directory("x-") as mine:
        assert {path.name for path in tmp_path.iterdir()} == stays | {mine.name}
    (tmp_path / "x-new").mkdir()
    with temporary_directory("x-"):
        assert (tmp_path / "x-new").exists()
    monkeypatch.setattr(temporary, "_MADE_JUST_NOW", -1.0)
    with temporary_directory("x-"):
        assert not (tmp_path / "x-new").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_what_a_killed_process_leaves_running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Programs with the mark of an abandoned directory are ended with it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "x-left"
    left.mkdir()
    os.utime(left, (0, 0))
    with (
        subprocess.Popen(["/bin/sleep", "100"], env={"PACIFICA_JOB": f"{left}:0"}) as program,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(program.kill)
        with temporary_directory("y-"):
            assert program.poll() is None
        with temporary_directory("x-"):
            assert program.wait(DEADLINE) == -signal.SIGKILL
    assert not left.exists()
