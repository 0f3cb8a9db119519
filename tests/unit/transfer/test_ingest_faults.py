"""Uploads whose ingest is stuck, forgets them, fails late, or answers with something else."""

from __future__ import annotations

import itertools
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer import upload
from pacifica_notifications_consumer.clients.ingest import Ingest, IngestState
from pacifica_notifications_consumer.errors import ServiceError, UploadError
from pacifica_notifications_consumer.http.server import Handler, serve
from pacifica_notifications_consumer.settings.services import Services
from tests.support.faults import fault_server
from tests.support.machine.waiting import DEADLINE
from tests.unit.transfer.test_transfer import TRANSACTION, failure

pytestmark = pytest.mark.usefixtures("no_pauses")

AT_WORK = {"state": "OK", "task": "ingest files", "task_percent": "12.5", "complete": False, "exception": ""}
DONE = {**AT_WORK, "task": "ingest metadata", "task_percent": "100.0", "complete": True}
NESTED = """The server encountered an unexpected condition (Traceback (most recent call last):
  File "x.py", line 1, in f
KeyError: 'inner'

During handling:
base.PolicyError: not allowed
)"""
FAILED = {**AT_WORK, "state": "FAILED", "complete": True, "exception": "the archive is full"}


class ScriptedIngest:
    """An ingest that numbers uploads, and reports the states that a test sets."""

    def __init__(self) -> None:
        self.states: dict[int, dict[str, Any]] = {}
        self.uploads = 0

    def __call__(self, handler: Handler, body: bytes) -> None:
        if handler.command == "POST":
            self.uploads += 1
            handler.reply(200, json.dumps({"job_id": self.uploads}).encode())
            return
        state = self.states.get(int(handler.path.rpartition("=")[2]))
        handler.reply(200 if state else 404, json.dumps(state or {"message": "not found"}).encode())


def test_ingest_that_is_stuck(outgoing: Path) -> None:
    """An upload on which ingest makes no progress is an error; the next call waits for it again and sends nothing."""
    ingest = ScriptedIngest()
    with fault_server(ingest) as server:
        ingest.states = {1: AT_WORK}
        error = failure(upload(outgoing, TRANSACTION, services=Services(ingest_url=server.url), timeout=0.0))
        assert isinstance(error, UploadError)
        assert "has been at 'ingest files' (12.5 %) of job 1 for more than 0 seconds" in str(error)
        ingest.states = {1: DONE}
        event = upload(outgoing, TRANSACTION, services=Services(ingest_url=server.url)).get()
    assert (event["eventID"], ingest.uploads) == ("metadata.ingest.1", 1)


def test_ingest_that_goes_back_and_forth(outgoing: Path) -> None:
    """A percentage that returns to an earlier value is no progress."""
    ingest = ScriptedIngest()
    percent = itertools.cycle(["0", "1"])

    def answer(handler: Handler, body: bytes) -> None:
        ingest.states = {1: AT_WORK | {"task_percent": next(percent)}}
        ingest(handler, body)

    with fault_server(answer) as server:
        error = failure(upload(outgoing, TRANSACTION, services=Services(ingest_url=server.url), timeout=0.3))
    assert isinstance(error, UploadError)
    assert "for more than 0.3 seconds" in str(error)


def test_ingest_that_takes_its_time(outgoing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service may take the pieces of an upload more slowly than it takes connections."""
    monkeypatch.setattr(Ingest, "timeouts", (0.2, DEADLINE))
    with (outgoing / "uploads" / "large").open("wb") as large:
        large.truncate(64 << 20)  # more than sockets hold

    uploads = []

    class SlowIngest(Handler):
        def do_POST(self) -> None:
            uploads.append(self.path)
            threading.Event().wait(1.0)
            left = int(self.headers["Content-Length"])
            while left:
                left -= len(self.rfile.read(min(left, 1 << 20)))
            self.reply(200, b'{"job_id": 1}')

        def do_GET(self) -> None:
            self.reply(200, json.dumps(DONE).encode())

    with serve(SlowIngest, "127.0.0.1", 0) as server:
        event = upload(outgoing, TRANSACTION, services=Services(ingest_url=server.url)).get()
    assert (event["eventID"], len(uploads)) == ("metadata.ingest.1", 1)


def test_upload_that_fails_between_two_calls(outgoing: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An upload that failed after the first call had ended is sent again by the next call."""
    ingest = ScriptedIngest()
    with fault_server(ingest) as server:
        ingest.states = {1: AT_WORK, 2: DONE}
        failure(upload(outgoing, TRANSACTION, services=Services(ingest_url=server.url), timeout=0.0))
        ingest.states[1] = FAILED
        event = upload(outgoing, TRANSACTION, services=Services(ingest_url=server.url)).get()
    assert "upload 1 failed at 'ingest files': the archive is full; uploading again" in caplog.text
    assert (event["eventID"], ingest.uploads) == ("metadata.ingest.2", 2)


def test_ingest_that_forgets(outgoing: Path) -> None:
    """An upload that ingest does not know any more is an error, and is not sent again: it may be a transaction."""
    ingest = ScriptedIngest()
    with fault_server(ingest) as server:
        for _ in range(2):
            error = failure(upload(outgoing, TRANSACTION, services=Services(ingest_url=server.url)))
            assert isinstance(error, UploadError)
            assert "does not know its own job 1 any more" in str(error)
    assert ingest.uploads == 1


def test_callback_that_fails(outgoing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the callback for the progress is not taken for one of ingest."""
    monkeypatch.setattr("pacifica_notifications_consumer.streams.progress._SHOW_SECONDS", 0.0)
    seen: list[int] = []

    def advance(size: int, *_: int) -> None:
        seen.append(size)
        if size:
            raise ValueError("no display")

    with fault_server(ScriptedIngest()) as server:
        error = failure(upload(outgoing, TRANSACTION, services=Services(ingest_url=server.url), progress=advance))
    assert type(error) is ValueError
    assert seen[0] == 0


@pytest.mark.parametrize("task", ["\x1b[2J" + "t" * 1000, {"\x1b": 1}])
def test_texts_of_a_failure(outgoing: Path, task: object) -> None:
    """The step and the traceback of a failure are shortened, and shown instead of obeyed by a terminal."""
    ingest = ScriptedIngest()
    ingest.states = {1: {**FAILED, "task": task, "exception": "one\x1b[2J\n" + "two\n" * 1000}}
    with fault_server(ingest) as server:
        error = failure(upload(outgoing, TRANSACTION, services=Services(ingest_url=server.url)))
    assert isinstance(error, UploadError)
    assert str(error).isprintable()
    assert len(str(error)) < 1000
    assert error.output.splitlines() == ["two"] * 200


@pytest.mark.parametrize("answer", [b"{}", b"[]", b'{"job_id": "1"}'])
def test_answer_without_a_number(outgoing: Path, answer: bytes) -> None:
    """After an answer without the number, ingest may have made a transaction or not."""
    with fault_server(lambda handler, _: handler.reply(200, answer)) as server:
        error = failure(upload(outgoing, TRANSACTION, services=Services(ingest_url=server.url)))
    assert isinstance(error, UploadError)
    assert isinstance(error.__cause__, ServiceError)
    assert "answered without a job_id, after all files were sent" in str(error)


@pytest.mark.parametrize(
    ("exception", "reason"),
    [
        ("the archive is full", "the archive is full"),
        ("{'status': '400', 'message': 'no such user', 'traceback': 'in f'}", "no such user (in f)"),
        ("{'status': '400', 'message'", "{'status': '400', 'message'"),
        ("{'status': '400'}", "{'status': '400'}"),
        pytest.param(
            f"{{'status': {' ' * 70_000}1, 'message': 2, 'traceback': 3}}",
            "{'status': 1, 'message': 2",
            id="long",
        ),
        pytest.param(f"{{'status': {'1+' * 30_000}1}}", f"{{'status': {'1+' * 144}1…", id="deep"),
        (
            NESTED,
            "PolicyError: not allowed",
        ),
    ],
)
def test_reasons(exception: str, reason: str) -> None:
    """The reason of a failure is one line, however ingest wraps the error of another service."""
    state = IngestState(state="FAILED", task="x", percent="0", complete=True, exception=exception)
    assert state.reason == reason
