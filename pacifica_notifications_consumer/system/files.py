"""Private, atomic and bounded access to files, sync and digests of directories, and locks that end with a process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

#: The suffix of incomplete files.
NEW = ".new"
_LARGEST = 32 << 20
#: Maximum length of a folder's path, so that any file in it has one that the system accepts.
_LONGEST_PATH = 4095 - 256
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW

_SPECIAL = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def special_kind(path: Path) -> str:
    """What a path, or the target of a link, is if it is a special file, which may block when it is opened; or empty."""
    try:
        return _SPECIAL.get(stat.S_IFMT(path.stat().st_mode), "")
    except (OSError, ValueError):
        return ""


def open_private(path: Path, how: str = "ab", mode: int = 0o600) -> IO[Any]:
    """Open a file in binary; a new one is accessible to this user only, or as ``mode`` says, reduced by the umask."""
    return open(path, how, opener=lambda name, flags: os.open(name, flags, mode))


def make_private(directory: Path, mode: int = 0o700) -> None:
    """Make a directory with access for this user only; others can only pass through missing parents."""
    if not directory.parent.exists():
        # Another user may have to reach a directory further below.
        make_private(directory.parent, 0o711)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=mode)
        # Whatever the umask, and not by its path, where another user may have put a link by now.
        handle = os.open(directory, FOLDER)
        try:
            os.fchmod(handle, mode)
        finally:
            os.close(handle)


def make_folders(folder: Path, mode: int = 0o777) -> None:
    """Make a folder and its missing parents, however many; `Path.mkdir` calls itself for each."""
    missing = [folder]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for each in reversed(missing):
        each.mkdir(mode=mode, exist_ok=True)


def regular(name: str | Path, flags: int, at: int | None = None) -> int:
    """The ``opener`` of what may be anything: never waits, and refuses all but regular files and links to them."""
    # O_NONBLOCK: opening a pipe would block. O_NOCTTY: a terminal would become that of this process.
    handle = os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY, 0o600, dir_fd=at)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(name))
    return handle


def read_regular(path: Path, default: bytes | None = None, most: int = _LARGEST) -> bytes:
    """Read a `regular` file of at most 32 MiB; others are an `OSError`, or their beginning or the default is read."""
    with contextlib.suppress(*([] if default is None else [OSError])), open(path, "rb", opener=regular) as file:
        if len(content := file.read(most + 1)) > most and default is None:
            raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(path))
        return content
    return default or b""


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o600, sync: bool = False) -> Iterator[IO[bytes]]:
    """Replace a file when the context ends, so that readers see either the old or the complete new content.

    The new content is written to a file with the suffix ``.new``, which is removed if the context ends with an
    exception. Only one thread at a time may replace the same file. The umask reduces ``mode``; ``sync`` syncs the
    content before the replacement, so that a power failure cannot leave an empty file.
    """
    new = path.with_name(path.name + NEW)
    # A crash may have left such a file, with other rights.
    new.unlink(missing_ok=True)
    try:
        with open_private(new, "xb", mode) as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def sync_directory(directory: Path) -> None:
    """Wait until the names in a directory are on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def walk(top: Path, *ignored: type[OSError]) -> Iterator[tuple[str, int, list[os.DirEntry[str]]]]:
    """Yield the path of each folder of a tree, empty or with a slash at its end, an open handle, and what it contains.

    The tree may be anybody's: links are not followed, and it is neither recursive, nor are many files open. Folders
    with ``ignored`` errors are left out; one that is nested so deeply that files have no usable paths is an `OSError`.
    """
    waiting, at, handle = [("", ".")], "/", os.open("/", FOLDER)
    try:
        while waiting:
            above, name = waiting.pop()
            path = f"{above}{name}/"
            if len(os.fsencode(f"{top}/{path}")) > _LONGEST_PATH:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), f"{path[:80]}…")
            steps = [name] if above == at else [str(top.absolute()), *path.split("/")[:-1]]
            at = "/"
            with contextlib.suppress(*ignored):
                for step in steps:
                    handle, outer = os.open(step, FOLDER, dir_fd=handle), handle
                    os.close(outer)
                at = path
                with os.scandir(handle) as listed:
                    entries = list(listed)
                waiting += ((path, each.name) for each in entries if each.is_dir(follow_symlinks=False))
                yield path[2:], handle, entries
    finally:
        os.close(handle)


def digest_tree(top: Path, ignored: str = "(?!)") -> str:
    """Hash a file, or the names, contents and executable bits of all that is in a directory; links are not followed.

    Paths below it that the pattern ``ignored`` matches do not count.
    """
    whole = hashlib.sha256()
    tree = walk(Path(os.path.realpath(top)), PermissionError) if top.is_dir() else ()
    below = sorted(f"{path}{each.name}".split("/") for path, _, entries in tree for each in entries)
    for path in (top, *(top.joinpath(*parts) for parts in below)):
        name, mode, content = os.fsencode(path.relative_to(top)), path.lstat().st_mode, b""
        if re.fullmatch(ignored, os.fsdecode(name)):
            continue
        if stat.S_ISREG(mode):
            with open(path, "rb", opener=regular) as file:
                content = hashlib.file_digest(file, "sha256").digest()
        elif stat.S_ISLNK(mode):
            content = os.fsencode(path.readlink())
        kind = stat.S_IFMT(mode) | (mode & stat.S_IXUSR if content else 0)
        for part in (name, kind.to_bytes(4), content):
            whole.update(len(part).to_bytes(4) + part)
    return whole.hexdigest()


def try_lock(file: IO[Any] | int, *, shared: bool = False) -> bool:
    """Lock an open file or directory until it is closed, or its process ends; False if another process has locked it.

    Raises `OSError` if the file system does not support locks.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
