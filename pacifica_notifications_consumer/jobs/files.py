"""The files in a job's directory, for people to look at; nothing outside of it can be reached."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import attrs

_MOST_FILES = 1000


@attrs.frozen(kw_only=True)
class JobFile:
    """A file of a job.

    Args:
        path: Where it lies below the job's directory, with ``/`` between names.
        size: Its bytes.
        changed_at: When it was last written to, in seconds since 1970.
    """

    path: str
    size: int
    changed_at: float


def list_files(directory: Path) -> tuple[list[JobFile], bool]:
    """The files of a job by their paths, and whether there are more than are listed.

    Links are left out: an entry-point may make them lead anywhere.
    """
    found: list[JobFile] = []
    for file in _walk(directory):
        if len(found) == _MOST_FILES:
            return found, True
        found.append(file)
    return found, False


def _walk(directory: Path) -> Iterator[JobFile]:
    for folder, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            with contextlib.suppress(OSError):
                seen = path.lstat()
                if stat.S_ISREG(seen.st_mode):
                    # What is no text in UTF-8 cannot stand in JSON.
                    shown = os.fsencode(path.relative_to(directory)).decode("utf-8", "replace")
                    yield JobFile(path=shown, size=seen.st_size, changed_at=seen.st_mtime)


def open_file(directory: Path, path: str) -> IO[Any]:
    """Open a file of a job to be read, going through no link.

    Raises:
        FileNotFoundError: There is no such file.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise FileNotFoundError(path)
    *folders, name = parts
    with contextlib.ExitStack() as stack:
        try:
            at = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, at)
            for folder in folders:
                at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                stack.callback(os.close, at)
            # One that is a pipe must keep nobody waiting.
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
        except OSError as error:
            raise FileNotFoundError(path) from error
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise FileNotFoundError(path)
        return os.fdopen(file, "rb")
