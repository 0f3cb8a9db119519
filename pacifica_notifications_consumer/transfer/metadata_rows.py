"""The rows of a new transaction that are not files, with the types that policy and metadata accept.

What they accept was observed on pacifica-policy 0.8.3 and pacifica-metadata 0.13.0; they refuse the rest only after all
files have been sent, and with a traceback.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

from ..cloudevents.notification import PROVENANCE_KEY
from ..errors import UploadError

#: Attributes that name a row by its number.
_NUMBERED = ("Transactions.submitter", "Transactions.instrument")
#: Characters that metadata takes for a key and for a value.
_LONGEST = 255


def transaction_rows(transaction: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Make the rows of a transaction's attributes.

    Raises:
        UploadError: One of them is no attribute, is the server's, or has a value that cannot be right.
    """
    for table in transaction:
        if not str(table).startswith("Transactions."):
            raise UploadError(
                f"{table!r} is no attribute of a transaction",
                "name them Transactions.submitter and so on; everything else belongs into the key-values",
            )
        if table == "Transactions._id":
            raise UploadError(
                "Transactions._id stands among the attributes of the new transaction",
                "leave it out, since the server assigns it, or put it among the key-values to tell where it came from",
            )
    return [{"destinationTable": table, "value": _attribute(table, value)} for table, value in transaction.items()]


def key_value_rows(key_values: Mapping[str, Any], consumer: str | None) -> list[dict[str, Any]]:
    """Make the rows of a transaction's key-values, and of the one that names the consumer.

    Raises:
        UploadError: A key or a value is none that metadata takes, or the key is the runner's own.
    """
    if PROVENANCE_KEY in key_values:
        raise UploadError(f"the key {PROVENANCE_KEY!r} is the runner's own", "choose another key")
    values = dict(key_values)
    if consumer is not None:
        # Without this the consumer would be run on its own output, for ever.
        values[PROVENANCE_KEY] = consumer
    rows = [
        {"destinationTable": "TransactionKeyValue", "key": _text(key, f"the key {key!r}"), "value": _value(key, value)}
        for key, value in values.items()
    ]
    if len({row["key"] for row in rows}) < len(rows):
        raise UploadError("two of the keys are the same when written as text", "make them differ")
    return rows


def _attribute(table: str, value: Any) -> Any:
    number = _number(value)
    if table in _NUMBERED:
        if isinstance(number, float) and number.is_integer():
            return int(number)
        if isinstance(number, int) or (isinstance(value, str) and value.isascii() and value.isdigit()):
            return value if isinstance(value, str) else number
        raise UploadError(f"{table} is {value!r}", "give its number, not a name")
    if isinstance(value, str):
        return value
    if isinstance(number, int):
        # Projects are known by texts, also those that look like a number.
        return str(number) if table == "Transactions.project" else number
    raise UploadError(f"{table} is {value!r}, which is neither text nor a whole number", "correct it")


def _value(key: Any, value: Any) -> Any:
    number = _number(value)
    if isinstance(value, bool) or isinstance(number, int):
        return value if isinstance(value, bool) else number
    if isinstance(number, float):
        # JSON has no word for those that are not finite.
        return number if math.isfinite(number) else str(number)
    return _text(value, f"the value of the key {key!r}")


def _number(value: Any) -> int | float | None:
    """The number that a value is, one of numpy's included."""
    if isinstance(value, bool):
        return None
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else None


def _text(value: Any, what: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise UploadError(
            f"{what} is {type(value).__name__}, which metadata does not take", "give a text or a number, say by str()"
        )
    if len(value) > _LONGEST:
        raise UploadError(
            f"{what} has {len(value)} characters, and metadata takes {_LONGEST}", "put long texts into a file"
        )
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise UploadError(f"{what} has characters that no text has", "leave them out")
    return value
