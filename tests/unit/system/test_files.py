"""Atomic replacement of files, and locks."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pacifica_notifications_consumer.system.files import (
    make_private,
    open_private,
    read_regular,
    replacing,
    try_lock,
)


def test_readers_see_the_old_or_the_new(tmp_path: Path) -> None:
    """Readers see the old content while the new is being written; afterwards only the new file is left."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_rights_of_new_files(tmp_path: Path) -> None:
    """A new file is accessible to its user only, whatever the umask; one that exists keeps its rights."""
    (tmp_path / "older").touch(mode=0o640)
    before = os.umask(0)
    try:
        open_private(tmp_path / "opened").close()
        open_private(tmp_path / "older").close()
        with replacing(tmp_path / "private") as private, replacing(tmp_path / "public", mode=0o666) as public:
            private.write(public.name.encode())
    finally:
        os.umask(before)
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert found == {"older": 0o640, "opened": 0o600, "private": 0o600, "public": 0o666}


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_rights_of_parents(tmp_path: Path, umask: int) -> None:
    """Others can pass through missing parents of a private directory, whatever the umask; those that exist stay."""
    (tmp_path / "older").mkdir()
    (tmp_path / "older").chmod(0o755)
    before = os.umask(umask)
    try:
        for _ in range(2):
            make_private(tmp_path / "older" / "a" / "b" / "c")
    finally:
        os.umask(before)
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert found == {"older": 0o755, "a": 0o711, "b": 0o711, "c": 0o700}


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "directory", "endless", "link to a pipe", "missing"])
def test_only_regular_files_are_read(kind: str, tmp_path: Path) -> None:
    """What is not a regular file, or has no end, is refused at once; reading it would block, or fill the memory."""
    path = tmp_path / "file"
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "socket":
            listening.bind(os.fspath(path))
        elif kind == "directory":
            path.mkdir()
        elif kind == "endless":
            path.touch()
            os.truncate(path, 1 << 40)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind != "missing":
            pipe = path if kind == "pipe" else tmp_path / "pipe"
            os.mkfifo(pipe)
            if pipe != path:
                path.symlink_to(pipe)
        with pytest.raises(OSError):
            read_regular(path)


def test_regular_files_are_read(tmp_path: Path) -> None:
    """A file is read up to the limit, also through a link; a default permits less, or nothing."""
    (tmp_path / "file").write_bytes(b"1234")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link") == b"1234"
    assert read_regular(tmp_path / "missing", b"default") == b"default"
    os.truncate(tmp_path / "file", 1 << 40)
    with pytest.raises(OSError, match="it has more than 33554432 bytes"):
        read_regular(tmp_path / "file")
    assert read_regular(tmp_path / "file", b"default").startswith(b"1234\0")


def test_half_a_file_leaves_nothing(tmp_path: Path) -> None:
    """An exception keeps the old content, and removes the part that was written."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_rights(tmp_path: Path) -> None:
    """The file has the requested rights, even if a crash left an incomplete file with other rights."""
    left = tmp_path / "file.new"
    left.write_bytes(b"left")
    left.chmod(0o644)
    with replacing(tmp_path / "file", mode=0o600):
        pass
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert (tmp_path / "file").read_bytes() == b""


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A link in the place of the new file is removed, and its target is not overwritten."""
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "file.new").symlink_to(tmp_path / "precious")
    with replacing(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert (tmp_path / "file").read_bytes() == b"new"


def test_content_is_on_the_disk_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `sync`, the whole content is synced before the replacement; without it, nothing is synced."""
    synced: list[tuple[int, bool]] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append((os.fstat(file).st_size, (tmp_path / "file").exists())))
    with replacing(tmp_path / "other") as file:
        file.write(b"new")
    assert synced == []
    with replacing(tmp_path / "file", sync=True) as file:
        file.write(b"new")
    assert synced == [(3, False)]


def test_locks(tmp_path: Path) -> None:
    """A lock excludes all others, a shared lock only exclusive ones, and both end when their file is closed."""
    path = tmp_path / "lock"
    with path.open("ab") as ours:
        assert try_lock(ours)
        with path.open("ab") as other:
            assert not try_lock(other)
            assert not try_lock(other, shared=True)
    with path.open("ab") as ours, path.open("ab") as other:
        assert try_lock(ours, shared=True)
        assert try_lock(other, shared=True)
        assert not try_lock(other)


def test_locks_of_the_dead(tmp_path: Path) -> None:
    """A killed process does not hold its lock any more."""
    script = "import fcntl, os, sys; fcntl.flock(open(sys.argv[1], 'ab'), fcntl.LOCK_EX); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", script, tmp_path / "lock"], check=False).returncode == -9
    with (tmp_path / "lock").open("ab") as ours:
        assert try_lock(ours)
