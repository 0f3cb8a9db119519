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

from ..errors import NotificationError, shown
from .trace import TRACE_HEADER, read_traceparent

#: The key-value that names the consumer that uploaded a transaction; a consumer skips transactions of its own.
PROVENANCE_KEY = "pacifica-notifications-consumer"
#: The default limit for the nesting of a notification. Pacifica's notifications have three levels.
MAX_DEPTH = 100
_ATTRIBUTE = "Transactions."


@attrs.frozen(kw_only=True)
class FileRecord:
    """A file of a transaction.

    Args:
        id: The file's number in Pacifica.
        name: The file's name, without folders.
        subdir: The folder, with ``/`` between names; ``""`` at top level.
        size: The size in bytes.
        hashtype: The name of the hash, such as ``sha1``.
        hashsum: The hash of the content, in hexadecimal.
        mtime: The time of the last change: ISO 8601 in UTC, without zone; ``""`` if unknown.

    Attributes:
        path: The path below ``downloads/``, with ``/`` between names.

    Raises:
        NotificationError: The path would be outside ``downloads/``.
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
        return f"{_folder(self.subdir)}/{self.name}".removeprefix("/")

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> FileRecord:
        """Read a row of the table ``Files``; raises `NotificationError` if a column is not usable."""
        for column, kind in _COLUMNS.items():
            if not isinstance(row.get(column), kind):
                raise NotificationError(
                    f"the notification's file {row.get('name')!r} has no usable {column!r}: {row.get(column)!r}",
                    "use the notification from the producer; set `policy_url` so that upload() writes complete ones",
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
_HOSTILE = "check the upload of this transaction: the file could overwrite others outside the job's directory"


@lru_cache(maxsize=1024)
def _folder(subdir: str) -> str:
    """The folder that a subdir means: ``a/b/``, ``a//b`` and ``./a/b`` are other spellings of ``a/b``."""
    parts = [part for part in subdir.split("/") if part not in ("", ".")]
    if subdir.startswith("/") or not all(_is_plain_name(part) for part in parts):
        raise NotificationError(f"the notification's subdir {subdir!r} is not a plain path", _HOSTILE)
    return "/".join(parts)


def _is_plain_name(name: str) -> bool:
    # JSON can contain halves of surrogate pairs, file names cannot.
    is_text = name.isascii() or name == _writable(name)
    return is_text and name not in ("", ".", "..") and "/" not in name and "\0" not in name


def _writable(text: str) -> str:
    """The text, with backslash escapes for characters that UTF-8 cannot encode."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@attrs.frozen
class Notification:
    """A notification of a transaction.

    Args:
        body: The bytes as received.
        event: The result of ``json.loads`` for these bytes.
    """

    body: bytes = attrs.field(repr=False)
    event: dict[str, Any] = attrs.field(repr=False)

    @classmethod
    def parse(cls, body: bytes, *, compact: bool = False, max_depth: int | None = None) -> Notification:
        """Parse the body of a request or the content of ``notification.json``.

        Args:
            body: The bytes.
            compact: Whether rows share equal strings, which takes less memory and a little more time.
            max_depth: Maximum nesting of objects and arrays; by default as deep as Python can parse.

        Raises:
            NotificationError: The body is not a JSON object, or nested too deeply.
        """
        if not body.strip():
            raise NotificationError("the notification is empty", "send a CloudEvents object in JSON")
        try:
            event = json.loads(body, object_hook=_sharing() if compact else None)
        except (ValueError, RecursionError) as error:
            advice = "send a CloudEvents object in JSON, encoded in UTF-8"
            raise json_error("the notification", error, advice) from error
        if not isinstance(event, dict):
            raise NotificationError(
                f"the notification is a JSON {json_kind(event)}", "send an object: a CloudEvents notification"
            )
        if max_depth is not None and _is_deeper(event, max_depth, body):
            raise NotificationError(
                f"the notification is nested more than {max_depth} deep", "make it flatter, or raise `max_depth`"
            )
        return cls(body, event)

    @property
    def source(self) -> str | None:
        """The attribute ``source``; None if it is not a string."""
        return _text(self.event.get("source"))

    @property
    def event_id(self) -> str | None:
        """The attribute ``eventID``, or ``id`` since CloudEvents 0.2; None if it is not a string."""
        return _text(self.event.get("eventID", self.event.get("id")))

    @property
    def title(self) -> str:
        """The notification's name in a log and in lists, with escapes for what a terminal may obey."""
        return shown(self.event_id or "(without an id)", 199)

    @property
    def traceparent(self) -> str:
        """The notification's trace, from CloudEvents' extension *Distributed Tracing*; empty if it has none."""
        value = self._extension(TRACE_HEADER)
        return "" if value is None else read_traceparent(value)

    @property
    def expires_at(self) -> float | None:
        """When the notification expires, in seconds since 1970, from the extension ``expirytime``; None if never."""
        value = self._extension("expirytime")
        try:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            return None
        return moment.timestamp() if moment and moment.tzinfo else None

    @property
    def dataref(self) -> str | None:
        """The address of data that are too large to be sent, from the extension ``dataref``; None if it has none."""
        return _text(self._extension("dataref"))

    def _extension(self, name: str) -> Any:
        """The value of an extension attribute; CloudEvents 0.1 has these in the object ``extensions``."""
        value = self.event.get(name)
        if value is None and isinstance(extensions := self.event.get("extensions"), dict):
            value = extensions.get(name)
        return value

    @cached_property
    def rows(self) -> tuple[dict[str, Any], ...]:
        """The rows of ``data``; empty if it is not a list, as in events of other types."""
        data = self.event.get("data")
        return tuple(row for row in data if isinstance(row, dict)) if isinstance(data, list) else ()

    @cached_property
    def files(self) -> tuple[FileRecord, ...]:
        """The transaction's files.

        Raises:
            NotificationError: A row of ``Files`` is not usable, or two rows have the same path.
        """
        files = tuple(FileRecord.from_row(row) for row in self.rows_of("Files"))
        paths = set()
        for path in (file.path for file in files):
            if path in paths:
                raise NotificationError(
                    f"the notification names {path!r} twice",
                    "correct the upload: only one of the two files can be downloaded",
                )
            paths.add(path)
        return files

    @property
    def folders(self) -> frozenset[str]:
        """The folders of the transaction's files, below ``downloads/`` and ``uploads/``.

        Raises:
            NotificationError: A folder would be outside these directories.
        """
        subdirs = (row.get("subdir") for row in self.rows_of("Files"))
        return frozenset(_folder(subdir) for subdir in subdirs if isinstance(subdir, str))

    @property
    def attributes(self) -> dict[str, Any]:
        """The transaction's attributes by their names, such as ``project``; ``_id`` is its number."""
        values = {str(row.get("destinationTable")): row.get("value") for row in self.rows}
        return {name.removeprefix(_ATTRIBUTE): value for name, value in values.items() if name.startswith(_ATTRIBUTE)}

    @property
    def key_values(self) -> dict[str, Any]:
        """The transaction's key-values; of several values of one key, the last."""
        return {str(row.get("key")): row.get("value") for row in self.rows_of("TransactionKeyValue")}

    @property
    def consumers(self) -> frozenset[str]:
        """The names of the consumers that uploaded the transaction; empty if an instrument or a person did."""
        return frozenset(
            str(row.get("value")) for row in self.rows_of("TransactionKeyValue") if row.get("key") == PROVENANCE_KEY
        )

    def rows_of(self, table: str) -> Iterator[dict[str, Any]]:
        """The rows of one table."""
        return (row for row in self.rows if row.get("destinationTable") == table)


def is_json(body: bytes) -> bool:
    """Whether a body is JSON."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _is_deeper(event: object, depth: int, body: bytes) -> bool:
    """Whether the objects and arrays of an event, parsed from a body, are nested deeper than a limit."""
    # There are at most as many objects and arrays as brackets: for most notifications their rows need not be searched.
    left = body.count(b"{") + body.count(b"[")
    if left <= depth:
        return False
    level = [event]
    # Not recursive: JSON that the parser accepts may be nested deeper than Python functions may call each other.
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
    """Make an object hook for `json.loads` with which rows share equal strings in columns of few distinct values."""
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


def json_error(what: str, error: Exception, advice: str) -> NotificationError:
    """Make the error of a text that `json` cannot parse, which need not be the fault of its syntax."""
    if isinstance(error, RecursionError):
        return NotificationError(f"{what} is nested too deeply", "make it flatter")
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return NotificationError(f"{what} is not JSON: {error}", advice)
    return NotificationError(f"{what} has a number of too many digits", "send such a number as a string")


def json_kind(value: object) -> str:
    """The name of a value's type in JSON, for values other than objects."""
    kinds: dict[type, str] = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return kinds.get(type(value), "number")
