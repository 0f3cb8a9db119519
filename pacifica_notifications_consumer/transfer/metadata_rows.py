"""The metadata rows of a new transaction other than files, with the types that policy and metadata accept.

The rules were observed on pacifica-policy 0.8.3 and pacifica-metadata 0.13.0. These services refuse other values only
after all files have been sent, and with a traceback, so the rules are checked here first.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

from ..cloudevents.notification import PROVENANCE_KEY
from ..errors import UploadError

#: Attributes whose value is the number of a row.
_NUMBERED = ("Transactions.submitter", "Transactions.instrument")
#: Maximum number of characters of a key and of a value in metadata.
_LONGEST = 255


def transaction_rows(transaction: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Make the rows of a transaction's attributes."""
    for table in transaction:
        if not str(table).startswith("Transactions."):
            raise UploadError(
                f"{table!r} is not an attribute of a transaction",
                "use names such as Transactions.submitter; everything else belongs in the key-values",
            )
        if table == "Transactions._id":
            raise UploadError(
                "the attributes of the new transaction contain Transactions._id, which the server assigns",
                "leave it out, or record the original transaction in a key-value",
            )
    return [{"destinationTable": table, "value": _attribute(table, value)} for table, value in transaction.items()]


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
    if isinstance(value, str):
        return value
    if isinstance(number, int):
        # The identifiers of projects are texts, even if they look like numbers.
        return str(number) if table == "Transactions.project" else number
    raise UploadError(f"{table} is {value!r}, which is neither text nor a whole number", "correct it")


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
