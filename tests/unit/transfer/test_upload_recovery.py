"""After an upload whose result is unknown, the next call finds out the result before it sends anything."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import requests

from pacifica_notifications_consumer import upload
from pacifica_notifications_consumer.clients.ingest import Ingest, IngestState
from pacifica_notifications_consumer.errors import ServiceError, UploadError
from pacifica_notifications_consumer.http.server import Handler
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from pacifica_notifications_consumer.transfer import upload_recovery
from tests.support.faults import fault_server
from tests.unit.transfer.test_transfer import TRANSACTION, failure

pytestmark = pytest.mark.usefixtures("no_pauses")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


class Between:
    """A relay before ingest: it forwards uploads, but replaces ingest's response while `status` is set."""

    def __init__(self, sandbox: Sandbox, status: int, *, without_times: bool = False, unfinished: int = 0) -> None:
        self.status: int | None = status
        self.lose = False  #: whether uploads do not reach ingest
        self.unfinished = unfinished  #: how often the state of the first upload is not complete
        self.created = ""  #: replaces the time of arrival of the first upload
        self._ingest = sandbox.ingest_url
        self._without_times = without_times

    def __call__(self, handler: Handler, body: bytes) -> None:
        if handler.command == "POST" and self.lose:
            handler.reply(self.status or 502)
            return
        answer = requests.request(handler.command, self._ingest + handler.path, data=body, timeout=60)
        if handler.command == "POST" and self.status is not None:
            handler.reply(self.status)
            return
        state: dict[str, Any] = answer.json()
        if self._without_times:
            state.pop("created", None)
        if state.get("job_id") == 1 and handler.command == "GET":
            state["created"] = self.created or state.get("created")
            if self.unfinished:
                self.unfinished -= 1
                state["complete"] = False
        handler.reply(answer.status_code, json.dumps(state).encode())


@pytest.mark.sampled
@pytest.mark.parametrize("without_times", [False, True])
@pytest.mark.parametrize("status", [500, 502, 504])
def test_fault_after_a_whole_upload(sandbox: Sandbox, outgoing: Path, status: int, without_times: bool) -> None:
    """A fault after a whole upload may hide a transaction: the next call finds it and does not make a second one."""
    between = Between(sandbox, status, without_times=without_times)
    with fault_server(between) as server:
        services = attrs.evolve(Services.from_environment(sandbox.environ()), ingest_url=server.url)
        error = failure(upload(outgoing, TRANSACTION, services=services))
        assert isinstance(error, UploadError)
        assert "may have made a transaction or not" in str(error)
        between.status = None
        event = upload(outgoing, TRANSACTION, services=services).get()
    assert sandbox.transactions() == [event["data"][-1]["value"]]


def test_upload_that_never_arrived(sandbox: Sandbox, outgoing: Path, tmp_path: Path) -> None:
    """An upload that ingest does not have is sent again, even if an old transaction has the same content."""
    between = Between(sandbox, 502)
    with fault_server(between) as server:
        services = attrs.evolve(Services.from_environment(sandbox.environ()), ingest_url=server.url)
        between.status = None
        old = tmp_path / "old"
        shutil.copytree(outgoing / "uploads", old / "uploads")
        upload(old, TRANSACTION, services=services).get()
        between.created = "2000-01-01T00:00:00"
        between.lose = True
        assert "may have made a transaction or not" in str(failure(upload(outgoing, TRANSACTION, services=services)))
        between.lose = False
        event = upload(outgoing, TRANSACTION, services=services).get()
    assert event["data"][-1]["value"] == 2
    assert sandbox.transactions() == [1, 2]
    (record,) = outgoing.glob("upload-*.jsonl")
    assert "ingest made no transaction of this upload" in record.read_text()


def test_upload_on_which_ingest_still_works(sandbox: Sandbox, outgoing: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The next call waits for uploads that may be the lost one, before it decides."""
    between = Between(sandbox, 504, unfinished=3)
    with fault_server(between) as server:
        services = attrs.evolve(Services.from_environment(sandbox.environ()), ingest_url=server.url)
        failure(upload(outgoing, TRANSACTION, services=services))
        between.status = None
        event = upload(outgoing, TRANSACTION, services=services).get()
    assert "waiting for upload 1 of ingest" in caplog.text
    assert sandbox.transactions() == [event["data"][-1]["value"]] == [1]


def test_without_policy_the_next_call_cannot_tell(sandbox: Sandbox, outgoing: Path) -> None:
    """Without policy, nothing is sent again while the lost upload may be a transaction; with policy it is found."""
    between = Between(sandbox, 502)
    with fault_server(between) as server:
        services = attrs.evolve(Services.from_environment(sandbox.environ()), ingest_url=server.url)
        failure(upload(outgoing, TRANSACTION, services=services))
        between.status = None
        for _ in range(2):
            error = failure(upload(outgoing, TRANSACTION, services=attrs.evolve(services, policy_url=None)))
            assert isinstance(error, UploadError)
            assert "it may be transaction 1; set `policy_url`" in str(error)
        event = upload(outgoing, TRANSACTION, services=services).get()
    assert sandbox.transactions() == [event["data"][-1]["value"]] == [1]


@pytest.mark.parametrize("highest", [0, 1, 2, 3, 8, 9, 31, 100, 1000])
def test_newest_upload_is_in_reach(highest: int) -> None:
    """The search begins above the newest upload, whatever number it has, and although some numbers are unknown."""

    class Known:
        def state(self, number: int) -> IngestState | None:
            known = 1 <= number <= highest and (number % 10 < 3 or number == highest)
            return IngestState(state="OK", task="", percent="", complete=True, exception="") if known else None

    assert highest <= upload_recovery._newest(cast("Ingest", Known())) <= highest + 10


@pytest.mark.parametrize(
    ("highest", "problem"), [(1 << 99, "a state for every number"), (200, "for -1 seconds with uploads")]
)
def test_ingest_that_knows_more_than_there_can_be(monkeypatch: pytest.MonkeyPatch, highest: int, problem: str) -> None:
    """The search ends with an error if ingest seems to have every upload, or so many that it takes too long."""
    monkeypatch.setattr(upload_recovery, "_LONGEST", -1.0)

    class Endless(Ingest):
        def state(self, job_id: int) -> IngestState | None:
            running = IngestState(state="", task="", percent="", complete=False, exception="", created=1e9)
            return running if job_id <= highest else None

    def wait(job_id: int) -> IngestState:
        pytest.fail(f"waits for {job_id}")

    endless = Endless(Services(ingest_url="http://127.0.0.1:1"), requests.Session())
    with pytest.raises(ServiceError, match=problem):
        upload_recovery.find_upload(endless, None, since=1e9, rows=[], wait=wait)


@pytest.mark.parametrize("status", [400, 401, 413])
def test_refusal(outgoing: Path, status: int) -> None:
    """An upload that ingest refused is not a transaction, and the next call sends it again."""

    def refuse(handler: Handler, _: bytes) -> None:
        handler.reply(status)

    with fault_server(refuse) as server:
        for _ in range(2):
            error = failure(upload(outgoing, TRANSACTION, services=Services(ingest_url=server.url)))
            assert isinstance(error, ServiceError)
            assert error.status == status
        assert [request[0] for request in server.requests] == ["POST", "POST"]


def test_ingest_that_takes_no_more_for_now(sandbox: Sandbox, outgoing: Path) -> None:
    """503 means that the server did not accept the upload, so it is retried automatically."""
    refusals = [503, 503]

    def answer(handler: Handler, body: bytes) -> None:
        if handler.command == "POST" and refusals:
            handler.reply(refusals.pop(), Retry_After="1")
        else:
            passed_on = requests.request(handler.command, sandbox.ingest_url + handler.path, data=body, timeout=60)
            handler.reply(passed_on.status_code, passed_on.content)

    with fault_server(answer) as server:
        services = attrs.evolve(Services.from_environment(sandbox.environ()), ingest_url=server.url)
        event = upload(outgoing, TRANSACTION, services=services).get()
    assert sandbox.transactions() == [event["data"][-1]["value"]]
