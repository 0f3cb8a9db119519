"""The endpoint is a good citizen to other senders: CloudEvents in all modes, handshakes, rates, signatures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica_notifications_consumer import Filter, JobRunner
from pacifica_notifications_consumer.http.server import Handler
from pacifica_notifications_consumer.jobs.job import JobState, Verdict
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_runner import webhooks
from pacifica_notifications_runner.endpoint import Endpoint, listening
from pacifica_notifications_runner.webhooks import Rate, Signatures
from tests.support.faults import fault_server

TOKEN = "right"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
LIMIT = 10_000
EVENT: dict[str, Any] = {"specversion": "1.0", "type": "t", "source": "/s", "id": "i", "data": {"go": True}}
BINARY = {"ce-specversion": "1.0", "ce-type": "t", "ce-source": "/s", "ce-id": "i", "Content-Type": "application/json"}
JSON = {"Content-Type": "application/cloudevents+json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[JobRunner]:
    (tmp_path / "__main__.py").touch()
    arguments: dict[str, Any] = {"name": "mine", "filter": Filter('$["data"]["go"]'), "services": Services()}
    with JobRunner(tmp_path / "__main__.py", tmp_path / "state", strict=True, warm=False, **arguments) as runner:
        yield runner


@pytest.fixture
def endpoint(runner: JobRunner) -> Endpoint:
    return Endpoint(accept=runner.accept_all, token=TOKEN, max_body=LIMIT, strict=True, max_events=5)


@pytest.fixture
def url(endpoint: Endpoint) -> Iterator[str]:
    with listening(endpoint, "127.0.0.1", 0) as server:
        yield f"{server.url}/receive"


def post(url: str, body: bytes | dict[str, Any] | list[Any], **headers: str) -> requests.Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.post(url, data=data, headers=AUTHORIZED | headers, timeout=10)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def kept(runner: JobRunner) -> int:
    return sum(runner.ledger.count_verdicts().values())


def noted(runner: JobRunner, job_id: int) -> bytes:
    runner.wait(job_id, 20)
    return (runner.directory(job_id).source / "notification.json").read_bytes()


def test_structured_event(url: str, runner: JobRunner) -> None:
    """HTTP 3.2, webhooks 2.2: an event in structured mode is taken with 202, and reaches the job byte for byte."""
    body = json.dumps(EVENT, indent=3).encode()
    answer = post(url, body, **JSON)
    assert (answer.status_code, answer.json()["verdict"], answer.headers["Content-Type"]) == (
        202,
        "matched",
        "application/json",
    )
    assert noted(runner, answer.json()["job"]) == body


def test_binary_event(url: str, runner: JobRunner) -> None:
    """HTTP 3.1: an event in binary mode is taken as the envelope of its version; the second one is a duplicate."""
    answers = [post(url, {"go": True}, **BINARY) for _ in range(2)]
    assert [answer.json()["verdict"] for answer in answers] == ["matched", "duplicate"]
    assert json.loads(noted(runner, answers[0].json()["job"])) == EVENT | {"datacontenttype": "application/json"}


def test_binary_event_without_content_type(url: str, runner: JobRunner) -> None:
    """HTTP 3.1.1: a Content-Type is not needed in binary mode."""
    with requests.Session() as session:
        headers = AUTHORIZED | {name: value for name, value in BINARY.items() if name != "Content-Type"}
        answer = session.post(url, data=b'{"go": true}', headers=headers, timeout=10)
    assert (answer.status_code, answer.json()["verdict"]) == (202, "matched")


def test_batch(url: str, runner: JobRunner) -> None:
    """HTTP 3.3: each event of a batch is taken for itself, byte for byte, all in one commit."""
    events = [json.dumps(EVENT | {"id": str(number)}, indent=number) for number in range(3)]
    answer = post(url, f"[{', '.join(events)}]".encode(), **BATCH)
    told = answer.json()["notifications"]
    assert (answer.status_code, [each["verdict"] for each in told]) == (202, ["matched"] * 3)
    assert [noted(runner, each["job"]).decode() for each in told] == events
    assert post(url, b"[]", **BATCH).json() == {"notifications": []}


@pytest.mark.parametrize(("depth", "status"), [(98, 202), (99, 202), (100, 400)])
def test_deepest_event(url: str, runner: JobRunner, depth: int, status: int) -> None:
    """An event, alone or in a batch, may be nested as deeply as is allowed, itself being the first level."""
    event = EVENT | {"data": nested(depth)}
    answers = [post(url, event, **JSON), post(url, [event | {"id": "b"}], **BATCH)]
    assert [answer.status_code for answer in answers] == [status] * 2
    if status == 400:
        assert all("raise `max_depth`" in answer.json()["detail"] for answer in answers)


@pytest.mark.parametrize(
    ("batch", "status", "expected"),
    [
        ([EVENT, {"specversion": "1.0"}], 400, "element 2 of the batch is no valid CloudEvent: it lacks"),
        ([EVENT, 5], 400, "element 2 of the batch is a JSON number"),
        ([EVENT] * 6, 400, "the batch has more than 5 events"),
        ([EVENT, EVENT | {"specversion": "0.3"}], 400, "several versions"),
        ([EVENT, EVENT | {"data": nested(100)}], 400, "nested more than 100 deep"),
        (EVENT, 400, "the batch is not an array"),
        ([EVENT | {"padding": "x" * LIMIT}], 413, "the body has"),
    ],
)
def test_batch_is_taken_whole_or_not_at_all(
    url: str, runner: JobRunner, batch: Any, status: int, expected: str
) -> None:
    """Of a batch with a part that cannot be taken, nothing is."""
    answer = post(url, batch, **BATCH)
    assert (answer.status_code, expected in answer.json()["detail"]) == (status, True)
    assert kept(runner) == 0


def test_largest_batch(url: str, runner: JobRunner) -> None:
    """A batch of as many events as are allowed is taken."""
    assert post(url, [EVENT | {"id": str(number)} for number in range(5)], **BATCH).status_code == 202
    assert kept(runner) == 5


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/cloudevents+avro"}, 415),
        ({"Content-Type": "application/cloudevents+json; charset=latin-1"}, 415),
        (BINARY | {"Content-Type": "application/json; charset=klingon"}, 415),
        (BINARY | {"ce-specversion": "9.9"}, 400),
        (BINARY | {"ce-type": ""}, 400),
        ({name: value for name, value in BINARY.items() if name != "ce-source"}, 400),
    ],
)
def test_what_is_not_understood(url: str, runner: JobRunner, headers: dict[str, str], status: int) -> None:
    """Webhooks 2.2: a format that is not understood is 415, what is no valid event 400; no job comes of either."""
    assert post(url, EVENT, **headers).status_code == status
    assert sum(runner.count_jobs().values()) == 0


def test_other_methods(url: str) -> None:
    """Webhooks 2.1: only POST delivers; other methods are 405 with what is allowed."""
    for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD"):
        answer = requests.request(method, url, headers=AUTHORIZED, timeout=10)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST, OPTIONS")


def test_no_redirects(url: str) -> None:
    """Webhooks 2.2: nothing is answered with a redirect."""
    statuses = {
        requests.post(f"{url}{tail}", data=b"{}", headers=AUTHORIZED, timeout=10, allow_redirects=False).status_code
        for tail in ("", "/", "?x", "/../receive", "//")
    }
    assert not any(300 <= status < 400 for status in statuses)


def test_delivery_without_payload(url: str, runner: JobRunner) -> None:
    """Webhooks 2.1: a delivery without a body is refused, unless binary mode says all in header fields."""
    assert post(url, b"", **JSON).status_code == 400
    assert post(url, b"", **BINARY).json()["verdict"] == "unmatched"


def test_token_in_the_address(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Webhooks 3.1, 3.2: the token may be in the address; the answer must not be kept, and it is in no log."""
    for package in ("pacifica_notifications_consumer", "pacifica_notifications_runner"):
        caplog.set_level("DEBUG", logger=package)
    answer = requests.post(f"{url}?a=b&access_token={TOKEN}&c=d", json=EVENT, headers=JSON, timeout=10)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (202, "private")
    for query in (
        "access_token=wrong",
        f"access_token={TOKEN}&access_token={TOKEN}",
        f"token={TOKEN}",
        "access_token=",
    ):
        assert requests.post(f"{url}?{query}", json=EVENT, headers=JSON, timeout=10).status_code == 401
    # What the header says comes first.
    wrong = JSON | {"Authorization": "Bearer wrong"}
    assert requests.post(f"{url}?access_token={TOKEN}", json=EVENT, headers=wrong, timeout=10).status_code == 401
    assert TOKEN not in caplog.text


def test_pacifica_policy_offers_none_of_that(endpoint: Endpoint, url: str) -> None:
    """Without the strict policy no token in the address is taken, and no handshake is answered."""
    endpoint.strict = False
    assert requests.post(f"{url}?access_token={TOKEN}", json=EVENT, headers=JSON, timeout=10).status_code == 401
    answer = requests.options(url, headers={"WebHook-Request-Origin": "x"}, timeout=10)
    assert not any(name.startswith("WebHook") for name in answer.headers)


@pytest.mark.parametrize(
    ("origins", "rate", "asked", "granted"),
    [
        (("*",), None, {"WebHook-Request-Origin": "a.example"}, ("*", "*")),
        (("*",), None, {"WebHook-Request-Origin": "a.example", "WebHook-Request-Rate": "120"}, ("*", "*")),
        (("*",), 100, {"WebHook-Request-Origin": "a.example", "WebHook-Request-Rate": "120"}, ("*", "100")),
        (("*",), 100, {"WebHook-Request-Origin": "a.example", "WebHook-Request-Rate": "60"}, ("*", "60")),
        (("*",), 100, {"WebHook-Request-Origin": "a.example", "WebHook-Request-Rate": "x"}, ("*", "100")),
        (("a.example", "b.example"), None, {"WebHook-Request-Origin": "A.example"}, ("A.example", "*")),
        (("b.example",), None, {"WebHook-Request-Origin": "a.example"}, None),
        (("*",), None, {}, None),
    ],
)
def test_handshake(
    endpoint: Endpoint,
    url: str,
    origins: tuple[str, ...],
    rate: int | None,
    asked: dict[str, str],
    granted: tuple[str, str] | None,
) -> None:
    """Webhooks 4: who asks by OPTIONS is told whether it may send, and how often; needing no token for that."""
    endpoint.origins, endpoint.rate = origins, Rate(rate)
    answer = requests.options(url, headers=asked, timeout=10)
    assert (answer.status_code, answer.headers["Allow"]) == (204, "POST, OPTIONS")
    told = (answer.headers.get("WebHook-Allowed-Origin"), answer.headers.get("WebHook-Allowed-Rate"))
    assert told == (granted or (None, None))


def test_no_callback(url: str) -> None:
    """Webhooks 4.1.3: whoever asks for permission by a callback does not have us call any address."""
    called: list[bytes] = []

    def answer(handler: Handler, body: bytes) -> None:
        called.append(body)
        handler.reply(200)

    with fault_server(answer) as other:
        headers = {"WebHook-Request-Origin": "x", "WebHook-Request-Callback": f"{other.url}/confirm"}
        assert requests.options(url, headers=headers, timeout=10).status_code == 204
        time.sleep(0.3)
    assert called == []


def test_rate(endpoint: Endpoint, url: str, runner: JobRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Webhooks 2.2, 4.2.2: who sends too fast is told by 429 when to come again, and is taken then."""
    endpoint.rate = Rate(2)
    assert [post(url, EVENT | {"id": str(number)}, **JSON).status_code for number in range(2)] == [202, 202]
    refused = post(url, EVENT | {"id": "3"}, **JSON)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert kept(runner) == 2
    monkeypatch.setattr(webhooks, "_MINUTE", 0.0)
    assert post(url, EVENT | {"id": "3"}, **JSON).status_code == 202


def test_retired(endpoint: Endpoint, url: str) -> None:
    """Webhooks 2.2: a consumer that takes nothing any more says so by 410, and grants no permission."""
    endpoint.retire()
    assert post(url, EVENT, **JSON).status_code == 410
    answer = requests.options(url, headers={"WebHook-Request-Origin": "x"}, timeout=10)
    assert "WebHook-Allowed-Origin" not in answer.headers


SECRETS = [base64.b64encode(bytes([number]) * 32).decode() for number in range(3)]


@pytest.fixture
def signed(endpoint: Endpoint, tmp_path: Path) -> Endpoint:
    (tmp_path / "secrets").write_text(f"whsec_{SECRETS[0]}\n\n{SECRETS[1]}\n")
    endpoint.signatures = Signatures.from_file(tmp_path / "secrets")
    return endpoint


def signature(secret: str, body: bytes, message_id: str = "msg_1", at: float | None = None) -> dict[str, str]:
    stamp = str(int(time.time() if at is None else at))
    mac = hmac.digest(base64.b64decode(secret), f"{message_id}.{stamp}.".encode() + body, hashlib.sha256)
    signed = f"v1,{base64.b64encode(mac).decode()}"
    return {"webhook-id": message_id, "webhook-timestamp": stamp, "webhook-signature": signed} | JSON


def send(url: str, body: bytes, headers: dict[str, str]) -> int:
    return requests.post(url, data=body, headers=headers, timeout=10).status_code


@pytest.mark.usefixtures("signed")
def test_signatures(url: str, runner: JobRunner) -> None:
    """Standard Webhooks: who signs with one of the secrets is known, also while they are being changed."""
    body = json.dumps(EVENT).encode()
    assert send(url, body, signature(SECRETS[0], body)) == 202
    assert send(url, body, signature(SECRETS[1], body)) == 202
    several = signature(SECRETS[1], body)
    several["webhook-signature"] = (
        f"v1a,xyz v1,!!! {signature(SECRETS[2], body)['webhook-signature']} " + (several["webhook-signature"])
    )
    assert send(url, body, several) == 202
    # The token is still taken.
    assert post(url, EVENT, **JSON).status_code == 202
    assert kept(runner) == 4


@pytest.mark.usefixtures("signed")
@pytest.mark.parametrize(
    "changes",
    [
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": ""},
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": str(int(time.time()) - 400)},
        {"webhook-timestamp": str(int(time.time()) + 400)},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": "9" * 30},
    ],
)
def test_wrong_signatures(url: str, runner: JobRunner, changes: dict[str, str]) -> None:
    """Standard Webhooks: what is signed otherwise, by another secret, or too long ago, is refused."""
    body = json.dumps(EVENT).encode()
    assert send(url, body, signature(SECRETS[0], body) | changes) == 401
    assert send(url, body + b" ", signature(SECRETS[0], body)) == 401
    assert send(url, body, signature(SECRETS[2], body)) == 401
    assert kept(runner) == 0


@pytest.mark.usefixtures("signed")
def test_signature_at_the_edge_of_the_window(url: str) -> None:
    """Standard Webhooks: five minutes are the tolerance, either way."""
    body = json.dumps(EVENT).encode()
    for seconds, status in ((-290, 202), (290, 202), (-310, 401), (310, 401)):
        assert send(url, body, signature(SECRETS[0], body, at=time.time() + seconds)) == status


def test_who_only_signs_may_not_send_much(signed: Endpoint, url: str) -> None:
    """Of who has no token no more is read than is said, since the signature is known only then."""
    signed.max_body, signed.max_signed_body = 64 << 20, 1 << 20
    for size, status in (((1 << 20) - 1, 202), ((1 << 20), 202), ((1 << 20) + 1, 413)):
        body = json.dumps(EVENT | {"padding": ""}).encode()
        body = body.replace(b'"padding": ""', b'"padding": "' + b"x" * (size - len(body)) + b'"')
        assert send(url, body, signature(SECRETS[0], body)) == status


def test_expired_event(url: str, runner: JobRunner) -> None:
    """An event that says that its time is over is noted, and runs nothing; one whose time is to come runs."""
    over = post(url, EVENT | {"expirytime": "2001-01-01T00:00:00Z"}, **JSON)
    to_come = post(url, EVENT | {"id": "j", "expirytime": "2999-01-01T00:00:00Z"}, **JSON)
    assert (over.json()["verdict"], over.json()["job"], to_come.json()["verdict"]) == ("expired", None, "matched")
    assert runner.ledger.count_verdicts()[Verdict.EXPIRED] == 1


def test_traceparent_of_a_binary_event(url: str, runner: JobRunner) -> None:
    """The extension for traces is honoured in binary mode, too."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = post(url, {"go": True}, **BINARY, **{"ce-traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert trace in runner.ledger.records.notification(answer.json()["notification"]).traceparent


def test_events_of_pacifica_and_of_others_side_by_side(endpoint: Endpoint, url: str, runner: JobRunner) -> None:
    """Under Pacifica's policy, too, events come in all modes; what is no notification is set aside."""
    endpoint.strict = False
    old = {"cloudEventsVersion": "0.1", "eventType": "t", "source": "/s", "eventID": "old", "data": {"go": True}}
    answers = [
        post(url, old, **{"Content-Type": "application/json"}),
        post(url, EVENT, **{"Content-Type": "application/json"}),
        post(url, {"go": True}, **BINARY | {"ce-id": "b"}),
        post(url, [EVENT | {"id": "c"}], **BATCH),
    ]
    assert [answer.status_code for answer in answers] == [202] * 4
    jobs = [answer.json()["job"] for answer in answers[:3]] + [answers[3].json()["notifications"][0]["job"]]
    assert [runner.wait(job, 20).state for job in jobs] == [JobState.SUCCEEDED] * 4
