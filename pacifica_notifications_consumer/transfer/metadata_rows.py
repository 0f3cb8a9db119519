"""The metadata rows of a new transaction other than files, with the types that policy and metadata accept.

The rules were observed on pacifica-policy 0.8.3 and pacifica-metadata 0.13.0. These services refuse other values only
after all files have been sent, and with a traceback, so the rules are checked here first.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Mapping
from typing import Any

from ..cloudevents.notification import PROVENANCE_KEY
from ..errors import UploadError

#: The attributes that ingest reads. Older versions of Pacifica call a project a proposal.
_SUBMITTER, _PROJECT, _PROPOSAL, _INSTRUMENT = ATTRIBUTES = tuple(
    f"Transactions.{name}" for name in ("submitter", "project", "proposal", "instrument")
)
#: Attributes whose value is the number of a row.
_NUMBERED = (_SUBMITTER, _INSTRUMENT)
#: Maximum number of characters of a key and of a value in metadata.
_LONGEST = 255


def transaction_rows(transaction: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Make the rows of a transaction's attributes."""
    if "Transactions._id" in transaction:
        raise UploadError(
            "the attributes of the new transaction contain Transactions._id, which the server assigns",
            "leave it out, or record the original transaction in a key-value",
        )
    names = f"{_SUBMITTER}, {_PROJECT} ({_PROPOSAL} in older versions of Pacifica) and {_INSTRUMENT}"
    if unknown := [table for table in transaction if table not in ATTRIBUTES]:
        raise UploadError(
            f"{unknown[0]!r} is not an attribute of a transaction",
            f"use {names}; everything else belongs in the key-values",
        )
    if _PROJECT in transaction and _PROPOSAL in transaction:
        both = f"the attributes of the new transaction contain both {_PROJECT} and {_PROPOSAL}"
        raise UploadError(both, f"give only one: {_PROJECT}, or {_PROPOSAL} in older versions of Pacifica")
    needed = (_SUBMITTER, _PROPOSAL if _PROPOSAL in transaction else _PROJECT, _INSTRUMENT)
    if missing := [table for table in needed if table not in transaction]:
        raise UploadError(f"the attributes of the new transaction lack {' and '.join(missing)}", f"give {names}")
    return [{"destinationTable": table, "value": _attribute(table, value)} for table, value in transaction.items()]


def advice_on_refusal(rows: list[dict[str, Any]], reason: str) -> str:
    """What to do when policy refuses a transaction's attributes for a reason."""
    given = {row["destinationTable"] for row in rows}
    for wanted, other in ((_PROJECT, _PROPOSAL), (_PROPOSAL, _PROJECT)):
        # Policy names the attribute that it misses by its last word.
        if other in given and wanted not in given and re.search(rf"\b{wanted.rpartition('.')[2]}\b", reason):
            return f"give {wanted}, as this Pacifica calls it, instead of {other}"
    return "check that this submitter may upload to this project and instrument"


def key_value_rows(key_values: Mapping[str, Any], consumer: str | None) -> list[dict[str, Any]]:
    """Make the rows of a transaction's key-values, including the key-value that names the consumer."""
    if PROVENANCE_KEY in key_values:
        raise UploadError(
            f"the key {PROVENANCE_KEY!r} is reserved: it names the consumer that uploaded", "choose another key"
        )
    values = dict(key_values)
    if consumer is not None:
        # Without this key-value the consumer would process its own output in an endless loop.
        values[PROVENANCE_KEY] = consumer
    rows = [
        {"destinationTable": "TransactionKeyValue", "key": _text(key, f"the key {key!r}"), "value": _value(key, value)}
        for key, value in values.items()
    ]
    if len({row["key"] for row in rows}) < len(rows):
        raise UploadError("two keys are the same when written as text", "make them differ")
    return rows


def _attribute(table: str, value: Any) -> Any:
    number = _number(value)
    if table in _NUMBERED:
        if number is not None and number % 1 == 0:
            return int(number)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            return value
        raise UploadError(f"{table} is {value!r}", "pass its number, not a name")
    if isinstance(value, str) and value:
        return value
    if isinstance(number, int):
        # The identifiers of projects are texts, even if they look like numbers.
        return str(number) if table == "Transactions.project" else number
    raise UploadError(f"{table} is {value!r}, which is neither a text nor a whole number", "pass the identifier")


def _value(key: Any, value: Any) -> Any:
    if isinstance(value, bool):
        return value
    number = _number(value)
    if number is None:
        return _text(value, f"the value of the key {key!r}")
    # JSON cannot represent infinity and NaN.
    return number if math.isfinite(number) else str(number)


def _number(value: Any) -> int | float | None:
    """Convert a number, including one of numpy, to int or float; None if the value is not a number."""
    if isinstance(value, bool):
        return None
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else None


def _text(value: Any, name: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise UploadError(
            f"{name} has the type {type(value).__name__}, which metadata does not accept",
            "pass a text or a number, for example by str()",
        )
    if len(value) > _LONGEST:
        raise UploadError(
            f"{name} has {len(value)} characters, and metadata accepts {_LONGEST}", "put long texts into a file"
        )
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise UploadError(f"{name} contains a NUL character or a surrogate", "remove such characters")
    return value
