"""Lists and opens the files in a job's directory, and never a file outside of it.

An entry-point may put a link, a pipe or a device in the place of any file, also of one that the runner writes. So every
file in a job's directory is opened by `open_file`.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import attrs

_MOST_FILES = 1000
#: Maximum size in bytes of a note.
_LONGEST_NOTE = 4096
_FLAGS = {
    "rb": os.O_RDONLY,
    "r+b": os.O_RDWR,
    "wb": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    "ab": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
}
#: The errors when a path leads over a link or a file, or to a link, a directory, a pipe without readers, or a socket.
_NOT_A_FILE = (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.EOPNOTSUPP)


@attrs.frozen(kw_only=True)
class JobFile:
    """A file of a job."""

    path: str  #: below the job's directory, with ``/`` as the separator
    size: int
    changed_at: float  #: in seconds since 1970


def list_files(directory: Path) -> tuple[list[JobFile], bool]:
    """List at most 1000 files of a job in the order of their paths; returns also whether there are more.

    Symbolic links are omitted, because an entry-point may let them point anywhere.
    """
    found = list(itertools.islice(_walk(directory), _MOST_FILES + 1))
    return found[:_MOST_FILES], len(found) > _MOST_FILES


def _walk(directory: Path) -> Iterator[JobFile]:
    # Not `os.walk`: before Python 3.12 it fails at a thousand folders in each other.
    waiting = [] if directory.is_symlink() else [directory]
    while waiting:
        folder, folders = waiting.pop(), []
        with contextlib.suppress(OSError):
            for path in sorted(folder.iterdir()):
                seen = path.lstat()
                if stat.S_ISDIR(seen.st_mode):
                    folders.append(path)
                elif stat.S_ISREG(seen.st_mode):
                    # JSON cannot represent a name that is not UTF-8.
                    shown = os.fsencode(path.relative_to(directory)).decode("utf-8", "replace")
                    yield JobFile(path=shown, size=seen.st_size, changed_at=seen.st_mtime)
        waiting += reversed(folders)


def open_file(directory: Path, path: str, mode: str = "rb") -> IO[Any]:
    """Open a regular file of a job, or create it with access for its owner only; no symbolic link is followed.

    The mode is ``rb``, ``r+b``, ``ab``, or ``wb``, which makes a new file in the place of whatever is there. An OSError
    is raised if the file cannot be opened; it is a FileNotFoundError if the file is missing or not a regular one.
    """
    *folders, name = parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise FileNotFoundError(f"{path!r} is not a path in {directory}")
    with contextlib.ExitStack() as stack:
        try:
            at: int | None = None
            for folder in (str(directory), *folders):
                at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                stack.callback(os.close, at)
            if mode == "wb":
                # The old file may have another name, under which its content must stay, such as in `uploads`.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=at)
            # O_NONBLOCK: opening a pipe would block.
            file = os.open(name, _FLAGS[mode] | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=at)
        except OSError as error:
            if error.errno not in _NOT_A_FILE:
                raise
            raise FileNotFoundError(f"{directory / path} is not a regular file") from error
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise FileNotFoundError(f"{directory / path} is not a regular file")
        return os.fdopen(file, mode)


def read_note(path: Path) -> str:
    """Read a file in which a process of a job notes its progress or failure; empty if it is not a file of its own."""
    with contextlib.suppress(OSError), open_file(path.parent, path.name) as file:
        if os.fstat(file.fileno()).st_nlink == 1:
            return str(file.read(_LONGEST_NOTE), "utf-8", "replace")
    return ""
