"""The directory ``downloads/`` of a job, in which files appear under their names only after verification."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from ..cloudevents.notification import FileRecord
from ..errors import BrokenOff, DownloadError, explained
from ..streams.hashing import HashingThread
from ..streams.progress import TransferMeter
from ..system.files import make_folders

#: Size in bytes from which a file is hashed on a separate thread.
_LARGE = 4 << 20
_INCOMING = ".pacifica-incoming-"
#: A file may take this number of seconds, plus those for its size at this rate in bytes per second.
_SECONDS, _SLOWEST = 600.0, 10_000


class Downloads:
    """The downloaded and the missing files of a transaction; safe for use by several threads.

    The context manager creates a directory for incoming files and removes it at the end. On entry it also removes such
    directories of interrupted downloads.
    """

    def __init__(self, directory: Path, files: Iterable[FileRecord], meter: TransferMeter) -> None:
        self._directory = str(directory)
        self._meter = meter
        #: The files that are not downloaded yet, by their paths.
        self.missing = {file.path: file for file in files}
        for path, file in self.missing.items():
            if not _is_known(file.hashtype):
                raise DownloadError(
                    f"the notification's file {path!r} has a hash of the unknown type {file.hashtype!r}",
                    "use a Python whose hashlib supports it",
                )
        self._folders = {self._directory}
        self._numbers = itertools.count()
        self._incoming = ""

    def __enter__(self) -> Self:
        with self._explained():
            Path(self._directory).mkdir(exist_ok=True)
            for left in Path(self._directory).glob(f"{_INCOMING}*"):
                shutil.rmtree(left, ignore_errors=True)
            if os.listdir(self._directory):  # noqa: PTH208  (an iterator would have to be closed)
                self._keep_intact_files()
            if self.missing:
                self._incoming = tempfile.mkdtemp(prefix=_INCOMING, dir=self._directory)
        return self

    def __exit__(self, *_: object) -> None:
        if self._incoming:
            shutil.rmtree(self._incoming, ignore_errors=True)

    def receive(self, file: FileRecord, pieces: Iterable[memoryview]) -> None:
        """Write a file, verify it, and move it into its place.

        The memory of each piece must not change until three more pieces have been yielded.
        """
        temporary = f"{self._incoming}/{next(self._numbers)}"
        # `pieces` never raises an OSError, so every OSError is a problem of the disk.
        with self._explained():
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                self._write(handle, file, pieces)
                folder = file.path.rpartition("/")[0]
                if folder not in self._folders:
                    make_folders(Path(self._directory, folder))
                    self._folders.add(folder)
                # The file gets its name only now, so an incomplete file is never visible under it.
                os.replace(temporary, f"{self._directory}/{file.path}")  # noqa: PTH105  (a Path doubles the time)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)  # noqa: PTH108
                raise
            finally:
                os.close(handle)
        del self.missing[file.path]

    def _write(self, handle: int, file: FileRecord, pieces: Iterable[memoryview]) -> None:
        digest = _digest(file.hashtype)
        with contextlib.ExitStack() as stack:
            hashing: HashingThread | hashlib._Hash = digest
            if file.size >= _LARGE:
                hashing = stack.enter_context(HashingThread(digest))
            size = 0
            try:
                for piece in _announced(file, pieces):
                    hashing.update(piece)
                    size += len(piece)
                    self._meter.advance(len(piece))
                    written = os.write(handle, piece)
                    while written < len(piece):
                        written += os.write(handle, piece[written:])
                _compare(file, size, hashing.hexdigest())
                changed = _seconds(file.mtime)
                if changed is not None:
                    os.utime(handle, (changed, changed))
            except BaseException:
                self._meter.advance(-size)
                raise
        self._meter.advance(0, files=1)

    def _keep_intact_files(self) -> None:
        """Find the files of an earlier, interrupted download, and verify them again."""
        for path, file in list(self.missing.items()):
            if _is_intact(f"{self._directory}/{path}", file):
                del self.missing[path]
                self._meter.advance(file.size, files=1)

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        advice = "make room there, or check the access rights"
        return explained(DownloadError, f"cannot write into {self._directory}", advice)


def _is_intact(path: str, file: FileRecord) -> bool:
    try:
        # Only regular files: reading a pipe, for example, would never end.
        facts = os.lstat(path)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != file.size:
            return False
        with Path(path).open("rb") as content:
            found = hashlib.file_digest(content, lambda: _digest(file.hashtype))
    except OSError:
        return False
    return found.hexdigest() == file.hashsum.lower()


def _announced(file: FileRecord, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
    """Yield the pieces of a file, unless they are more than announced, or take too long."""
    size = 0
    deadline = time.monotonic() + _SECONDS + file.size / _SLOWEST
    for piece in pieces:
        size += len(piece)
        if size > file.size:
            raise DownloadError(
                f"{file.path!r} has more than the {file.size} bytes that the notification announces",
                "try again; if this error persists, the archive's copy is damaged",
            )
        if time.monotonic() > deadline:
            raise BrokenOff(f"{file.path!r} arrived at less than {_SLOWEST} bytes per second", "check the network")
        yield piece


def _compare(file: FileRecord, size: int, hashsum: str) -> None:
    if (size, hashsum) != (file.size, file.hashsum.lower()):
        raise DownloadError(
            f"{file.path!r} arrived with {size} bytes and {file.hashtype} {hashsum}, "
            f"but the notification announces {file.size} bytes and {file.hashsum}",
            "try again; if this error persists, the archive's copy is damaged",
        )


def _is_known(hashtype: str) -> bool:
    # Not `algorithms_available`, which has only one spelling of each name: SHA-256 is another.
    try:
        return _digest(hashtype).digest_size > 0
    except (ValueError, TypeError):
        return False


def _digest(hashtype: str) -> hashlib._Hash:
    return hashlib.new(hashtype.lower(), usedforsecurity=False)


@functools.lru_cache(maxsize=1024)
def _seconds(mtime: str) -> float | None:
    """Parse a file's modification time into seconds since 1970; None if it is not in ISO format."""
    try:
        return datetime.fromisoformat(mtime).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
