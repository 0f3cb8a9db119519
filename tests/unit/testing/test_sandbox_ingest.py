from __future__ import annotations

import io
import json
import re
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.support.machine.waiting import DEADLINE
from tests.support.sandbox_tools import (
    CONTENT,
    TRANSACTION,
    Ear,
    bundle,
    file_record,
    key_value,
    records_of,
    state_of,
    tar_of,
    upload,
)

A = {"a.txt": CONTENT["a.txt"]}
STATE = ["job_id", "state", "task", "task_percent", "complete", "updated", "created", "exception"]


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture(scope="module")
def shared_ear() -> Ear:
    return Ear()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, shared_ear: Ear) -> Iterator[Sandbox]:
    """A sandbox for all tests that make no transaction in it."""
    with Sandbox(tmp_path_factory.mktemp("shared"), on_event=shared_ear, users={"alice": 10}) as running:
        yield running


@pytest.fixture
def sandbox(tmp_path: Path, ear: Ear) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "sandbox", on_event=ear, users={"alice": 10}) as running:
        yield running


def record(**changes: Any) -> list[dict[str, Any]]:
    """The records of a bundle whose only file has a changed record."""
    return [*TRANSACTION, file_record("a.txt", A["a.txt"], **changes)]


def without(table: str) -> list[dict[str, Any]]:
    return [r for r in records_of(A) if r["destinationTable"] != f"Transactions.{table}"]


def submitter(value: Any) -> list[dict[str, Any]]:
    return [{"destinationTable": "Transactions.submitter", "value": value}, *without("submitter")]


PROPOSAL = [{"destinationTable": "Transactions.proposal", "value": "1234a"}, *without("project")]
TWICE = [key_value("k", 1), key_value("k", "1")]

FAILURES = {
    "no tar": (b"no tar", "open tar", "Failed to open tarfile."),
    "empty": (b"", "open tar", "Failed to open tarfile."),
    "gzipped": (tar_of({"metadata.txt": b"[]"}, "w:gz"), "open tar", "Failed to open tarfile."),
    "no metadata": (tar_of({"data/a.txt": b""}), "load metadata", "filename 'metadata.txt' not found"),
    "bad JSON": (tar_of({"metadata.txt": b"{nope"}), "load metadata", "Expecting property name"),
    "no list": (bundle(A, {"a": 1}), "load metadata", "string indices must be integers"),
    "truncated": (bundle({"a": bytes(9999)})[:5000], "load metadata", "unexpected end of data"),
    "no submitter": (bundle(A, without("submitter")), "Policy Validation", "Invalid values for submitter [(]"),
    "no project": (bundle(A, without("project")), "Policy Validation", "Invalid values for project [(]"),
    "no instrument": (bundle(A, without("instrument")), "Policy Validation", "Invalid values for instrument [(]"),
    "proposal": (bundle(A, PROPOSAL), "Policy Validation", "Precondition Failed: Invalid values for project"),
    "nothing": (bundle(A, []), "Policy Validation", "Invalid values for submitter, project, instrument"),
    "unknown user": (bundle(A, submitter(99)), "Policy Validation", "Invalid values for submitter [(]"),
    "network id": (bundle(A, submitter("alice")), "Policy Validation", "The server encountered an unexpected"),
    "bad hash": (bundle(A, record(hashsum="0" * 40)), "ingest files", "HashValidationException: File [0-9]+ failed"),
    "bad hashtype": (bundle(A, record(hashtype="nope")), "ingest files", "Invalid Hashtype nope"),
    "missing": (bundle(A, record(name="b.txt")), "ingest files", "filename 'data/b.txt' not found"),
    "multipart": (bundle(A, record(mimetype="multipart/mixed")), "ingest metadata", "Invalid metadata for file [0-9]+"),
    "bad mimetype": (bundle(A, record(mimetype="nope")), "ingest metadata", "Invalid metadata for file [0-9]+"),
    "sha1:": (
        bundle(A, record(hashsum=f"sha1:{record()[-1]['hashsum']}")),
        "ingest metadata",
        "Invalid metadata for file [0-9]+",
    ),
    "no ctime": (bundle(A, record(ctime=None)), "ingest metadata", "{'status': '500 Internal Server Error'"),
    "key and value twice": (bundle(A, [*TRANSACTION, *TWICE]), "ingest metadata", "duplicate key value"),
}


def test_the_answer_to_an_upload(sandbox: Sandbox) -> None:
    """An upload is answered at once, with the state before the bundle is processed."""
    answer = requests.post(f"{sandbox.ingest_url}/upload", data=b"anything", timeout=DEADLINE)
    state = answer.json()
    assert (answer.status_code, answer.headers["Content-Type"], list(state)) == (200, "application/json", STATE)
    assert (state["job_id"], state["state"], state["task"], state["task_percent"]) == (1, "OK", "UPLOADING", "0.00000")
    assert (state["complete"], state["exception"]) == (False, "")


def test_the_hash_in_capitals(sandbox: Sandbox, ear: Ear) -> None:
    """A file whose hash is of the type SHA1 is taken, and announced as it was sent."""
    assert upload(sandbox, ear, bundle(A, record(hashtype="SHA1")))["state"] == "OK"
    rows = json.loads(sandbox.notification(1))["data"]
    assert [row["hashtype"] for row in rows if row["destinationTable"] == "Files"] == ["SHA1"]


def test_the_last_state_of_a_good_upload(sandbox: Sandbox, ear: Ear) -> None:
    """A good upload ends with its last task at 100 per cent."""
    state = upload(sandbox, ear, bundle())
    assert list(state) == STATE
    assert (state["state"], state["task"], state["task_percent"]) == ("OK", "ingest metadata", "100.00000")
    assert (state["complete"], state["exception"]) == (True, "")
    assert state["updated"] > state["created"]


@pytest.mark.parametrize("name", FAILURES)
def test_failures(shared: Sandbox, shared_ear: Ear, name: str) -> None:
    """Each bad bundle fails at the same task and with the same message as in the real service."""
    body, task, exception = FAILURES[name]
    state = upload(shared, shared_ear, body)
    assert (state["state"], state["task"], state["task_percent"]) == ("FAILED", task, "0.00000")
    assert state["complete"] is True
    assert re.search(exception, state["exception"])
    assert shared.transactions() == []
    assert list((shared.directory / "uploads").iterdir()) == []


@pytest.mark.parametrize(
    "records",
    [
        TRANSACTION,
        submitter("10"),
        [*TRANSACTION, key_value("k", 1), key_value("k", 2), {"destinationTable": "Whatever", "x": 1}],
        record(size=999),
        [*record(), *record()[-1:]],
    ],
    ids=["no files", "digits", "same key", "wrong size", "same path"],
)
def test_what_is_accepted(sandbox: Sandbox, ear: Ear, records: list[dict[str, Any]]) -> None:
    """Odd bundles that the real services accept are accepted, and values keep their types."""
    assert upload(sandbox, ear, bundle(A, records))["state"] == "OK"
    sent = [r for r in records if r["destinationTable"] != "Files"]
    event = json.loads(sandbox.notification(1))
    assert [r for r in event["data"][:-1] if r["destinationTable"] != "Files"] == sent


def test_failed_uploads_leave_gaps(sandbox: Sandbox, ear: Ear) -> None:
    """A transaction has the number of its upload, and ids of files are never reused."""
    upload(sandbox, ear, bundle(A, record(hashsum="0" * 40)))
    upload(sandbox, ear, bundle(A))
    assert sandbox.transactions() == [2]
    assert json.loads(sandbox.notification(2))["data"][3]["_id"] == 2


def test_an_uploaded_transaction_id_wins(sandbox: Sandbox, ear: Ear) -> None:
    """An uploaded id is the transaction's; its event has both ids, and the upload with that number fails."""
    copied = {"destinationTable": "Transactions._id", "value": 2}
    requests.post(f"{sandbox.ingest_url}/upload", data=bundle(A, [*records_of(A), copied]), timeout=DEADLINE)
    assert sandbox.wait_for_transaction(timeout=DEADLINE) == 2
    event = json.loads(sandbox.notification(2))
    assert (event["eventID"], event["source"][-6:]) == ("metadata.ingest.2", "?_id=2")
    assert event["data"][-2:] == [copied, {"destinationTable": "Transactions._id", "value": 1}]
    requests.post(f"{sandbox.ingest_url}/upload", data=bundle(A), timeout=DEADLINE)
    ear.wait("upload 2 failed")
    assert "duplicated ID values" in state_of(sandbox, 2)["exception"]


def test_a_chunked_upload(sandbox: Sandbox, ear: Ear) -> None:
    """A chunked body is accepted."""
    body = bundle({"big.bin": bytes(range(256)) * 9000})
    pieces = (body[start : start + 70_000] for start in range(0, len(body), 70_000))
    assert upload(sandbox, ear, pieces)["state"] == "OK"
    assert sandbox.read(1) == {"big.bin": bytes(range(256)) * 9000}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"Transfer-Encoding: chunked", b"5\r\nhello\r\nnonsense\r\n"),
        (b"Transfer-Encoding: chunked", b"5\r\nhello, world\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked", b"-5\r\nhello\r\n0\r\n\r\n"),
        (b"Content-Length: 100", b"hello"),
    ],
)
def test_a_body_that_breaks_off(shared: Sandbox, headers: bytes, body: bytes) -> None:
    """A malformed or truncated body is refused, and leaves no bundle behind."""
    host, _, port = shared.ingest_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), DEADLINE) as connection, connection.makefile("rb") as answer:
        connection.sendall(b"POST /upload HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n\r\n" + body)
        connection.shutdown(socket.SHUT_WR)
        assert b" 400 " in answer.readline()
        answer.read()
    assert list((shared.directory / "uploads").iterdir()) == []


def test_an_upload_without_length(shared: Sandbox) -> None:
    """A body without Content-Length that is not chunked is refused with 411."""
    host, _, port = shared.ingest_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), DEADLINE) as connection, connection.makefile("rb") as answer:
        connection.sendall(b"POST /upload HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 411 " in answer.readline()


def test_a_client_that_waits_to_be_told(shared: Sandbox) -> None:
    """Expect: 100-continue is answered before the body arrives."""
    host, _, port = shared.ingest_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), DEADLINE) as connection, connection.makefile("rb") as answer:
        connection.sendall(b"POST /upload HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert b" 100 " in answer.readline()
        connection.sendall(b"hello")
        answer.readline()
        assert b" 200 " in answer.readline()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("get_state", 500),
        ("get_state?job_id=abc", 500),
        ("get_state?job_id=777", 404),
        ("upload", 405),
        ("elsewhere", 404),
        ("", 200),
    ],
)
def test_other_requests(shared: Sandbox, path: str, status: int) -> None:
    """Unknown uploads, malformed numbers and other paths have the answers of the real service, always in JSON."""
    answer = requests.get(f"{shared.ingest_url}/{path}", timeout=DEADLINE)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json")
    if status != 200:
        assert list(answer.json()) == ["status", "message", "traceback", "version"]


def test_a_negative_job_id(shared: Sandbox) -> None:
    """A negative id has a special state as answer."""
    state = state_of(shared, -1)
    assert (state["job_id"], state["state"], state["task"]) == (None, "DATA_ACCESS_ERROR", "read_state")


@pytest.mark.parametrize("name", ["../../escaped", "/../../escaped", "a/../../../escaped"])
def test_hostile_names(sandbox: Sandbox, ear: Ear, tmp_path: Path, name: str) -> None:
    """A member whose path is outside of the bundle is archived only by its id, like any other."""
    hostile = file_record("a.txt", b"evil", name=name, subdir="")
    member = f"data/{'/'.join(part for part in f'/{name}'.split('/') if part)}"
    metadata = json.dumps([*TRANSACTION, hostile]).encode()
    state = upload(sandbox, ear, tar_of({member: b"evil", "metadata.txt": metadata}))
    assert state["state"] == "OK"
    assert not [path for path in tmp_path.rglob("*") if "escaped" in path.name]
    assert (sandbox.directory / "files" / "1").read_bytes() == b"evil"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_out_of_the_bundle(sandbox: Sandbox, ear: Ear, kind: bytes) -> None:
    """A link to a file of this machine does not copy the file into the archive."""
    out = io.BytesIO()
    metadata = json.dumps([*TRANSACTION, file_record("a.txt", b"")]).encode()
    with tarfile.open(fileobj=out, mode="w") as tar:
        link = tarfile.TarInfo("data/a.txt")
        link.type, link.linkname = kind, "/etc/passwd"
        tar.addfile(link)
        info = tarfile.TarInfo("metadata.txt")
        info.size = len(metadata)
        tar.addfile(info, io.BytesIO(metadata))
    assert upload(sandbox, ear, out.getvalue())["task"] == "ingest files"
    assert list((sandbox.directory / "files").iterdir()) == []
