"""A transaction's rows have the types that policy and metadata accept; other values are refused before the upload."""

import json
from fractions import Fraction
from typing import Any

import pytest

from pacifica_notifications_consumer.errors import UploadError
from pacifica_notifications_consumer.transfer.metadata_rows import key_value_rows, transaction_rows

PROJECT = "Transactions.project"
TRANSACTION = {"Transactions.submitter": 10, PROJECT: "1234a", "Transactions.instrument": 54}


@pytest.mark.parametrize(
    ("table", "given", "sent"),
    [
        ("submitter", 10, 10),
        ("submitter", "10", "10"),
        ("submitter", 10.0, 10),
        ("instrument", Fraction(54), 54),
        ("project", "1234a", "1234a"),
        ("project", 1234, "1234"),
        ("proposal", "1234a", "1234a"),
    ],
)
def test_attributes(table: str, given: Any, sent: Any) -> None:
    """Numbers are sent as integers, projects as texts."""
    others = {name: value for name, value in TRANSACTION.items() if (table, name) != ("proposal", PROJECT)}
    rows = transaction_rows(others | {f"Transactions.{table}": given})
    (row,) = (row for row in rows if row["destinationTable"] == f"Transactions.{table}")
    assert row == {"destinationTable": f"Transactions.{table}", "value": sent}
    assert type(row["value"]) is type(sent)


@pytest.mark.parametrize(
    ("table", "value"),
    [
        ("submitter", "alice"), ("submitter", True), ("submitter", None), ("submitter", 10.5), ("submitter", [10]),
        ("submitter", "\u0661\u0660"), ("instrument", "NMR"), ("project", None), ("project", 1.5), ("project", ""),
    ],
)  # fmt: skip
def test_attributes_that_cannot_be_right(table: str, value: Any) -> None:
    """Attributes that policy would refuse with a traceback after the upload are refused before it, by name."""
    with pytest.raises(UploadError, match=f"^Transactions.{table} is "):
        transaction_rows(TRANSACTION | {f"Transactions.{table}": value})


@pytest.mark.parametrize(
    ("transaction", "problem"),
    [
        ({"submitter": 10, "instrument": 54}, "the attributes of the new transaction lack Transactions.project"),
        ({"submitter": 10, "proposal": "1234a"}, "the attributes of the new transaction lack Transactions.instrument"),
        ({}, "lack Transactions.submitter and Transactions.project and Transactions.instrument"),
        ({"submitter": 10, "projet": "1234a", "instrument": 54}, "'Transactions.projet' is not an attribute"),
        ({"submitter": 10, "project": "a", "instrument": 54, "description": "x"}, "'Transactions.description' is not"),
    ],
)
def test_attributes_that_are_missing_or_misspelt(transaction: dict[str, Any], problem: str) -> None:
    """The error names the attribute, and all that exist."""
    with pytest.raises(UploadError, match=problem) as caught:
        transaction_rows({f"Transactions.{name}": value for name, value in transaction.items()})
    for name in ("submitter", "project", "proposal", "instrument"):
        assert f"Transactions.{name}" in str(caught.value)


def test_both_names_of_the_project() -> None:
    """A transaction has a project or a proposal; both are refused, with the name that each Pacifica uses."""
    both = "contain both Transactions.project and Transactions.proposal"
    with pytest.raises(UploadError, match=f"{both}.*give only one: {PROJECT}, or Transactions.proposal in older"):
        transaction_rows(TRANSACTION | {"Transactions.proposal": "1234a"})


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"a": "text"}, {"a": "text"}),
        ({"a": 5, "b": 0.5, "c": True}, {"a": 5, "b": 0.5, "c": True}),
        ({"a": float("nan"), "b": float("-inf")}, {"a": "nan", "b": "-inf"}),
        ({5: "x"}, {"5": "x"}),
        ({"x" * 255: "é" * 255}, {"x" * 255: "é" * 255}),
        ({"a": Fraction(1, 2)}, {"a": 0.5}),
    ],
)
def test_key_values(given: dict[Any, Any], sent: dict[str, Any]) -> None:
    """Texts and numbers are sent unchanged, keys as texts, and all rows can be written as JSON."""
    rows = key_value_rows(given, None)
    assert {row["key"]: row["value"] for row in rows} == sent
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"a": None}, "the value of the key 'a' has the type NoneType, which metadata does not accept"),
        ({"a": [1]}, "the value of the key 'a' has the type list"),
        ({"a": {"b": 1}}, "the value of the key 'a' has the type dict"),
        ({"a": b"x"}, "the value of the key 'a' has the type bytes"),
        ({None: "x"}, "the key None has the type NoneType"),
        ({True: "x"}, "the key True has the type bool"),
        ({"a": "x" * 256}, "the value of the key 'a' has 256 characters, and metadata accepts 255"),
        ({"x" * 256: "a"}, "has 256 characters"),
        ({"a": "x\0y"}, "contains a NUL character or a surrogate"),
        ({"a": "\ud800"}, "contains a NUL character or a surrogate"),
        ({"5": 1, 5: 2}, "two keys are the same"),
    ],
)
def test_key_values_that_metadata_refuses(given: dict[Any, Any], problem: str) -> None:
    """Key-values that would fail the upload at its end are refused before it begins."""
    with pytest.raises(UploadError) as caught:
        key_value_rows(given, None)
    assert problem in str(caught.value)
