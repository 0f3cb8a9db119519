"""After an upload whose result is unknown, the next call finds out the result before it sends anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import requests

from pacifica_notifications_consumer import upload
from pacifica_notifications_consumer.errors import ServiceError, UploadError
from pacifica_notifications_consumer.http.server import Handler
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.support.faults import fault_server
from tests.unit.transfer.test_transfer import TRANSACTION, failure


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries do not wait."""
    monkeypatch.setattr("pacifica_notifications_consumer.clients.retry.time.sleep", lambda _: None)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def outgoing(tmp_path: Path) -> Path:
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "a.txt").write_text("alpha")
    return tmp_path


class Between:
    """A relay before ingest: it forwards uploads, but replaces ingest's response while `status` is set."""

    def __init__(self, sandbox: Sandbox, status: int, *, without_times: bool = False) -> None:
        self.status: int | None = status
        self._ingest = sandbox.ingest_url
        self._without_times = without_times

    def __call__(self, handler: Handler, body: bytes) -> None:
        answer = requests.request(handler.command, self._ingest + handler.path, data=body, timeout=60)
        if handler.command == "POST" and self.status is not None:
            handler.reply(self.status)
            return
        state: dict[str, Any] = answer.json()
        if self._without_times:
            state.pop("created", None)
        handler.reply(answer.status_code, json.dumps(state).encode())


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
