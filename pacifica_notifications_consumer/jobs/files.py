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
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any

import attrs

from ..system.files import FOLDER, regular

#: Maximum number of folders and files that a list looks at, and of times that it opens a folder.
_MOST_ENTRIES, _MOST_OPENINGS = 50_000, 20_000
#: Maximum size in bytes of a note, and of a folder's path in a list in characters.
_LONGEST_NOTE = _LONGEST_PATH = 4096
_FLAGS = {
    "rb": os.O_RDONLY,
    "r+b": os.O_RDWR,
    "wb": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    "ab": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
}
#: The errors when a path leads over a link or a file, or to a link, a directory, a pipe without readers, or a socket.
_NOT_A_FILE = (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENXIO, errno.EOPNOTSUPP)


@attrs.frozen(kw_only=True)
class JobFile:
    """A file of a job."""

    path: str  #: below the job's directory, with ``/`` as the separator
    size: int
    changed_at: float  #: in seconds since 1970


def list_files(directory: Path, most: int = 1000) -> tuple[list[JobFile], bool]:
    """List some files of a job in the order of their paths; returns also whether there may be more.

    Symbolic links are omitted, because an entry-point may let them point anywhere.
    """
    with contextlib.closing(_walk(str(directory.absolute()))) as walk:
        found = list(itertools.islice(walk, most + 1))
    files = [file for file in found[:most] if file]
    return files, len(files) < len(found)


def _walk(directory: str) -> Generator[JobFile | None, None, None]:
    """Yield the files, and None at the end if some were left out; not `os.fwalk`, which keeps many folders open."""
    left, openings, waiting, too_deep = _MOST_ENTRIES, _MOST_OPENINGS, [("", ".")], False
    at, handle = "/", os.open("/", FOLDER)
    try:
        while waiting and left >= 0:
            above, name = waiting.pop()
            path = f"{above}{name}/"
            if len(path) > _LONGEST_PATH:
                too_deep = True
                continue
            steps = [name] if above == at else [directory, *path.split("/")[:-1]]
            openings -= len(steps)
            if openings < 0:
                left = -1
                break
            at = "/"
            # The job may have removed the folder, or put a link in its place.
            with contextlib.suppress(OSError):
                for step in steps:
                    handle, outer = os.open(step, FOLDER, dir_fd=handle), handle
                    os.close(outer)
                at = path
                with os.scandir(handle) as listed:
                    entries = sorted(itertools.islice(listed, left + 1), key=lambda entry: entry.name)
                left -= len(entries)
                waiting += ((path, each.name) for each in reversed(entries) if each.is_dir(follow_symlinks=False))
                for entry in entries:
                    with contextlib.suppress(OSError):
                        seen = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(seen.st_mode):
                            # JSON cannot represent a name that is not UTF-8.
                            shown = os.fsencode(path + entry.name)[2:].decode("utf-8", "replace")
                            yield JobFile(path=shown, size=seen.st_size, changed_at=seen.st_mtime)
    finally:
        os.close(handle)
    if left < 0 or too_deep:
        yield None


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
                at = os.open(folder, FOLDER, dir_fd=at)
                stack.callback(os.close, at)
            if mode == "wb":
                # The old file may have another name, under which its content must stay, such as in `uploads`.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=at)
            file = regular(name, _FLAGS[mode] | os.O_NOFOLLOW, at)
        except OSError as error:
            if error.errno not in _NOT_A_FILE:
                raise
            raise FileNotFoundError(f"{directory / path} is not a regular file") from error
        return os.fdopen(file, mode)


def read_note(path: Path) -> str:
    """Read a file in which a process of a job notes its progress or failure; empty if it is not a file of its own."""
    with contextlib.suppress(OSError), open_file(path.parent, path.name) as file:
        if os.fstat(file.fileno()).st_nlink == 1:
            return str(file.read(_LONGEST_NOTE), "utf-8", "replace")
    return ""
