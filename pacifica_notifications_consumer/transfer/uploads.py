"""Finds the files in the directory ``uploads/`` of a job that are sent to ingest."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import attrs

from ..errors import UploadError, explained

#: Maximum number of characters in metadata's column for a folder.
_LONGEST_FOLDER = 255
_ADVICE = "pass DST, the second argument of the entry-point"


@attrs.frozen
class UploadFile:
    """A file to send; its name is the path below ``uploads/``, with ``/`` as the separator."""

    name: str
    size: int
    mtime: int  #: in whole seconds since 1970
    facts: int  #: see `facts_of`


def facts_of(status: os.stat_result) -> int:
    """Hash the identity, size and modification time of a file, to detect that it has changed."""
    return hash((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


def find_files(uploads: Path) -> Iterator[UploadFile]:
    """Find the files, in the order of their names; symbolic links are followed if their targets are in ``uploads/``."""
    dst = uploads.parent
    here = f"pass {dst.parent} instead of {dst}" if dst.name == uploads.name else f"make it, or {_ADVICE}"
    for directory, advice in ((dst, _ADVICE), (uploads, here)):
        if not directory.is_dir():
            problem = "is not a directory" if directory.exists() else "does not exist"
            raise UploadError(f"{directory} {problem}", advice)
    return _walk(str(uploads), "", (os.path.realpath(uploads),))


def _walk(folder: str, prefix: str, above: tuple[str, ...]) -> Iterator[UploadFile]:
    """Walk a folder; `above` holds the real paths of its ancestors and of the folder itself, the root first."""
    with explained(UploadError, f"cannot read {folder}", "check the access rights"):
        listing = os.scandir(folder)
    with listing as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = prefix + entry.name
            real = _followed(entry, above) if entry.is_symlink() else entry.path
            status = _status(entry)
            if stat.S_ISDIR(status.st_mode):
                real = os.path.realpath(real)
                if real in above:
                    raise UploadError(f"{entry.path} is a link to one of its own parent folders", "remove it")
                yield from _walk(entry.path, f"{name}/", (*above, real))
            elif stat.S_ISREG(status.st_mode):
                _check_name(name, folder)
                yield UploadFile(name, status.st_size, int(status.st_mtime), facts_of(status))
            else:
                raise UploadError(
                    f"{entry.path} is not a regular file", "remove it: a transaction contains only regular files"
                )


def _followed(entry: os.DirEntry[str], above: tuple[str, ...]) -> str:
    real = os.path.realpath(entry.path)
    if not Path(real).is_relative_to(above[0]):
        raise UploadError(f"{entry.path} is a link that leads out of uploads/", "copy its target instead")
    return real


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    with explained(UploadError, f"cannot read {entry.path}", "remove it if it is a broken link"):
        return entry.stat()


def _check_name(name: str, folder: str) -> None:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise UploadError(f"the name {name!r} is not UTF-8", "rename the file") from None
    if len(name.rpartition("/")[0]) > _LONGEST_FOLDER:
        raise UploadError(
            f"the path of the folder {folder!r} below uploads/ is too long: metadata accepts {_LONGEST_FOLDER} "
            "characters",
            "use shorter or fewer nested folders",
        )
