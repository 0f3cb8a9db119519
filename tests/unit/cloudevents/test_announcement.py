"""The notification that is rebuilt from policy's answer is the one that metadata sent, except for lost details."""

import json
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacifica_notifications_consumer.cloudevents.announcement import Identity, announce, read_transaction
from pacifica_notifications_consumer.errors import NotificationError
from pacifica_notifications_consumer.jobs.job import Verdict
from pacifica_notifications_consumer.jobs.readers import Readers
from pacifica_notifications_consumer.jobs.triage import Triage, triage_transaction
from pacifica_notifications_consumer.testing.sandbox.policy import transaction_info
from tests.support.policy_tools import BROKEN, FILTER, UNKNOWN, transaction

METADATA = Identity()
TRIAGE = Triage(name="mine", filter=FILTER)


@pytest.mark.parametrize(
    ("delivered", "source", "event_id"),
    [
        ([("http://metadata.pacifica.org/transactions?_id=12", "metadata.ingest.12")], *METADATA.of("{id}")),  # type: ignore[arg-type]
        ([("http://10.0.0.1/t/1", "metadata.ingest.1")], "http://10.0.0.1/t/{id}", "metadata.ingest.{id}"),
        ([("http://h:7/t/7/x", "C7")], "http://h:7/t/{id}/x", "C{id}"),
        ([("/pacifica/metadata/ingest", "metadata.ingest.12")], "/pacifica/metadata/ingest", "metadata.ingest.{id}"),
        ([("http://h/files?_id=5", "metadata.orm.files.5f0c-a1b2c3d4e5f7"), ("s/3", "e.3")], "s/{id}", "e.{id}"),
        ([(None, "e.3"), ("s", None), ("s", ""), ("s", "e"), ("s/4", "e.4")], "s/{id}", "e.{id}"),
        ([("http://h/123", "e.12")], "http://h/123", "e.{id}"),
    ],
    ids=["usual", "digits in the host", "own", "no number", "other events first", "incomplete", "part"],
)
def test_identity_is_learnt(delivered: list[tuple[str | None, str | None]], source: str, event_id: str) -> None:
    """A site's settings are derived from its notifications."""
    identity = Identity.learn(delivered)
    assert identity is not None
    assert (identity.source, identity.event_id) == (source, event_id)
    assert identity.number(*identity.of(77)) == 77


@pytest.mark.parametrize(
    ("source", "event_id"),
    [
        (None, None),
        ("http://metadata.pacifica.org/transactions?_id=3", "metadata.ingest.4"),
        ("x", "metadata.ingest.3"),
        (METADATA.source, "metadata.ingest." + "9" * 5000),
    ],
)
def test_number_of_something_else(source: str | None, event_id: str | None) -> None:
    """An event that does not announce a transaction has no transaction number."""
    assert METADATA.number(source, event_id) is None


def test_digits_without_an_end() -> None:
    """The time to look for a number does not grow with the square of its digits: this would take hours."""
    assert Identity.learn([("s", "1" * 1_000_000 + "x")]) is None


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=10)


@given(
    number=st.integers(1, 2**40),
    key_values=st.dictionaries(TEXT, TEXT, max_size=5),
    files=st.lists(st.tuples(TEXT, TEXT, st.integers(0, 2**40), st.dictionaries(TEXT, TEXT, max_size=2)), max_size=5),
)
def test_same_as_announced(
    number: int, key_values: dict[str, str], files: list[tuple[str, str, int, dict[str, str]]]
) -> None:
    """An event that is rebuilt from the answer of the sandbox's policy is the original, byte for byte."""
    time = "2026-11-24T00:14:31"
    data: list[dict[str, Any]] = [
        {"destinationTable": "Transactions.submitter", "value": 10},
        {"destinationTable": "Transactions.project", "value": "1234a"},
        {"destinationTable": "Transactions.instrument", "value": 54},
        *({"destinationTable": "TransactionKeyValue", "key": key, "value": value} for key, value in key_values.items()),
    ]
    for file_id, (name, subdir, size, _) in enumerate(files, 7):
        file = {"_id": file_id, "name": name, "subdir": subdir, "size": size, "hashtype": "sha1", "hashsum": "0" * 40}
        data.append({"destinationTable": "Files", **file, "mimetype": "text/plain", "ctime": time, "mtime": time})
    for file_id, (_, _, _, pairs) in enumerate(files, 7):
        rows = (
            {"destinationTable": "FileKeyValue", "key": k, "value": v, "file_id": file_id} for k, v in pairs.items()
        )
        data += rows
    data.append({"destinationTable": "Transactions._id", "value": number})
    source, event_id = METADATA.of(number)
    event = {
        "cloudEventsVersion": "0.1",
        "eventType": "org.pacifica.metadata.ingest",
        "source": source,
        "eventID": event_id,
        "eventTime": time,
        "extensions": {},
        "contentType": "application/json",
        "data": data,
    }
    told = read_transaction(json.dumps(transaction_info(event, time)).encode())
    assert told is not None
    assert announce(told, METADATA) == json.dumps(event).encode()


def test_proposal() -> None:
    """With an older Pacifica, the rebuilt notification has a proposal instead of a project."""
    told = transaction(3)
    told["proposal"] = told.pop("project")
    assert json.loads(announce(told, METADATA))["data"][1] == {
        "destinationTable": "Transactions.proposal",
        "value": "1234a",
    }


def test_order_of_files() -> None:
    """Files are ordered by their numbers, whatever their order in policy's answer."""
    told = transaction(3)
    (file,) = told["files"].values()
    told["files"] = {str(number): file | {"_id": number} for number in (10, 9, 100)}
    rows = json.loads(announce(told, METADATA))["data"]
    assert [row["_id"] for row in rows if row["destinationTable"] == "Files"] == [9, 10, 100]


@pytest.mark.parametrize("missing", ["_id", "created", "submitter", "instrument", "project"])
def test_incomplete(missing: str) -> None:
    """The error names the column that policy's answer lacks."""
    told = transaction(3)
    del told[missing]
    with pytest.raises(
        NotificationError, match=f"not complete: KeyError.*{missing if missing != 'project' else 'prop'}"
    ):
        announce(told, METADATA)


@pytest.mark.parametrize("files", [{"1": None}, {"1": {}}, {"1": {"_id": 1}}])
def test_incomplete_files(files: dict[str, Any]) -> None:
    """Malformed rows of files are an error that names the transaction."""
    with pytest.raises(NotificationError, match="transaction 3 is not complete"):
        announce(transaction(3) | {"files": files}, METADATA)


@pytest.mark.parametrize("readers_limit", [1 << 20, 0], ids=["here", "in a process"])
def test_triage(readers_limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction gets the same verdict as its notification, in this process or in another."""
    monkeypatch.setattr("pacifica_notifications_consumer.jobs.readers._LARGE", readers_limit)
    with closing(Readers(TRIAGE)) as readers:
        for told, verdict in ((transaction(3, go="yes"), Verdict.MATCHED), (transaction(4), Verdict.UNMATCHED)):
            announced = readers.transaction(json.dumps(told).encode(), METADATA)
            assert announced is not None
            assert announced == triage_transaction(TRIAGE, json.dumps(told).encode(), METADATA)
            assert (announced.decision.verdict, announced.body) == (verdict, announce(told, METADATA))
        assert readers.transaction(json.dumps(UNKNOWN).encode(), METADATA) is None
        with pytest.raises(NotificationError, match="error from metadata: 500 Internal Server Error"):
            readers.transaction(json.dumps(BROKEN).encode(), METADATA)


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b"[" * 100_000])
def test_malformed_answers(answer: bytes) -> None:
    """A malformed answer is an error, as opposed to a transaction that does not exist."""
    with pytest.raises(NotificationError, match="is not a transaction"):
        read_transaction(answer)


FILE = transaction(1)["files"]["1001"]


#: Parts of a transaction, and values that they cannot have.
WRONG: list[tuple[dict[str, Any], str, tuple[Any, ...]]] = [
    ({}, "files", ({"1": None}, {"1": {}}, {"1": []}, {"1": "x"})),
    (FILE, "_id", (None, "abc", "1", True, 1.0, 1e400)),
    (FILE, "name", (None, 5, [])),
    (FILE, "subdir", (None, 5, {})),
    (FILE, "hashsum", ([], {})),
    ({}, "key_values", ([1], "x", 1, {"a": [1]}, {"a": {}})),
    ({}, "created", (5, [1], True, 0, None)),
    ({}, "submitter", ({}, [1])),
    ({}, "project", ({}, [1])),
]


@pytest.mark.parametrize(("part", "name", "value"), [(*row[:2], value) for row in WRONG for value in row[2]])
def test_answers_that_make_no_sense(part: dict[str, Any], name: str, value: Any) -> None:
    """What would fail where it is used is an error of policy where it is read."""
    wrong = part | {name: value}
    answer = json.dumps(transaction(1) | ({"files": {"1": wrong}} if part is FILE else wrong)).encode()
    with pytest.raises(NotificationError, match="policy answered a transaction 1 that makes no sense"):
        read_transaction(answer)


def test_transaction_that_is_nested_too_deeply() -> None:
    """A value that can be read, but not be written, is an error of policy."""
    deep: Any = 1
    for _ in range(200_000):
        deep = [deep]
    with pytest.raises(NotificationError, match="is not complete: RecursionError"):
        announce(transaction(1) | {"submitter": deep}, METADATA)
