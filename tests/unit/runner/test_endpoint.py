"""The endpoint keeps its rules over a real connection."""

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest
import requests

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.endpoint import Endpoint, Rate, Signatures
from pacifica_notifications_consumer.errors import ConfigurationError, EndpointError
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_runner.endpoint import listening
from tests.support.endpoint_tools import AUTHORIZED, SECRETS, TOKEN, signature
from tests.support.http_tools import PATIENT, connect, idle, raw, replies, rest_of, statuses
from tests.support.machine.waiting import DEADLINE, wait_until
from tests.support.paths import NOTIFICATIONS

LIMIT = 10_000
REAL = NOTIFICATIONS / "ingest-nested-files.json"


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[JobRunner]:
    (tmp_path / "__main__.py").touch()
    entry_point, state = tmp_path / "__main__.py", tmp_path / "state"
    with JobRunner(entry_point, state, name="mine", services=Services(), warm=False) as runner:
        yield runner


@pytest.fixture
def endpoint(runner: JobRunner) -> Endpoint:
    return Endpoint(accept=runner.accept_all, token=TOKEN, max_body=LIMIT)


@pytest.fixture
def url(endpoint: Endpoint) -> Iterator[str]:
    with listening(endpoint, "127.0.0.1", 0) as server:
        yield server.url


def post(url: str, body: bytes, **headers: str) -> requests.Response:
    return requests.post(f"{url}/receive", data=body, headers={**AUTHORIZED, **headers}, timeout=DEADLINE)


def kept(runner: JobRunner) -> int:
    return sum(runner.ledger.count_verdicts().values())


def test_notification(url: str, runner: JobRunner) -> None:
    """A notification reaches its job byte for byte, and a duplicate comes to nothing."""
    first, second = (post(url, REAL.read_bytes(), Content_Type="application/json") for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert (first.json()["verdict"], second.json()["verdict"]) == ("matched", "duplicate")
    assert first.headers["Content-Type"] == "application/json"
    assert (
        runner.directory(runner.wait(1, DEADLINE).id).source / "notification.json"
    ).read_bytes() == REAL.read_bytes()


@pytest.mark.parametrize("authorization", [None, "Bearer wr0ng", "Bearer \xe9"])
def test_strangers(url: str, runner: JobRunner, authorization: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """Without the right token the answer is 401, nothing is stored, and the log names the address."""
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    answer = requests.post(f"{url}/receive", data=REAL.read_bytes(), headers=headers, timeout=DEADLINE)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="pacifica", Basic realm="pacifica"'
    assert kept(runner) == 0
    assert "refused 127.0.0.1 to the endpoint: the credentials are missing or wrong" in caplog.text


@pytest.mark.parametrize(
    "field", [b"Content-Length: 60000", b"Content-Length: 9000000", b"Transfer-Encoding: chunked"], ids=repr
)
@pytest.mark.parametrize("more", [b"", b"Expect: 100-continue\r\n"], ids=["", "expecting"])
def test_no_body_of_a_stranger_is_awaited(endpoint: Endpoint, field: bytes, more: bytes) -> None:
    """Without the token, the response comes before the body, which takes neither memory nor a thread."""
    with listening(endpoint, "127.0.0.1", 0) as server, connect(server.url) as client:
        client.sendall(b"POST /receive HTTP/1.1\r\nHost: h\r\n" + more + field + b"\r\n\r\n")
        assert statuses(rest_of(client)) == [401]
        assert server._threads == []


def test_too_large(url: str, runner: JobRunner) -> None:
    """What is larger than the limit is refused, whether its length is announced or found out, and nothing is kept."""
    answer = post(url, b" " * (LIMIT + 1))
    assert (answer.status_code, answer.json()["detail"]) == (
        413,
        f"the body has {LIMIT + 1} bytes, the limit is {LIMIT}",
    )
    chunks = requests.post(f"{url}/receive", data=iter([b"x" * 9000] * 2), headers=AUTHORIZED, timeout=DEADLINE)
    assert (chunks.status_code, chunks.json()["detail"]) == (413, f"the body has more than {LIMIT} bytes")
    assert kept(runner) == 0


def test_largest(url: str) -> None:
    """What is exactly as large as the limit is taken, in one piece or in chunks."""
    body = b'{"a": "' + b"x" * (LIMIT - 9) + b'"}'
    assert post(url, body).status_code == 202
    chunks = requests.post(
        f"{url}/receive", data=iter([body[:9000], body[9000:]]), headers=AUTHORIZED, timeout=DEADLINE
    )
    assert chunks.status_code == 202


def test_batch(url: str, runner: JobRunner) -> None:
    """All notifications of a batch are taken by one request."""
    events = [{"specversion": "1.0", "type": "t", "source": "/s", "id": str(number)} for number in range(3)]
    answer = post(url, json.dumps(events).encode(), **{"Content-Type": "application/cloudevents-batch+json"})
    assert (answer.status_code, len(answer.json()["notifications"]), kept(runner)) == (202, 3, 3)


def test_header_fields_of_webhooks(endpoint: Endpoint, url: str) -> None:
    """What a strict endpoint tells senders in header fields reaches them."""
    endpoint.strict, endpoint.rate = True, Rate(1)
    asked = requests.options(f"{url}/receive", headers={"WebHook-Request-Origin": "a.example"}, timeout=DEADLINE)
    assert (asked.headers["WebHook-Allowed-Origin"], asked.headers["WebHook-Allowed-Rate"]) == ("*", "1")
    headers = {"Content-Type": "application/cloudevents+json"}
    answers = [
        requests.post(f"{url}/receive?access_token={TOKEN}", data=b"{}", headers=headers, timeout=DEADLINE)
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [202, 429]
    assert answers[0].headers["Cache-Control"] == "private"
    assert 1 <= int(answers[1].headers["Retry-After"]) <= 60


def test_body_without_end_is_refused(url: str) -> None:
    """A notification must say how long it is; what follows is not taken for another request."""
    sent = b"POST /receive HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer right\r\n\r\n"
    sent += b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
    (answer,) = replies(raw(url, sent))
    assert answer.startswith(b"HTTP/1.1 411 ")


def test_connection_is_kept_for_others(url: str) -> None:
    """Requests that follow each other over one connection are answered in their order."""
    head = b"POST /receive HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer right\r\nContent-Length: 2\r\n\r\n"
    asked = (
        b"GET /elsewhere HTTP/1.1\r\nHost: h\r\n\r\n",
        head + b"{}",
        b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n",
        head + b"{!",
    )
    assert statuses(raw(url, b"".join(asked))) == [404, 202, 200, 400]


def test_nothing_is_read_of_strangers(url: str) -> None:
    """A client without the token, or with another request, is not asked to go on and send its body."""
    head = b"HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
    for line, status in ((b"POST /receive ", b"401"), (b"POST /elsewhere ", b"404"), (b"PUT /receive ", b"405")):
        answer = raw(url, line + head)
        assert answer.split()[1] == status
        assert b"100 Continue" not in answer


@pytest.mark.parametrize(("threads", "connections", "claims"), [(1, 64, 1), (4, 64, 2), (16, 4, 2)])
def test_claimed_signatures_leave_threads(endpoint: Endpoint, threads: int, connections: int, claims: int) -> None:
    """Who only claims a signature takes half of the threads, and of the connections, at most.

    With the token, one is answered meanwhile.
    """
    endpoint.signatures = Signatures((base64.b64decode(SECRETS[0]),))
    body = b"4\r\ntrue\r\n0\r\n\r\n"
    fields = "".join(f"{name}: {value}\r\n" for name, value in signature(SECRETS[0], b"true").items())
    head = b"POST /receive HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
    claim, certain = head + fields.encode() + b"\r\n", head + f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()
    limits = attrs.evolve(PATIENT, threads=threads, connections=connections)
    with listening(endpoint, "127.0.0.1", 0, limits=limits) as server, ExitStack() as stack:
        claimed = idle(stack, server, claims, claim)
        wait_until(lambda: server._claims == claims, "the claims have their threads")
        refused = raw(server.url, claim + body)
        assert statuses(refused) == [503]
        assert b"\r\nRetry-After: 10\r\n" in refused
        assert statuses(raw(server.url, certain + body)) == [202]
        claimed[0].sendall(body)
        assert statuses(rest_of(claimed[0])) == [400]  # the signature is right, but `true` has no source
        wait_until(lambda: server._claims == claims - 1, "a thread is free")
        assert statuses(raw(server.url, claim + body)) == [400]


def test_health(url: str, endpoint: Endpoint) -> None:
    """Supervisors get their answers by GET and HEAD; strangers learn no versions."""
    health = requests.get(f"{url}/healthz", timeout=DEADLINE)
    assert (health.status_code, health.text) == (200, "ok\n")
    assert health.headers["Server"] == "pacifica-notifications-consumer"
    assert requests.get(f"{url}/readyz", timeout=DEADLINE).status_code == 503
    endpoint.ready = True
    head = requests.head(f"{url}/readyz", timeout=DEADLINE)
    assert (head.status_code, head.text) == (200, "")


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("DELETE", "/healthz", 405, "GET, HEAD, OPTIONS"),
        ("OPTIONS", "/receive", 204, "POST, OPTIONS"),
        ("PATCH", "/receive", 405, "POST, OPTIONS"),
        ("GET", "/", 404, None),
        ("BREW", "/receive", 405, "POST, OPTIONS"),
        ("TRACE", "/healthz", 405, "GET, HEAD, OPTIONS"),
        ("BREW", "/", 404, None),
    ],
)
def test_other_resources(url: str, method: str, path: str, status: int, allow: str | None) -> None:
    """What does not exist is 404, what exists but not so is 405, and OPTIONS tells what can be done."""
    answer = requests.request(method, url + path, headers=AUTHORIZED, timeout=DEADLINE)
    assert (answer.status_code, answer.headers.get("Allow")) == (status, allow)
    assert answer.headers.get("Content-Type") == (None if status == 204 else "application/problem+json")


def test_port_in_use(endpoint: Endpoint) -> None:
    """A port that another program has is an error that names it, and so is an address that is not ours."""
    with listening(endpoint, "127.0.0.1", 0) as server:
        port = server.server_port
        expected = f"127.0.0.1 port {port}: Address already in use"
        with pytest.raises(EndpointError, match=expected), listening(endpoint, "127.0.0.1", port):
            pass
    with (
        pytest.raises(EndpointError, match="set `address` to an address of this machine"),
        listening(endpoint, "203.0.113.1", 0),
    ):
        pass
    with (
        pytest.raises(ConfigurationError, match="`port` cannot be 99999; it must be a whole number from 0 to"),
        listening(endpoint, "127.0.0.1", 99999),
    ):
        pass
