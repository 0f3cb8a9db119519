"""The tar that ingest takes, streamed from ``uploads/`` without a temporary copy.

Files lie below ``data/``; the metadata document ``metadata.txt`` comes last, because it holds the files' hashes, which
are computed while the files go by. Hashes have a fixed length, so the length of the whole is known beforehand.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import os
import stat
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from .errors import UploadError

_HASHTYPE = "sha1"  # what the official uploader sends and every Pacifica service knows
_HASH_LENGTH = hashlib.new(_HASHTYPE, usedforsecurity=False).digest_size * 2
_CHUNK = 1 << 20


@attrs.frozen
class _Source:
    """A file to send, with what it was like when the length of the tar was computed."""

    path: Path
    row: dict[str, Any]
    header: bytes
    facts: tuple[int, int]


class UploadTar:
    """The pieces of the tar, for one pass; ``len()`` is the length of the whole in bytes.

    Args:
        uploads: The directory whose files are sent.
        rows: The metadata's rows that are not files.

    Attributes:
        file_rows: The rows of ``Files``; complete with their hashes after the pass.

    Raises:
        UploadError: The directory is missing, or holds something that cannot be sent; during the pass: a file changed.
    """

    def __init__(self, uploads: Path, rows: list[dict[str, Any]]) -> None:
        if not uploads.is_dir():
            raise UploadError(f"there is no directory {uploads}", "pass DST, the second argument of the entry-point")
        self._rows = rows
        self._sources = [_source(path, uploads) for path in _walk(uploads)]
        self.file_rows = [source.row for source in self._sources]
        members = sum(len(source.header) + _padded(source.facts[0]) for source in self._sources)
        self._length = members + len(self._metadata()) + 2 * tarfile.BLOCKSIZE

    def __len__(self) -> int:
        return self._length

    def _metadata(self) -> bytes:
        document = json.dumps([*self._rows, *map(_as_ingest_reads, self.file_rows)]).encode("ascii")
        return _header("metadata.txt", len(document), 0) + document + bytes(_padded(len(document)) - len(document))

    def __iter__(self) -> Iterator[bytes]:
        for source in self._sources:
            yield source.header
            yield from _content(source)
            yield bytes(_padded(source.facts[0]) - source.facts[0])
        yield self._metadata()
        yield bytes(2 * tarfile.BLOCKSIZE)


def _walk(uploads: Path) -> Iterator[Path]:
    """Find the files, in the order of their names; links are followed where they stay within."""
    root = uploads.resolve()
    for folder, folders, names in os.walk(uploads, onerror=_fail):
        folders.sort()
        for name in sorted(names + [name for name in folders if (Path(folder) / name).is_symlink()]):
            path = Path(folder) / name
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise UploadError(f"{path} is a link that leads out of {uploads}", "copy what it points at")
            if path.is_dir():
                raise UploadError(f"{path} is a link to a folder", "copy the folder")
            yield path


def _fail(error: OSError) -> None:
    raise UploadError(f"cannot read {error.filename}: {error.strerror}", "check the access rights") from error


def _source(path: Path, uploads: Path) -> _Source:
    relative = path.relative_to(uploads).as_posix()
    try:
        relative.encode("utf-8")
    except UnicodeEncodeError:
        raise UploadError(f"the name {relative!r} in {uploads} is not UTF-8", "rename the file") from None
    try:
        facts = path.stat()
    except OSError as error:
        raise UploadError(f"cannot read {path}: {error.strerror}", "remove it if it is a broken link") from error
    if not stat.S_ISREG(facts.st_mode):
        raise UploadError(f"{path} is no regular file", "remove it: a transaction consists of files")
    subdir, _, name = relative.rpartition("/")
    changed = datetime.fromtimestamp(int(facts.st_mtime), UTC).replace(tzinfo=None).isoformat()
    row = {
        "destinationTable": "Files",
        "name": name,
        "subdir": subdir,
        "size": facts.st_size,
        "hashtype": _HASHTYPE,
        "hashsum": "0" * _HASH_LENGTH,
        "mimetype": _mimetype(name),
        "ctime": changed,
        "mtime": changed,
    }
    header = _header(f"data/{relative}", facts.st_size, int(facts.st_mtime))
    return _Source(path, row, header, (facts.st_size, facts.st_mtime_ns))


def _mimetype(name: str) -> str:
    """Guess a file's type from its name, within what Pacifica's metadata accepts."""
    kind, packed = _TYPES.guess_type(name)
    if packed:
        # The type of what is inside would make readers take the file for that.
        return _PACKED.get(packed, _UNKNOWN)
    return kind if kind and kind.split("/")[0] in _FAMILIES else _UNKNOWN


_UNKNOWN = "application/octet-stream"
#: Metadata refuses a whole transaction for a file of any other family, such as chemical/x-pdb.
_FAMILIES = frozenset({"application", "audio", "font", "image", "message", "model", "text", "video"})
_PACKED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
#: Python's own table, without what the machine may have in /etc/mime.types.
_TYPES = mimetypes.MimeTypes(filenames=())


def _content(source: _Source) -> Iterator[bytes]:
    """Read a file, and put its hash into its row."""
    digest = hashlib.new(_HASHTYPE, usedforsecurity=False)
    left = source.facts[0]
    try:
        with source.path.open("rb", buffering=0) as file:
            while left and (chunk := file.read(min(left, _CHUNK))):
                digest.update(chunk)
                left -= len(chunk)
                yield chunk
            facts = os.fstat(file.fileno())
    except OSError as error:
        raise UploadError(f"cannot read {source.path}: {error.strerror}", "check the access rights") from error
    if left or (facts.st_size, facts.st_mtime_ns) != source.facts:
        raise UploadError(
            f"{source.path} changed while it was sent", "call upload() when nothing writes into uploads/ any more"
        )
    source.row["hashsum"] = digest.hexdigest()


def _as_ingest_reads(row: dict[str, Any]) -> dict[str, Any]:
    """Ingest cuts a leading ``data`` off each subdir, so a folder of that name needs one more."""
    in_data = row["subdir"].split("/")[0] == "data"
    return {**row, "subdir": f"data/{row['subdir']}"} if in_data else row


def _header(name: str, size: int, mtime: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, mtime, 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
