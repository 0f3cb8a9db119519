"""The endpoint is a good citizen to other senders: CloudEvents in all modes, handshakes, rates, signatures."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer import Filter, JobRunner
from pacifica_notifications_consumer.endpoint import Endpoint, HTTPResponse, webhooks
from pacifica_notifications_consumer.endpoint.webhooks import Rate, Signatures
from pacifica_notifications_consumer.http.request import Headers
from pacifica_notifications_consumer.http.server import Handler
from pacifica_notifications_consumer.jobs.job import JobState, Verdict
from pacifica_notifications_consumer.settings.services import Services
from tests.support.endpoint_tools import AUTHORIZED, SECRETS, TOKEN, ask, post, said, send, signature
from tests.support.faults import fault_server
from tests.support.machine.waiting import DEADLINE

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


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def kept(runner: JobRunner) -> int:
    return sum(runner.ledger.count_verdicts().values())


def noted(runner: JobRunner, job_id: int) -> bytes:
    runner.wait(job_id, DEADLINE)
    return (runner.directory(job_id).source / "notification.json").read_bytes()


def test_structured_event(endpoint: Endpoint, runner: JobRunner) -> None:
    """HTTP 3.2, webhooks 2.2: an event in structured mode is taken with 202, and reaches the job byte for byte."""
    body = json.dumps(EVENT, indent=3).encode()
    answer = post(endpoint, body, **JSON)
    assert (answer.status, said(answer)["verdict"], answer.headers["Content-Type"]) == (
        202,
        "matched",
        "application/json",
    )
    assert noted(runner, said(answer)["job"]) == body


def test_binary_event(endpoint: Endpoint, runner: JobRunner) -> None:
    """HTTP 3.1: an event in binary mode is taken as the envelope of its version; the second one is a duplicate."""
    answers = [post(endpoint, {"go": True}, **BINARY) for _ in range(2)]
    assert [said(answer)["verdict"] for answer in answers] == ["matched", "duplicate"]
    assert json.loads(noted(runner, said(answers[0])["job"])) == EVENT | {"datacontenttype": "application/json"}


def test_binary_event_without_content_type(endpoint: Endpoint, runner: JobRunner) -> None:
    """HTTP 3.1.1: a Content-Type is not needed in binary mode."""
    answer = post(endpoint, {"go": True}, **{name: value for name, value in BINARY.items() if name != "Content-Type"})
    assert (answer.status, said(answer)["verdict"]) == (202, "matched")


def test_batch(endpoint: Endpoint, runner: JobRunner) -> None:
    """HTTP 3.3: each event of a batch is taken for itself, byte for byte, all in one commit."""
    events = [json.dumps(EVENT | {"id": str(number)}, indent=number) for number in range(3)]
    answer = post(endpoint, f"[{', '.join(events)}]".encode(), **BATCH)
    told = said(answer)["notifications"]
    assert (answer.status, [each["verdict"] for each in told]) == (202, ["matched"] * 3)
    assert [noted(runner, each["job"]).decode() for each in told] == events
    assert said(post(endpoint, b"[]", **BATCH)) == {"notifications": []}


@pytest.mark.parametrize(("depth", "status"), [(98, 202), (99, 202), (100, 400)])
def test_deepest_event(endpoint: Endpoint, runner: JobRunner, depth: int, status: int) -> None:
    """An event, alone or in a batch, may be nested as deeply as is allowed, itself being the first level."""
    event = EVENT | {"data": nested(depth)}
    answers = [post(endpoint, event, **JSON), post(endpoint, [event | {"id": "b"}], **BATCH)]
    assert [answer.status for answer in answers] == [status] * 2
    if status == 400:
        assert all("raise `max_depth`" in said(answer)["detail"] for answer in answers)


@pytest.mark.parametrize(
    ("batch", "status", "expected"),
    [
        ([EVENT, {"specversion": "1.0"}], 400, "element 2 of the batch is not a valid CloudEvent: it lacks"),
        ([EVENT, 5], 400, "element 2 of the batch is a JSON number"),
        ([EVENT] * 6, 400, "the batch has more than 5 events"),
        ([EVENT, EVENT | {"specversion": "0.3"}], 400, "several versions"),
        ([EVENT, EVENT | {"data": nested(100)}], 400, "nested more than 100 deep"),
        (EVENT, 400, "the batch is not an array"),
        ([EVENT | {"padding": "x" * LIMIT}], 413, "the body has"),
    ],
)
def test_batch_is_taken_whole_or_not_at_all(
    endpoint: Endpoint, runner: JobRunner, batch: Any, status: int, expected: str
) -> None:
    """Of a batch with a part that cannot be taken, nothing is."""
    answer = post(endpoint, batch, **BATCH)
    assert (answer.status, expected in said(answer)["detail"]) == (status, True)
    assert kept(runner) == 0


def test_largest_batch(endpoint: Endpoint, runner: JobRunner) -> None:
    """A batch of as many events as are allowed is taken."""
    assert post(endpoint, [EVENT | {"id": str(number)} for number in range(5)], **BATCH).status == 202
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
def test_what_is_not_understood(endpoint: Endpoint, runner: JobRunner, headers: dict[str, str], status: int) -> None:
    """Webhooks 2.2: a format that is not understood is 415, what is no valid event 400; no job comes of either."""
    assert post(endpoint, EVENT, **headers).status == status
    assert sum(runner.count_jobs().values()) == 0


def test_other_methods(endpoint: Endpoint) -> None:
    """Webhooks 2.1: only POST delivers; other methods are 405 with what is allowed."""
    for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD"):
        answer = ask(endpoint, method)
        assert (answer.status, answer.headers["Allow"]) == (405, "POST, OPTIONS")


def test_no_redirects(endpoint: Endpoint) -> None:
    """Webhooks 2.2: nothing is answered with a redirect."""
    statuses = {
        ask(endpoint, target=f"/receive{tail}", body=b"{}", headers=AUTHORIZED).status
        for tail in ("", "/", "?x", "/../receive", "//")
    }
    assert not any(300 <= status < 400 for status in statuses)


def test_delivery_without_payload(endpoint: Endpoint, runner: JobRunner) -> None:
    """Webhooks 2.1: a delivery without a body is refused, unless binary mode says all in header fields."""
    assert post(endpoint, b"", **JSON).status == 400
    assert said(post(endpoint, b"", **BINARY))["verdict"] == "unmatched"


def post_to(endpoint: Endpoint, query: str, **headers: str) -> HTTPResponse:
    return ask(endpoint, target=f"/receive?{query}", body=json.dumps(EVENT).encode(), headers=JSON | headers)


def test_token_in_the_address(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    """Webhooks 3.1, 3.2: the token may be in the address; the answer must not be kept, and it is in no log."""
    for package in ("pacifica_notifications_consumer", "pacifica_notifications_runner"):
        caplog.set_level("DEBUG", logger=package)
    answer = post_to(endpoint, f"a=b&access_token={TOKEN}&c=d")
    assert (answer.status, answer.headers["Cache-Control"]) == (202, "private")
    for query in (
        "access_token=wrong",
        f"access_token={TOKEN}&access_token={TOKEN}",
        f"token={TOKEN}",
        "access_token=",
        f"access_token={TOKEN}" + "&a=b" * 20,
    ):
        assert post_to(endpoint, query).status == 401
    # What the header says comes first.
    assert post_to(endpoint, f"access_token={TOKEN}", Authorization="Bearer wrong").status == 401
    assert TOKEN not in caplog.text


def test_pacifica_policy_offers_none_of_that(endpoint: Endpoint) -> None:
    """Without the strict policy no token in the address is taken, and no handshake is answered."""
    endpoint.strict = False
    assert post_to(endpoint, f"access_token={TOKEN}").status == 401
    answer = ask(endpoint, "OPTIONS", headers={"WebHook-Request-Origin": "x"})
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
    origins: tuple[str, ...],
    rate: int | None,
    asked: dict[str, str],
    granted: tuple[str, str] | None,
) -> None:
    """Webhooks 4: who asks by OPTIONS is told whether it may send, and how often; needing no token for that."""
    endpoint.origins, endpoint.rate = origins, Rate(rate)
    answer = ask(endpoint, "OPTIONS", headers=asked)
    assert (answer.status, answer.headers["Allow"]) == (204, "POST, OPTIONS")
    told = (answer.headers.get("WebHook-Allowed-Origin"), answer.headers.get("WebHook-Allowed-Rate"))
    assert told == (granted or (None, None))


def test_no_callback(endpoint: Endpoint) -> None:
    """Webhooks 4.1.3: whoever asks for permission by a callback does not have us call any address."""
    called: list[bytes] = []

    def answer(handler: Handler, body: bytes) -> None:
        called.append(body)
        handler.reply(200)

    with fault_server(answer) as other:
        headers = {"WebHook-Request-Origin": "x", "WebHook-Request-Callback": f"{other.url}/confirm"}
        assert ask(endpoint, "OPTIONS", headers=headers).status == 204
        time.sleep(0.3)
    assert called == []


def test_rate(endpoint: Endpoint, runner: JobRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Webhooks 2.2, 4.2.2: who sends too fast is told by 429 when to come again, and is taken then."""
    endpoint.rate = Rate(2)
    assert [post(endpoint, EVENT | {"id": str(number)}, **JSON).status for number in range(2)] == [202, 202]
    refused = post(endpoint, EVENT | {"id": "3"}, **JSON)
    assert refused.status == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert kept(runner) == 2
    monkeypatch.setattr(webhooks, "_MINUTE", 0.0)
    assert post(endpoint, EVENT | {"id": "3"}, **JSON).status == 202


def test_retired(endpoint: Endpoint) -> None:
    """Webhooks 2.2: a consumer that takes nothing any more says so by 410, and grants no permission."""
    endpoint.retire()
    assert post(endpoint, EVENT, **JSON).status == 410
    answer = ask(endpoint, "OPTIONS", headers={"WebHook-Request-Origin": "x"})
    assert "WebHook-Allowed-Origin" not in answer.headers


@pytest.fixture
def signed(endpoint: Endpoint, tmp_path: Path) -> Endpoint:
    (tmp_path / "secrets").write_text(f"whsec_{SECRETS[0]}\n\n{SECRETS[1]}\n")
    endpoint.signatures = Signatures.from_file(tmp_path / "secrets")
    return endpoint


@pytest.mark.usefixtures("signed")
def test_signatures(endpoint: Endpoint, runner: JobRunner) -> None:
    """Standard Webhooks: who signs with one of the secrets is known, also while they are being changed."""
    body = json.dumps(EVENT).encode()
    assert send(endpoint, body, signature(SECRETS[0], body)) == 202
    assert send(endpoint, body, signature(SECRETS[1], body)) == 202
    several = signature(SECRETS[1], body)
    several["webhook-signature"] = (
        f"v1a,xyz v1,!!! {signature(SECRETS[2], body)['webhook-signature']} " + (several["webhook-signature"])
    )
    assert send(endpoint, body, several) == 202
    # The token is still taken.
    assert post(endpoint, EVENT, **JSON).status == 202
    assert kept(runner) == 4


@pytest.mark.usefixtures("signed")
def test_bodies_to_wait_for(endpoint: Endpoint) -> None:
    """A server learns from the head of a request whether its body is read: with the token, or with a signature."""
    signed, old, early = (Headers([*signature(SECRETS[2], b"", at=time.time() + at).items()]) for at in (0, -400, 400))
    token = Headers([*AUTHORIZED.items()])
    for path, headers, awaited in (
        ("/receive", signed, True),
        ("/receive", old, False),
        ("/receive", early, False),
        ("http://h/rec%65ive", token, True),
        (f"/receive?access_token={TOKEN}", Headers([]), True),
        ("/receive?access_token=wrong", Headers([]), False),
        ("/metrics", token, False),
    ):
        assert endpoint.awaits_body("POST", path, headers) is awaited, path
    assert not endpoint.awaits_body("OPTIONS", "/receive", token)


@pytest.mark.usefixtures("signed")
@pytest.mark.parametrize(
    "changes",
    [
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": ""},
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": "9" * 30},
    ],
)
def test_wrong_signatures(endpoint: Endpoint, runner: JobRunner, changes: dict[str, str]) -> None:
    """Standard Webhooks: what is signed otherwise, by another secret, or too long ago, is refused."""
    body = json.dumps(EVENT).encode()
    assert send(endpoint, body, signature(SECRETS[0], body) | changes) == 401
    assert send(endpoint, body + b" ", signature(SECRETS[0], body)) == 401
    assert send(endpoint, body, signature(SECRETS[2], body)) == 401
    assert kept(runner) == 0


@pytest.mark.usefixtures("signed")
def test_signature_at_the_edge_of_the_window(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard Webhooks: five minutes are the tolerance, either way."""
    now = float(int(time.time()))
    monkeypatch.setattr(time, "time", lambda: now)
    body = json.dumps(EVENT).encode()
    for seconds, status in ((-300, 202), (300, 202), (-301, 401), (301, 401)):
        assert send(endpoint, body, signature(SECRETS[0], body, at=now + seconds)) == status


def test_who_only_signs_may_not_send_much(signed: Endpoint) -> None:
    """Of who has no token no more is read than is said, since the signature is known only then."""
    signed.max_body, signed.max_signed_body = 64 << 20, 1 << 20
    for size, status in (((1 << 20) - 1, 202), ((1 << 20), 202), ((1 << 20) + 1, 413)):
        body = json.dumps(EVENT | {"padding": ""}).encode()
        body = body.replace(b'"padding": ""', b'"padding": "' + b"x" * (size - len(body)) + b'"')
        assert send(signed, body, signature(SECRETS[0], body)) == status


def test_expired_event(endpoint: Endpoint, runner: JobRunner) -> None:
    """An event that says that its time is over is noted, and runs nothing; one whose time is to come runs."""
    over = post(endpoint, EVENT | {"expirytime": "2001-01-01T00:00:00Z"}, **JSON)
    to_come = post(endpoint, EVENT | {"id": "j", "expirytime": "2999-01-01T00:00:00Z"}, **JSON)
    assert (said(over)["verdict"], said(over)["job"], said(to_come)["verdict"]) == ("expired", None, "matched")
    assert runner.ledger.count_verdicts()[Verdict.EXPIRED] == 1


def test_traceparent_of_a_binary_event(endpoint: Endpoint, runner: JobRunner) -> None:
    """The extension for traces is honoured in binary mode, too."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = post(endpoint, {"go": True}, **BINARY, **{"ce-traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert trace in runner.ledger.records.notification(said(answer)["notification"]).traceparent


def test_events_of_pacifica_and_of_others_side_by_side(endpoint: Endpoint, runner: JobRunner) -> None:
    """Under Pacifica's policy, too, events come in all modes; what is no notification is set aside."""
    endpoint.strict = False
    old = {"cloudEventsVersion": "0.1", "eventType": "t", "source": "/s", "eventID": "old", "data": {"go": True}}
    answers = [
        post(endpoint, old, **{"Content-Type": "application/json"}),
        post(endpoint, EVENT, **{"Content-Type": "application/json"}),
        post(endpoint, {"go": True}, **BINARY | {"ce-id": "b"}),
        post(endpoint, [EVENT | {"id": "c"}], **BATCH),
    ]
    assert [answer.status for answer in answers] == [202] * 4
    jobs = [said(answer)["job"] for answer in answers[:3]] + [said(answers[3])["notifications"][0]["job"]]
    assert [runner.wait(job, DEADLINE).state for job in jobs] == [JobState.SUCCEEDED] * 4
