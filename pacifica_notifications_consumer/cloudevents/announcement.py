"""Rebuilds the notification of a transaction from policy's answer to a query of the transaction.

Observed on pacifica-metadata 0.13.0. The ``source``, the ``eventID``, the rows and their order are the same as in the
notification that metadata sent. Other values are not kept as they were sent: ``eventTime`` is in UTC
instead of metadata's local time; submitter and instrument are numbers, and the values of key-values are strings,
whatever types the uploader sent; of several values of one key only one is left; rows of tables that metadata does not
have are missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from ..errors import NotificationError, shown

#: The type of the event by which metadata announces a transaction.
INGEST_EVENT = "org.pacifica.metadata.ingest"
#: The placeholder of the transaction's number.
_NUMBER = "{id}"
_LAST_NUMBER = re.compile(r"(?<!\d)\d{1,18}$")
_PLAIN_NUMBER = re.compile(r"(?<![0-9A-Za-z])\d{1,11}$")
#: The columns of ``Files`` that an uploader sends and metadata keeps.
_FILE_COLUMNS = ("_id", "name", "subdir", "size", "hashtype", "hashsum", "mimetype", "ctime", "mtime")
_NAMES = ("name", "subdir")


@attrs.frozen(kw_only=True)
class Identity:
    """The ``source`` and ``eventID`` of a site's notifications; ``{id}`` stands for the transaction's number.

    The values are those of metadata's settings ``ingest_source`` and ``ingest_eventid``, with metadata's defaults.
    """

    source: str = f"http://metadata.pacifica.org/transactions?_id={_NUMBER}"
    event_id: str = f"metadata.ingest.{_NUMBER}"

    @classmethod
    def learn(cls, notifications: Iterable[tuple[str | None, str | None]]) -> Identity | None:
        """Derive a site's settings from ``source`` and ``eventID`` of its notifications, the most trusted first.

        None if they do not contain the transaction's number.
        """
        for source, event_id in notifications:
            number = _LAST_NUMBER.search(event_id or "")
            if not (source and event_id and number):
                continue
            before, found, after = _last(source, number[0])
            # Without the number in its source it may be another kind of event, with a UUID that ends with digits.
            if found or _PLAIN_NUMBER.search(event_id):
                return cls(
                    source=f"{before}{_NUMBER}{after}" if found else source,
                    event_id=event_id[: number.start()] + _NUMBER,
                )
        return None

    def of(self, transaction_id: int) -> tuple[str, str]:
        """The ``source`` and the ``eventID`` of a transaction's notification."""
        number = str(transaction_id)
        return self.source.replace(_NUMBER, number), self.event_id.replace(_NUMBER, number)

    def number(self, source: str | None, event_id: str | None) -> int | None:
        """The number of the transaction that a notification announces; None if it is another kind of event."""
        if number := _LAST_NUMBER.search(event_id or ""):
            transaction_id = int(number[0])
            return transaction_id if (source, event_id) == self.of(transaction_id) else None
        return None


def read_transaction(answer: bytes) -> dict[str, Any] | None:
    """Parse policy's answer to the query of a transaction; None if it does not exist.

    Raises:
        NotificationError: The answer is not a transaction, or policy passes on an error of metadata.
    """
    try:
        transaction = json.loads(answer)
    except (ValueError, RecursionError, MemoryError):
        transaction = None
    if not isinstance(transaction, dict):
        raise NotificationError("policy answered something that is not a transaction", "look into the log of policy")
    if isinstance(transaction.get("files"), dict):
        if not _is_whole(transaction):
            raise NotificationError(
                f"policy answered a transaction {transaction.get('_id')!r:.30} that makes no sense", "look into its log"
            )
        return transaction
    # policy passes on the error pages of metadata with status 200.
    status = str(transaction.get("status"))
    if status.startswith("404"):
        return None
    raise NotificationError(f"policy got an error from metadata: {shown(status)}", "look into the log of metadata")


def _is_whole(transaction: dict[str, Any]) -> bool:
    """Whether the parts of a transaction that are there, and what is needed of each file, have their types."""

    def is_plain(row: dict[str, Any], columns: Iterable[str]) -> bool:
        return type(row.get("_id")) is int and not any(isinstance(row.get(name), dict | list) for name in columns)

    def is_file(file: Any) -> bool:
        named = isinstance(file, dict) and all(isinstance(file.get(name), str) for name in _NAMES)
        return named and is_plain(file, _FILE_COLUMNS)

    key_values = transaction.get("key_values") or {}
    return (
        is_plain(transaction, ("submitter", "project", "proposal", "instrument"))
        and isinstance(transaction.get("created", ""), str)
        and isinstance(key_values, dict)
        and not any(isinstance(value, dict | list) for value in key_values.values())
        and all(map(is_file, transaction["files"].values()))
    )


def _last(text: str, number: str) -> tuple[str, str, str]:
    """Split a text at the last occurrence of a number; if there is none, the middle is empty."""
    found = re.fullmatch(rf"(.*)(?<!\d)({number})(?!\d)(.*)", text, re.DOTALL)
    return (found[1], found[2], found[3]) if found else (text, "", "")


def announce(transaction: Mapping[str, Any], identity: Identity) -> bytes:
    """Write the notification of a transaction; raises `NotificationError` if the transaction lacks a column."""
    try:
        event = ingest_event(identity.of(transaction["_id"]), list(_rows(transaction)), transaction["created"])
        return json.dumps(event).encode("ascii")
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NotificationError(
            f"policy's answer for transaction {transaction.get('_id')!r:.30} is not complete: {error!r:.300}",
            "look into the log of metadata",
        ) from error


def ingest_event(identity: tuple[str, str], rows: Sequence[Mapping[str, Any]], time: str = "") -> dict[str, Any]:
    """Make the event by which metadata announces a transaction; the identity is its ``source`` and ``eventID``.

    The time is by default now, in local time without a zone, as metadata writes it.
    """
    source, event_id = identity
    return {
        "cloudEventsVersion": "0.1",
        "eventType": INGEST_EVENT,
        "source": source,
        "eventID": event_id,
        "eventTime": time or datetime.now().isoformat(timespec="seconds"),
        "extensions": {},
        "contentType": "application/json",
        "data": rows,
    }


def _rows(transaction: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    # Older versions of Pacifica call a project a proposal.
    project = "project" if "project" in transaction else "proposal"
    for attribute in ("submitter", project, "instrument"):
        yield {"destinationTable": f"Transactions.{attribute}", "value": transaction[attribute]}
    for key, value in (transaction.get("key_values") or {}).items():
        yield {"destinationTable": "TransactionKeyValue", "key": key, "value": value}
    # ingest numbers the files in the order of the uploader's metadata.
    files = sorted(transaction["files"].values(), key=lambda file: file["_id"])
    for file in files:
        yield {"destinationTable": "Files", **{column: file[column] for column in _FILE_COLUMNS}}
    for file in files:
        for pair in file.get("key_values") or ():
            columns = {"key": pair["key"], "value": pair["value"], "file_id": file["_id"]}
            yield {"destinationTable": "FileKeyValue", **columns}
    yield {"destinationTable": "Transactions._id", "value": transaction["_id"]}
