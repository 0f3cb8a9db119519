"""An eavesdropper who sends a signed request again, as it was or changed, gets no second job from it."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer import Filter, JobRunner
from pacifica_notifications_consumer.endpoint import Endpoint, Signatures
from pacifica_notifications_consumer.endpoint.strangers import Strangers
from pacifica_notifications_consumer.settings.services import Services
from tests.support.endpoint_tools import AUTHORIZED, SECRETS, TOKEN, ask, said, send, signature

EVENT: dict[str, Any] = {"specversion": "1.0", "type": "t", "source": "/s", "id": "i", "data": {"go": True}}
BINARY = {"ce-specversion": "1.0", "ce-type": "t", "ce-source": "/s", "ce-id": "i", "Content-Type": "application/json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[JobRunner]:
    (tmp_path / "__main__.py").touch()
    arguments: dict[str, Any] = {"name": "mine", "filter": Filter('$["data"]["go"]'), "services": Services()}
    with JobRunner(tmp_path / "__main__.py", tmp_path / "state", warm=False, **arguments) as runner:
        yield runner


@pytest.fixture(params=[False, True], ids=["default", "strict"])
def endpoint(runner: JobRunner, request: pytest.FixtureRequest) -> Endpoint:
    signatures = Signatures(tuple(map(base64.b64decode, SECRETS)))
    return Endpoint(accept=runner.accept_all, token=TOKEN, strict=request.param, signatures=signatures)


def jobs(runner: JobRunner) -> int:
    return sum(runner.count_jobs().values())


def kept(runner: JobRunner) -> int:
    return sum(runner.ledger.count_verdicts().values())


@pytest.mark.sampled
@pytest.mark.parametrize("forged", ["ce-id", "ce-source", "ce-type", "ce-subject", "ce-time", "ce-any"])
def test_forged_attributes(endpoint: Endpoint, runner: JobRunner, forged: str) -> None:
    """Attributes in header fields are not signed: an event in binary mode needs the token."""
    body = b'{"go": true}'
    signed = signature(SECRETS[0], body) | BINARY
    assert [send(endpoint, body, signed | {forged: f"2001-01-0{number}T00:00:00Z"}) for number in (1, 2)] == [415] * 2
    assert kept(runner) == 0
    assert send(endpoint, body, AUTHORIZED | signed) == 202


def test_signed_event_as_data(endpoint: Endpoint, runner: JobRunner) -> None:
    """A signed event does not become the data of another one."""
    body = json.dumps(EVENT | {"go": True}).encode()
    signed = signature(SECRETS[0], body)
    assert send(endpoint, body, signed) == 202
    assert send(endpoint, body, signed | BINARY | {"ce-id": "forged"}) == 415
    assert (kept(runner), jobs(runner)) == (1, 1)


def test_replays(endpoint: Endpoint, runner: JobRunner) -> None:
    """A request that is sent again within the time window is a duplicate, whatever its mode is said to be."""
    body = json.dumps([EVENT | {"id": str(number)} for number in range(3)]).encode()
    signed = signature(SECRETS[0], body) | BATCH
    answers = [said(ask(endpoint, body=body, headers=signed)) for _ in range(2)]
    verdicts = [[each["verdict"] for each in answer["notifications"]] for answer in answers]
    assert verdicts == [["matched"] * 3, ["duplicate"] * 3]
    assert send(endpoint, body, signed | {"Content-Type": "application/json"}) == 400
    assert (kept(runner), jobs(runner)) == (6, 3)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "event",
    [
        {"data": {"go": True}},
        {name: value for name, value in EVENT.items() if name != "id"},
        {name: value for name, value in EVENT.items() if name != "source"},
        EVENT | {"id": 5},
        [EVENT],
        "text",
    ],
)
def test_signed_event_without_identity(endpoint: Endpoint, runner: JobRunner, event: Any) -> None:
    """Every replay of an event without an identity would be another one: it is refused, and nothing of it is kept."""
    body = json.dumps(event).encode()
    assert send(endpoint, body, signature(SECRETS[0], body)) == 400
    batch = b"[" + body + b"]"
    assert send(endpoint, batch, signature(SECRETS[0], batch) | BATCH) == 400
    assert kept(runner) == 0


def test_trace_that_is_not_signed(endpoint: Endpoint, runner: JobRunner) -> None:
    """A job does not get a trace from a header field that is not signed, but it does from the signed event."""
    traces = []
    for number, (event, headers) in enumerate(
        [(EVENT, {"traceparent": TRACE}), (EVENT | {"traceparent": TRACE}, {})], 1
    ):
        body = json.dumps(event | {"id": str(number)}).encode()
        assert send(endpoint, body, signature(SECRETS[0], body) | headers) == 202
        traces.append(runner.ledger.records.notification(number).traceparent)
    assert traces == ["", TRACE]


def test_signatures_stand_between_spaces(endpoint: Endpoint) -> None:
    """Signatures are separated by spaces; other white space does not separate them."""
    body = json.dumps(EVENT).encode()
    signed = signature(SECRETS[0], body)
    for space, status in ((" ", 202), ("\xa0", 401), ("\x85", 401)):
        text = f"v1,AAAA{space}{signed['webhook-signature']}"
        assert send(endpoint, body, signed | {"webhook-signature": text}) == status


def test_unknown_signer_uses_up_nothing(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    """The rate, and the log of refused notifications, count only requests whose signature is right."""
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/cloudevents+avro"}, BINARY):
        assert send(endpoint, b"{}", signature(SECRETS[0], b"[]") | headers) == 401
    assert "refused a notification" not in caplog.text


def test_many_refused_at_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Threads that refuse requests at the same time write one line."""
    monkeypatch.setattr(logging.Logger, "warning", slowly(logging.Logger.warning))
    refused = Strangers("the endpoint")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(refused.note, ["::1"] * 8))
    assert len(caplog.messages) == 1


def slowly(function: Callable[..., None]) -> Callable[..., None]:
    def call(*arguments: object) -> None:
        time.sleep(0.05)
        function(*arguments)

    return call


def test_claims_do_not_fill_the_log(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    """Refused requests that only claim a signature make one line together, whatever they are refused for."""
    endpoint.max_signed_body = 100
    claim = signature(SECRETS[2], b"")
    assert send(endpoint, b"x" * 101, claim) == 413
    assert send(endpoint, b"", claim | {"Content-Length": "5"}) == 400
    assert send(endpoint, b"", claim | {"webhook-timestamp": "1"}) == 401
    assert send(endpoint, b"{}", claim) == 401
    assert caplog.messages == ["refused 192.0.2.1 to the endpoint: the body has 101 bytes, the limit is 100"]
