"""The directory ``uploads/`` of a job: which files of it are sent."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import attrs

from ..errors import UploadError, explained

#: Characters that metadata's column for a folder takes.
_LONGEST_FOLDER = 255


@attrs.frozen
class UploadFile:
    """A file to send.

    Args:
        name: Where it lies below ``uploads/``, with ``/`` between names.
        size: Its length in bytes.
        mtime: When it was last changed, in whole seconds since 1970.
        facts: What tells whether it is still the same.
    """

    name: str
    size: int
    mtime: int
    facts: int


def facts_of(status: os.stat_result) -> int:
    """What tells whether a file is the same as before."""
    return hash((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


def find_files(uploads: Path) -> Iterator[UploadFile]:
    """Find the files, in the order of their names; links are followed where they stay within.

    Raises:
        UploadError: The directory is missing, or holds something that cannot be sent.
    """
    if not uploads.is_dir():
        raise UploadError(f"there is no directory {uploads}", "pass DST, the second argument of the entry-point")
    return _walk(str(uploads), "", (os.path.realpath(uploads),))


def _walk(folder: str, prefix: str, above: tuple[str, ...]) -> Iterator[UploadFile]:
    """Walk a folder; `above` are the real paths of it and of those that led to it, the root first."""
    with _listing(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = prefix + entry.name
            real = _followed(entry, above) if entry.is_symlink() else entry.path
            status = _status(entry)
            if stat.S_ISDIR(status.st_mode):
                real = os.path.realpath(real)
                if real in above:
                    raise UploadError(f"{entry.path} is a link to a folder that it lies in", "remove it")
                yield from _walk(entry.path, f"{name}/", (*above, real))
            elif stat.S_ISREG(status.st_mode):
                _check_name(name, folder)
                yield UploadFile(name, status.st_size, int(status.st_mtime), facts_of(status))
            else:
                raise UploadError(f"{entry.path} is no regular file", "remove it: a transaction consists of files")


def _listing(folder: str) -> os.ScandirIterator[str]:  # type: ignore[name-defined]
    with explained(UploadError, f"cannot read {folder}", "check the access rights"):
        return os.scandir(folder)


def _followed(entry: os.DirEntry[str], above: tuple[str, ...]) -> str:
    real = os.path.realpath(entry.path)
    if not Path(real).is_relative_to(above[0]):
        raise UploadError(f"{entry.path} is a link that leads out of uploads/", "copy what it points at")
    return real


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except OSError as error:
        raise UploadError(f"cannot read {entry.path}: {error.strerror}", "remove it if it is a broken link") from error


def _check_name(name: str, folder: str) -> None:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise UploadError(f"the name {name!r} is not UTF-8", "rename the file") from None
    if len(name.rpartition("/")[0]) > _LONGEST_FOLDER:
        raise UploadError(
            f"the folder {folder!r} lies too deep: metadata takes {_LONGEST_FOLDER} characters",
            "shorten the names of the folders, or nest them less",
        )
