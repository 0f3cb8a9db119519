"""An uploaded bundle, the tar with ``metadata.txt`` and ``data/``, and the checks of ingest and metadata."""

from __future__ import annotations

import hashlib
import json
import tarfile
from http import HTTPStatus
from typing import Any

from ...http.errors import HTTPError
from .store import Store
from .wire import PIECE

_FILE_COLUMNS = ("name", "subdir", "mtime", "ctime", "size", "mimetype", "_id", "hashsum", "hashtype")
# "mulitpart" is a misspelling in the real metadata, which therefore refuses every multipart type.
_MEDIA = tuple(
    f"{media}/"
    for media in ("application", "audio", "font", "example", "image", "message", "model", "mulitpart", "text", "video")
)

Record = dict[str, Any]


class HashValidationException(Exception):  # noqa: N818  (the real service's name, which ends up in its answers)
    """The content of a file does not have its hash."""


def read_records(tar: tarfile.TarFile) -> list[Record]:
    """Read the metadata of a bundle; any error in it is raised."""
    member = tar.extractfile("metadata.txt")
    if member is None:
        raise ValueError("metadata.txt is not a file")
    with member:
        records: list[Record] = json.loads(member.read())
    for record in records:
        record["destinationTable"]
    return records


def number_files(records: list[Record], tar: tarfile.TarFile, store: Store) -> None:
    """Give each file of the metadata its id; members of the tar that the metadata does not name also use up ids."""
    files = [record for record in records if record["destinationTable"] == "Files"]
    first = store.reserve("file", max(len(tar.getmembers()) - 1, len(files)))
    for number, record in enumerate(files, start=first):
        record["_id"] = number


def archive_files(records: list[Record], tar: tarfile.TarFile, store: Store) -> None:
    """Copy the files that the metadata names into the archive; any error in them is raised."""
    for record in records:
        if record["destinationTable"] == "Files":
            hashsum = record["hashsum"].replace("sha1:", "")
            if record["hashtype"].lower() not in hashlib.algorithms_available:
                raise ValueError(f"Invalid Hashtype {record['hashtype']}")
            path = clipped(f"{record['subdir']}/{record['name']}")
            _archive_file(tar, f"data/{path}", record, hashsum, store)


def _archive_file(tar: tarfile.TarFile, member: str, record: Record, hashsum: str, store: Store) -> None:
    digest = hashlib.new(record["hashtype"])
    content = tar.extractfile(tar.getmember(member))
    if content is None:
        raise ValueError(f"{member!r} is not a file")
    with content, store.incoming_file(record["_id"]) as out:
        while piece := content.read(PIECE):
            digest.update(piece)
            out.write(piece)
        if digest.hexdigest() != hashsum:
            raise HashValidationException(f"File {record['_id']} failed to validate.")


def clipped(path: str) -> str:
    """A path without a leading ``data/`` and without empty parts."""
    parts = path.split("/")
    if parts[0] == "data":
        del parts[0]
    return "/".join(part for part in parts if part)


def check_records(records: list[Record], number: int) -> None:
    """Check metadata by the rules of the metadata service, in its order and with its error messages."""
    _check_key_values(records, number)
    for record in records:
        if record["destinationTable"] == "Files":
            for column in _FILE_COLUMNS:
                record[column]
            if not (record["mimetype"].startswith(_MEDIA) and _good_hash(record["hashtype"], record["hashsum"])):
                raise ValueError(f"Invalid metadata for file {record['_id']}")


def _check_key_values(records: list[Record], number: int) -> None:
    seen: set[tuple[str, str]] = set()
    for record in records:
        if record["destinationTable"] == "TransactionKeyValue":
            # Metadata's database stores both as strings.
            pair = (str(record["key"]), str(record["value"]))
            if pair in seen:
                raise ValueError(
                    'duplicate key value violates unique constraint "transactionkeyvalue_pkey"\n'
                    f"DETAIL:  Key (transaction_id, key, value)=({number}, {pair[0]}, {pair[1]}) already exists."
                )
            seen.add(pair)


def _good_hash(hashtype: str, hashsum: str) -> bool:
    try:
        int(hashsum, 16)
    except ValueError:
        return False
    return len(hashsum) == len(hashlib.new(hashtype).hexdigest())


def transaction_number(records: list[Record]) -> int:
    """The number of the transaction; a number in the uploaded metadata precedes the one from ingest, and is used."""
    value = next(record["value"] for record in records if record["destinationTable"] == "Transactions._id")
    try:
        return int(value)
    except (TypeError, ValueError):
        raise HTTPError(HTTPStatus.BAD_REQUEST, f"{value!r} is not a transaction id") from None
