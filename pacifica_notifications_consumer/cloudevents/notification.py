"""A CloudEvents notification of a Pacifica transaction, as the producer sends it.

The format is CloudEvents 0.1 in JSON; its ``data`` is a list of rows, each for a table of Pacifica's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any, cast

import attrs

from ..errors import NotificationError
from .trace import TRACE_HEADER, read_traceparent

#: The key-value that names the consumer which uploaded a transaction; the runner leaves its own ones alone.
PROVENANCE_KEY = "pacifica-notifications-consumer"
#: How deep a notification may be nested, unless somebody says so: itself, its data and a row are three.
MAX_DEPTH = 100
_ATTRIBUTE = "Transactions."


@attrs.frozen(kw_only=True)
class FileRecord:
    """A file of a transaction.

    Args:
        id: Its number in Pacifica.
        name: Its name, without folders.
        subdir: Its folder, ``""`` at top level, with ``/`` between names.
        size: Its length in bytes.
        hashtype: Name of the hash, such as ``sha1``.
        hashsum: The hash of its content, in hexadecimal.
        mtime: When it was last changed: ISO 8601, without zone, UTC; ``""`` if unknown.

    Attributes:
        path: Where it lies below ``downloads/``, with ``/`` between names.

    Raises:
        NotificationError: Name or folder would lead elsewhere.
    """

    id: int
    name: str
    subdir: str
    size: int
    hashtype: str
    hashsum: str
    mtime: str = ""
    path: str = attrs.field(init=False)

    @path.default
    def _path(self) -> str:
        if not _is_plain_name(self.name):
            raise NotificationError(f"the notification's file name {self.name!r} is not a plain name", _HOSTILE)
        return f"{_folder(self.subdir)}/{self.name}" if self.subdir else self.name

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> FileRecord:
        """Read a row of the table ``Files``.

        Raises:
            NotificationError: A column is missing or has the wrong type, or the path would lead elsewhere.
        """
        for column, kind in _COLUMNS.items():
            if not isinstance(row.get(column), kind):
                raise NotificationError(
                    f"the notification's file {row.get('name')!r} has no usable {column!r}: {row.get(column)!r}",
                    "take the producer's notification; one that upload() wrote has all of it if it may ask policy "
                    "(PACIFICA_POLICY_URL)",
                )
        return cls(
            id=row["_id"],
            name=row["name"],
            subdir=row["subdir"],
            size=row["size"],
            hashtype=row["hashtype"],
            hashsum=row["hashsum"],
            mtime=_text(row.get("mtime")) or "",
        )


_COLUMNS: dict[str, type | tuple[type, ...]] = {
    "_id": (int, str),
    "name": str,
    "subdir": str,
    "size": int,
    "hashtype": str,
    "hashsum": str,
}
_HOSTILE = "ask who uploaded it: it could overwrite files outside the job's directory"


@lru_cache(maxsize=1024)
def _folder(subdir: str) -> str:
    if subdir and not all(_is_plain_name(part) for part in subdir.split("/")):
        raise NotificationError(f"the notification's subdir {subdir!r} is not a plain path", _HOSTILE)
    return subdir


def _is_plain_name(name: str) -> bool:
    # JSON can carry halves of surrogate pairs, which no file name can.
    is_text = name.isascii() or name == _writable(name)
    return is_text and name not in ("", ".", "..") and "/" not in name and "\0" not in name


def _writable(text: str) -> str:
    """The text with what cannot be written in UTF-8 replaced by its code."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@attrs.frozen
class Notification:
    """A notification and what it says of its transaction.

    Args:
        body: The bytes as received.
        event: What they say, as ``json.loads`` returns it.
    """

    body: bytes = attrs.field(repr=False)
    event: dict[str, Any] = attrs.field(repr=False)

    @classmethod
    def parse(cls, body: bytes, *, compact: bool = False, max_depth: int | None = None) -> Notification:
        """Read the body of a request or of ``notification.json``.

        Args:
            body: What was received.
            compact: Whether rows share their equal texts: that takes less memory, and a little longer.
            max_depth: How many objects and arrays may lie within each other; by default as many as Python can read.

        Raises:
            NotificationError: It is not a JSON object, or nested too deeply.
        """
        if not body.strip():
            raise NotificationError("the notification is empty", "send a CloudEvents object in JSON")
        try:
            event = json.loads(body, object_hook=_sharing() if compact else None)
        except (ValueError, RecursionError) as error:
            raise NotificationError(
                f"the notification is not JSON: {error}",
                "send a CloudEvents object in JSON, encoded in UTF-8",
            ) from error
        if not isinstance(event, dict):
            raise NotificationError(
                f"the notification is a JSON {json_kind(event)}",
                "send an object: a CloudEvents notification",
            )
        if max_depth is not None and _is_deeper(event, max_depth, body):
            raise NotificationError(
                f"the notification is nested more than {max_depth} deep",
                "make it flatter, or raise `max_depth`",
            )
        return cls(body, event)

    @property
    def source(self) -> str | None:
        """The producer's ``source``, None if it is no text."""
        return _text(self.event.get("source"))

    @property
    def event_id(self) -> str | None:
        """The producer's ``eventID``, ``id`` since CloudEvents 0.2; None if it is no text."""
        return _text(self.event.get("eventID", self.event.get("id")))

    @property
    def title(self) -> str:
        """How to call it in a log."""
        return (self.event_id or "(without an id)")[:200]

    @property
    def traceparent(self) -> str:
        """Names the trace that it belongs to, as CloudEvents' extension for that says; empty if it says none."""
        value = self._extension(TRACE_HEADER)
        return "" if value is None else read_traceparent(value)

    @property
    def expires_at(self) -> float | None:
        """When it is to be left alone, in seconds since 1970, as ``expirytime`` says; None if it says nothing."""
        value = self._extension("expirytime")
        try:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            return None
        return moment.timestamp() if moment and moment.tzinfo else None

    @property
    def dataref(self) -> str | None:
        """Where its data are, as ``dataref`` says, if they are too large to be sent; None if it says nothing."""
        return _text(self._extension("dataref"))

    def _extension(self, name: str) -> Any:
        """An attribute of an extension, which 0.1 has in a bag of their own."""
        value = self.event.get(name)
        if value is None and isinstance(extensions := self.event.get("extensions"), dict):
            value = extensions.get(name)
        return value

    @cached_property
    def rows(self) -> tuple[dict[str, Any], ...]:
        """The rows of ``data``; none when it is not a list, as in events of other types."""
        data = self.event.get("data")
        return tuple(row for row in data if isinstance(row, dict)) if isinstance(data, list) else ()

    @cached_property
    def files(self) -> tuple[FileRecord, ...]:
        """The transaction's files.

        Raises:
            NotificationError: A row of ``Files`` is not usable, or two of them are for one path.
        """
        files = tuple(FileRecord.from_row(row) for row in self._rows_of("Files"))
        paths = set()
        for path in (file.path for file in files):
            if path in paths:
                raise NotificationError(
                    f"the notification names {path!r} twice",
                    "ask who uploaded it: only one of the two can be downloaded",
                )
            paths.add(path)
        return files

    @property
    def folders(self) -> frozenset[str]:
        """The folders of the transaction's files, below ``downloads/`` and ``uploads/``.

        Raises:
            NotificationError: One of them would lead elsewhere.
        """
        subdirs = (row.get("subdir") for row in self._rows_of("Files"))
        return frozenset(_folder(subdir) for subdir in subdirs if isinstance(subdir, str))

    @property
    def attributes(self) -> dict[str, Any]:
        """The transaction's attributes by their names, such as ``project``; ``_id`` is its number."""
        values = {str(row.get("destinationTable")): row.get("value") for row in self.rows}
        return {name.removeprefix(_ATTRIBUTE): value for name, value in values.items() if name.startswith(_ATTRIBUTE)}

    @property
    def key_values(self) -> dict[str, Any]:
        """Its key-values; of several values of one key, the last."""
        return {str(row.get("key")): row.get("value") for row in self._rows_of("TransactionKeyValue")}

    @property
    def consumers(self) -> frozenset[str]:
        """The consumers that made the transaction; empty for those of instruments and people."""
        return frozenset(
            str(row.get("value")) for row in self._rows_of("TransactionKeyValue") if row.get("key") == PROVENANCE_KEY
        )

    def _rows_of(self, table: str) -> Iterator[dict[str, Any]]:
        return (row for row in self.rows if row.get("destinationTable") == table)


def is_json(body: bytes) -> bool:
    """Whether a body is JSON, be it a notification or not."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _is_deeper(event: object, depth: int, body: bytes) -> bool:
    """Whether more than so many objects and arrays lie within each other, in what was read from a body."""
    # There are no more of them than brackets, so that mostly nobody has to look into the many rows.
    left = body.count(b"{") + body.count(b"[")
    if left <= depth:
        return False
    level = [event]
    # Without recursion: it is what Python could read, but may be more than its calls may.
    for _ in range(depth):
        left -= len(level)
        if left <= 0:
            return False
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else cast("list[object]", outer))
            if isinstance(inner, dict | list)
        ]
    return bool(level)


def _sharing() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Make a hook that gives all rows the same texts for what differs little among them."""
    known: dict[Any, Any] = {}

    def share(row: dict[str, Any]) -> dict[str, Any]:
        if "hashsum" in row:
            for column in _REPEATED:
                value = row.get(column)
                if type(value) is str:
                    row[column] = known.setdefault(value, value)
        return row

    return share


_REPEATED = ("destinationTable", "subdir", "hashtype", "mimetype", "ctime", "mtime")


def _text(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    return value if value.isascii() else _writable(value)


def json_kind(value: object) -> str:
    """What JSON calls a value that is no object."""
    kinds: dict[type, str] = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return kinds.get(type(value), "number")
