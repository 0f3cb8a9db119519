"""The rules of the endpoint let nobody in without the token, and answer 2xx only for what is on the disk."""

import base64
import io
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer import Filter, JobRunner
from pacifica_notifications_consumer.endpoint import Delivery, Endpoint, HTTPRequest, HTTPResponse
from pacifica_notifications_consumer.endpoint.endpoint import METRICS_TYPE
from pacifica_notifications_consumer.errors import StateError
from pacifica_notifications_consumer.http.errors import HTTPError
from pacifica_notifications_consumer.jobs.job import Receipt, Verdict
from pacifica_notifications_consumer.settings.services import Services
from tests.support.endpoint_tools import AUTHORIZED, TOKEN, ask, post, said
from tests.support.machine.waiting import DEADLINE
from tests.support.paths import NOTIFICATIONS as FOLDER

LIMIT = 10_000
NOTIFICATIONS = sorted(FOLDER.glob("*.json"))


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[JobRunner]:
    (tmp_path / "__main__.py").touch()
    with JobRunner(
        tmp_path / "__main__.py",
        tmp_path / "state",
        name="mine",
        filter=Filter('$["data"][*][?(@["mimetype"] = "text/plain")]'),
        services=Services(),
        warm=False,
    ) as runner:
        yield runner


@pytest.fixture
def endpoint(runner: JobRunner) -> Endpoint:
    return Endpoint(accept=runner.accept_all, token=TOKEN, max_body=LIMIT)


def kept(runner: JobRunner) -> int:
    return sum(runner.ledger.count_verdicts().values())


def never_read(size: int) -> bytes:
    raise AssertionError("the body has been read")


@pytest.mark.parametrize("path", NOTIFICATIONS, ids=lambda path: path.stem)
def test_real_notifications(endpoint: Endpoint, runner: JobRunner, path: Path) -> None:
    """Every real notification is taken, and runs a job only if it matches; a second delivery runs nothing."""
    matches = b"text/plain" in path.read_bytes()
    first, second = (post(endpoint, path.read_bytes(), **{"Content-Type": "application/json"}) for _ in range(2))
    assert (first.status, second.status) == (202, 202)
    assert said(first)["verdict"] == ("matched" if matches else "unmatched")
    assert (said(first)["job"] is not None, said(second)["verdict"]) == (matches, "duplicate")
    if matches:
        noted = runner.directory(runner.wait(1, DEADLINE).id).source / "notification.json"
        assert noted.read_bytes() == path.read_bytes()


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@pytest.mark.sampled
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer wr0ng",
        "Bearer rightt",
        "Basic right",
        "right",
        "Bearer \xe9",
        "Bearer \xa0right",
        "Bearer right\x85",
        f"{basic('pacifica', 'right')}\x1f",
        "Basic pacifica:right",
        basic("pacifica", "wrong"),
        basic("other", "right"),
        f"Bearer {base64.b64encode(b'pacifica:right').decode()}",
    ],
)
def test_strangers(endpoint: Endpoint, authorization: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """Without the right token the answer is 401, the body stays unread, and what was tried is not logged."""
    headers = {"Content-Length": "2"} | ({} if authorization is None else {"Authorization": authorization})
    response = endpoint.answer(HTTPRequest("POST", "/receive", headers, never_read, "192.0.2.1"))
    assert response.status == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="pacifica", Basic realm="pacifica"'
    assert "refused 192.0.2.1 to the endpoint: the credentials are missing or wrong" in caplog.text
    assert not authorization or authorization.split()[-1] not in caplog.text


def test_unknown_peer(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    """A framework need not know the client's address."""
    assert endpoint.answer(HTTPRequest("POST", "/receive", {}, never_read)).status == 401
    assert "refused an unknown address" in caplog.text


@pytest.mark.parametrize("authorization", ["bearer right", "BEARER right", basic("pacifica", "right")])
def test_credentials(endpoint: Endpoint, authorization: str) -> None:
    """The token counts as bearer token and as password; the scheme's name may be written in any case, as HTTP says."""
    assert post(endpoint, b'{"a": 1}', Authorization=authorization).status == 202


def test_header_fields_of_any_framework(endpoint: Endpoint) -> None:
    """Header fields may be a mapping or pairs, with names in any case."""
    fields = {"AUTHORIZATION": f"Bearer {TOKEN}", "content-length": "2"}
    for headers in (fields, fields.items(), list(fields.items())):
        assert endpoint.answer(HTTPRequest("POST", "/receive", headers, io.BytesIO(b"{}").read)).status == 202


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("body", "lenient", "strict", "detail"),
    [
        (b"", 400, 400, "empty"),
        (b"{", 400, 400, "not JSON"),
        (b"\xff", 400, 400, "not JSON"),
        (b" " * LIMIT, 400, 400, "empty"),
        (b"[]", 202, 400, "a JSON array"),
        (b"null", 202, 400, "a JSON null"),
        (b"{}", 202, 400, "lacks cloudEventsVersion"),
    ],
)
@pytest.mark.parametrize("is_strict", [False, True])
def test_what_is_no_notification(
    tmp_path: Path, body: bytes, lenient: int, strict: int, detail: str, is_strict: bool
) -> None:
    """Whatever came from the producer is kept; whether it is told what is wrong with it is the policy's choice."""
    runner = JobRunner(__file__, tmp_path / "state", name="n", services=Services(), strict=is_strict, warm=False)
    with runner:
        response = post(
            Endpoint(runner.accept_all, TOKEN, LIMIT, is_strict), body, **{"Content-Type": "application/json"}
        )
        assert response.status == (strict if is_strict else lenient)
        if response.status == 400:
            assert response.headers["Content-Type"] == "application/problem+json"
            assert detail in said(response)["detail"]
        assert kept(runner) == 1


def deliver(endpoint: Endpoint, body: bytes, piece: int, **headers: str) -> HTTPResponse:
    """Post a body that comes in pieces."""
    stream = io.BytesIO(body)
    return endpoint.answer(HTTPRequest("POST", "/receive", AUTHORIZED | headers, lambda _: stream.read(piece)))


def test_too_large(endpoint: Endpoint, runner: JobRunner) -> None:
    """What is larger than the limit is refused, whether its length is announced or found out, and nothing is kept."""
    told = endpoint.answer(HTTPRequest("POST", "/receive", AUTHORIZED | {"Content-Length": str(LIMIT + 1)}, never_read))
    assert (told.status, said(told)["detail"]) == (413, f"the body has {LIMIT + 1} bytes, the limit is {LIMIT}")
    found_out = deliver(endpoint, b" " * (LIMIT + 1), 3000, **{"Transfer-Encoding": "chunked"})
    assert (found_out.status, said(found_out)["detail"]) == (413, f"the body has more than {LIMIT} bytes")
    assert kept(runner) == 0


def test_largest(endpoint: Endpoint) -> None:
    """What is exactly as large as the limit is taken, in one piece or in several."""
    body = b'{"a": "' + b"x" * (LIMIT - 9) + b'"}'
    assert post(endpoint, body).status == 202
    assert deliver(endpoint, body, 3000, **{"Content-Length": str(LIMIT)}).status == 202
    assert deliver(endpoint, body, 3000, **{"Transfer-Encoding": "chunked"}).status == 202


def test_body_that_ends_early(endpoint: Endpoint, runner: JobRunner) -> None:
    """Part of a notification is not taken for one, whether the body just ends or its reader says that it is broken."""
    response = deliver(endpoint, b"{}", 1, **{"Content-Length": "3"})
    assert (response.status, said(response)["detail"]) == (400, "the body ended after 2 of 3 bytes")

    def fail(size: int) -> bytes:
        raise HTTPError(HTTPStatus.REQUEST_TIMEOUT, "the body does not come")

    assert endpoint.answer(HTTPRequest("POST", "/receive", AUTHORIZED | {"Content-Length": "3"}, fail)).status == 408
    assert kept(runner) == 0


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (OSError("Invalid chunk header"), 400, "the body cannot be read: Invalid chunk header; send it again"),
        (
            ConnectionResetError(104, "Connection reset"),
            400,
            "the body cannot be read: Connection reset; send it again",
        ),
        (EOFError(), 400, "the body cannot be read: EOFError; send it again"),
        (ValueError("bad size"), 400, "the body cannot be read: bad size; send it again"),
        (TimeoutError(), 408, "the body did not arrive in time"),
    ],
    ids=repr,
)
def test_body_that_cannot_be_read(
    endpoint: Endpoint, runner: JobRunner, error: Exception, status: int, detail: str
) -> None:
    """A body whose reader fails, at once or after a piece, is refused with the reason, and nothing is kept."""
    for pieces in ([], [b'{"a": 1}']):
        stream = iter(pieces)

        def read(_: int, stream: Iterator[bytes] = stream) -> bytes:
            for piece in stream:
                return piece
            raise error

        response = endpoint.answer(HTTPRequest("POST", "/receive", AUTHORIZED | {"Transfer-Encoding": "chunked"}, read))
        assert (response.status, said(response)["detail"]) == (status, detail)
    assert kept(runner) == 0


def test_other_errors_of_the_reader_pass(endpoint: Endpoint) -> None:
    """An error that says nothing of the body, such as a framework's own refusal, reaches the framework."""

    def fail(size: int) -> bytes:
        raise RuntimeError("413")

    with pytest.raises(RuntimeError, match="413"):
        endpoint.answer(HTTPRequest("POST", "/receive", AUTHORIZED | {"Content-Length": "3"}, fail))


@pytest.mark.parametrize(
    ("fields", "status", "detail"),
    [
        ([("Content-Length", "x")], 400, "Content-Length is not a number"),
        ([("Content-Length", "-1")], 400, "Content-Length is not a number"),
        ([("Content-Length", "2"), ("Content-Length", "3")], 400, "the request has more than one Content-Length"),
        ([("Content-Length", "2,2")], 400, "the request has more than one Content-Length"),
        (
            [("Content-Length", "2"), ("Transfer-Encoding", "chunked")],
            400,
            "the request has both Content-Length and Transfer-Encoding",
        ),
        ([("Content-Length", "9" * 5000)], 413, "Content-Length is too large"),
        ([("Transfer-Encoding", "gzip")], 501, "the only supported Transfer-Encoding is chunked"),
    ],
)
def test_length_that_is_ambiguous(endpoint: Endpoint, fields: list[tuple[str, str]], status: int, detail: str) -> None:
    """RFC 9112, 6.3: where the body ends must be certain before it is read."""
    response = endpoint.answer(HTTPRequest("POST", "/receive", [*AUTHORIZED.items(), *fields], never_read))
    assert (response.status, said(response)["detail"]) == (status, detail)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://h/healthz", 200),
        ("HTTPS://h:8080/healthz?a=http://b/c", 200),
        ("/%68ealthz", 200),
        ("http://h/%68ealth%7A", 200),
        ("/healthz%3Fa", 404),
        ("/%2568ealthz", 404),
        ("http://h", 404),
        ("http://h?/healthz", 404),
        ("http:/healthz", 404),
        ("ftp://h/healthz", 404),
        ("//h/healthz", 404),
        ("*", 404),
    ],
)
def test_targets(endpoint: Endpoint, target: str, status: int) -> None:
    """RFC 9112, 3.2.2 and RFC 3986, 6.2.2: a resource is found by its absolute URI and in percent-encoding, too."""
    assert ask(endpoint, "GET", target).status == status


@pytest.mark.parametrize(
    ("media_type", "status"),
    [
        ("application/json", 202),
        ("Application/JSON; charset=utf-8", 202),
        ("application/cloudevents+json", 202),
        ("text/plain", 415),
        (None, 415),
    ],
)
def test_media_types(runner: JobRunner, media_type: str | None, status: int) -> None:
    """Only a strict endpoint looks at what the body says that it is."""
    headers = {"Content-Type": media_type} if media_type else {}
    for strict in (True, False):
        response = post(Endpoint(runner.accept_all, TOKEN, LIMIT, strict), b"{}", **headers)
        assert response.status == (status if strict else 202)


def test_body_without_end_is_refused(endpoint: Endpoint) -> None:
    """A notification must say how long it is."""
    assert endpoint.answer(HTTPRequest("POST", "/receive", AUTHORIZED, never_read)).status == 411


def test_health(endpoint: Endpoint) -> None:
    """It is healthy from the beginning, and ready when the consumer is, unless something is wrong with that."""
    health = ask(endpoint, "GET", "/healthz")
    assert (health.status, health.body, health.headers) == (200, b"ok\n", {"Content-Type": "text/plain"})
    assert ask(endpoint, "GET", "/readyz").status == 503
    endpoint.ready = True
    assert ask(endpoint, "GET", "/readyz").status == 200
    endpoint.trouble = lambda: "the producer has switched it off"
    response = ask(endpoint, "GET", "/readyz")
    assert (response.status, said(response)["detail"]) == (503, "the producer has switched it off")
    assert ask(endpoint, "GET", "/healthz").status == 200


def test_metrics(endpoint: Endpoint) -> None:
    """The metrics are what they are made of at the time, in Prometheus' media type."""
    endpoint.metrics = lambda: "jobs 1\n"
    response = ask(endpoint, "GET", "/metrics")
    assert (response.body, response.headers["Content-Type"]) == (b"jobs 1\n", METRICS_TYPE)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/receive", 405, "POST, OPTIONS"),
        ("PUT", "/receive", 405, "POST, OPTIONS"),
        ("BREW", "/receive", 405, "POST, OPTIONS"),
        ("DELETE", "/healthz", 405, "GET, HEAD, OPTIONS"),
        ("POST", "/healthz", 405, "GET, HEAD, OPTIONS"),
        ("OPTIONS", "/receive", 204, "POST, OPTIONS"),
        ("OPTIONS", "/metrics", 204, "GET, HEAD, OPTIONS"),
        ("GET", "/", 404, None),
        ("POST", "/receive/", 404, None),
        ("OPTIONS", "/elsewhere", 404, None),
    ],
)
def test_other_resources(endpoint: Endpoint, method: str, path: str, status: int, allow: str | None) -> None:
    """What does not exist is 404, what exists but not so is 405, and OPTIONS tells what can be done."""
    response = ask(endpoint, method, path, headers=AUTHORIZED)
    assert (response.status, response.headers.get("Allow")) == (status, allow)
    assert response.headers.get("Content-Type") == (None if status == 204 else "application/problem+json")


def test_deliveries_are_committed_together(endpoint: Endpoint) -> None:
    """What several requests brought is handed over at once, and each request is told of its own notifications."""
    calls: list[tuple[list[bytes], list[str]]] = []

    def accept(events: Sequence[bytes], traceparents: Sequence[str]) -> list[Receipt]:
        calls.append((list(events), list(traceparents)))
        return [Receipt(notification_id=number, verdict=Verdict.UNMATCHED) for number in range(len(events))]

    endpoint.accept = accept
    batch = {"Content-Type": "application/cloudevents-batch+json", "Transfer-Encoding": "chunked"}
    requests = [
        HTTPRequest("POST", "/receive", AUTHORIZED | headers, io.BytesIO(body).read)
        for body, headers in (
            (b"[1]", {"Content-Length": "3"}),
            (b'[{"a": 1}, {"b": 2}]', batch | {"traceparent": "x"}),
            (b"[]", batch),
        )
    ]
    deliveries = [received for each in requests if isinstance(received := endpoint.receive(each), Delivery)]
    assert calls == []
    assert [said(response) for response in endpoint.commit(deliveries)] == [
        {"notification": 0, "verdict": "unmatched", "job": None},
        {"notifications": [{"notification": number, "verdict": "unmatched", "job": None} for number in (1, 2)]},
        {"notifications": []},
    ]
    assert calls == [([b"[1]", b'{"a": 1}', b'{"b": 2}'], ["", "x", "x"])]


def test_disk_that_takes_no_more(caplog: pytest.LogCaptureFixture) -> None:
    """If the notification cannot be committed the answer is no 2xx, and tells strangers nothing of the disk."""

    def accept(_: Sequence[bytes], __: Sequence[str]) -> Any:
        raise StateError("the ledger /secret/place cannot be used: disk full")

    response = post(Endpoint(accept=accept, token=TOKEN), b"{}")
    assert response.status == 500
    assert b"/secret" not in response.body
    assert "/secret/place" in caplog.text


def test_token_is_not_shown(endpoint: Endpoint) -> None:
    """Printing the endpoint does not print its token."""
    assert TOKEN not in repr(endpoint)


def test_verdict_words() -> None:
    """The words in the answers are those of the ledger."""
    assert {verdict.value for verdict in Verdict} == {
        "matched",
        "unmatched",
        "own",
        "expired",
        "duplicate",
        "undecidable",
        "malformed",
        "unreadable",
    }
