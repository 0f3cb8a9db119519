"""How metadata announces a transaction: its notification, made anew of what policy tells of the transaction.

Observed on pacifica-metadata 0.13.0. What is the same as in the notification that metadata sent: ``source``,
``eventID``, the rows and their order. What cannot be: ``eventTime`` is in UTC here, in metadata's local time there;
submitter and instrument are numbers, the values of key-values are texts, whatever the uploader had sent; of several
values of one key there is one; rows of tables that metadata does not keep are gone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from ..errors import NotificationError

#: The type of the event by which metadata announces a transaction.
INGEST_EVENT = "org.pacifica.metadata.ingest"
#: What stands for the transaction's number.
_NUMBER = "{id}"
_LAST_NUMBER = re.compile(r"\d+$")
_PLAIN_NUMBER = re.compile(r"(?<![0-9A-Za-z])\d{1,11}$")
#: The columns of ``Files`` that an uploader sends and metadata keeps.
_FILE_COLUMNS = ("_id", "name", "subdir", "size", "hashtype", "hashsum", "mimetype", "ctime", "mtime")


@attrs.frozen(kw_only=True)
class Identity:
    """What the notifications of ingest carry as ``source`` and ``eventID``; ``{id}`` stands for the transaction.

    Args:
        source: By default what metadata's setting ``ingest_source`` says when a site has not changed it.
        event_id: The same of ``ingest_eventid``.
    """

    source: str = f"http://metadata.pacifica.org/transactions?_id={_NUMBER}"
    event_id: str = f"metadata.ingest.{_NUMBER}"

    @classmethod
    def learn(cls, notifications: Iterable[tuple[str | None, str | None]]) -> Identity | None:
        """Find out what a site has set, from what it has sent; None if that does not tell.

        Args:
            notifications: ``source`` and ``eventID`` of some notifications, the ones to be trusted most first.
        """
        for source, event_id in notifications:
            number = _LAST_NUMBER.search(event_id or "")
            if not (source and event_id and number):
                continue
            before, found, after = _last(source, number[0])
            # Without the number in its source it may be another event's, whose UUID happens to end with digits.
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
        """The transaction that a notification announces; None if it is none of these."""
        if number := _LAST_NUMBER.search(event_id or ""):
            transaction_id = int(number[0])
            return transaction_id if (source, event_id) == self.of(transaction_id) else None
        return None


def read_transaction(answer: bytes) -> dict[str, Any] | None:
    """Read what policy answers when it is asked for a transaction.

    Returns:
        What metadata has of it; None if there is no such transaction.

    Raises:
        NotificationError: It could not tell.
    """
    try:
        transaction = json.loads(answer)
    except (ValueError, RecursionError):
        transaction = None
    if not isinstance(transaction, dict):
        raise NotificationError("policy answered something that is no transaction", "look into its log")
    if isinstance(transaction.get("files"), dict):
        return transaction
    # policy passes the error pages of metadata on, with a status of 200.
    status = str(transaction.get("status"))
    if status.startswith("404"):
        return None
    raise NotificationError(f"policy cannot tell: metadata answered it {status[:100]}", "look into the log of metadata")


def _last(text: str, number: str) -> tuple[str, str, str]:
    """Part a text at the last place where it says a number; without one, the middle is empty."""
    places = list(re.finditer(rf"(?<!\d){number}(?!\d)", text))
    if not places:
        return text, "", ""
    start, end = places[-1].span()
    return text[:start], text[start:end], text[end:]


def announce(transaction: Mapping[str, Any], identity: Identity) -> bytes:
    """Write the notification of a transaction.

    Args:
        transaction: What policy tells of it.
        identity: What the site's notifications carry.

    Raises:
        NotificationError: Something of it is missing.
    """
    try:
        event = ingest_event(identity.of(transaction["_id"]), list(_rows(transaction)), transaction["created"])
    except (KeyError, TypeError, AttributeError) as error:
        raise NotificationError(
            f"what policy tells of transaction {transaction.get('_id')} is not complete: {error!r}",
            "look into the log of metadata",
        ) from error
    return json.dumps(event).encode("ascii")


def ingest_event(identity: tuple[str, str], rows: Sequence[Mapping[str, Any]], time: str = "") -> dict[str, Any]:
    """Make the event by which metadata announces a transaction.

    Args:
        identity: Its ``source`` and its ``eventID``, see `Identity.of`.
        rows: Its ``data``.
        time: When the transaction was made; by default now, in local time without a zone, as metadata writes it.
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
    # Of old, a project was called a proposal.
    project = "project" if "project" in transaction else "proposal"
    for attribute in ("submitter", project, "instrument"):
        yield {"destinationTable": f"Transactions.{attribute}", "value": transaction[attribute]}
    for key, value in (transaction.get("key_values") or {}).items():
        yield {"destinationTable": "TransactionKeyValue", "key": key, "value": value}
    # Ingest numbers them in the order in which the uploader names them.
    files = sorted(transaction["files"].values(), key=lambda file: int(file["_id"]))
    for file in files:
        yield {"destinationTable": "Files", **{column: file[column] for column in _FILE_COLUMNS}}
    for file in files:
        for pair in file.get("key_values") or ():
            yield {"destinationTable": "FileKeyValue", **_pair(pair), "file_id": file["_id"]}
    yield {"destinationTable": "Transactions._id", "value": transaction["_id"]}


def _pair(pair: Mapping[str, Any]) -> dict[str, Any]:
    return {"key": pair["key"], "value": pair["value"]}
