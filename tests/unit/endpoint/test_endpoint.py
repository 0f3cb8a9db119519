"""The endpoint lets nobody in without the token, and answers 2xx only for what is on the disk."""

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica_notifications_consumer import Filter, JobRunner
from pacifica_notifications_consumer.endpoint.endpoint import Endpoint
from pacifica_notifications_consumer.errors import EndpointError, StateError
from pacifica_notifications_consumer.jobs.job import Verdict
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_runner.endpoint import listening
from tests.support.http_tools import raw, replies
from tests.support.paths import NOTIFICATIONS as FOLDER

TOKEN = "right"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
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
    ) as runner:
        yield runner


@pytest.fixture
def endpoint(runner: JobRunner) -> Endpoint:
    return Endpoint(accept=runner.accept_all, token=TOKEN, max_body=LIMIT)


@pytest.fixture
def url(endpoint: Endpoint) -> Iterator[str]:
    with listening(endpoint, "127.0.0.1", 0) as server:
        yield server.url


def post(url: str, body: bytes, **headers: str) -> requests.Response:
    return requests.post(f"{url}/receive", data=body, headers={**AUTHORIZED, **headers}, timeout=10)


def kept(runner: JobRunner) -> int:
    return sum(runner.count_verdicts().values())


@pytest.mark.parametrize("path", NOTIFICATIONS, ids=lambda path: path.stem)
def test_real_notifications(url: str, runner: JobRunner, path: Path) -> None:
    """Every real notification is taken, and runs a job only if it matches; a second delivery runs nothing."""
    matches = b"text/plain" in path.read_bytes()
    first, second = (post(url, path.read_bytes(), Content_Type="application/json") for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["verdict"] == ("matched" if matches else "unmatched")
    assert (first.json()["job"] is not None, second.json()["verdict"]) == (matches, "duplicate")
    if matches:
        noted = runner.directory(runner.wait(1, 20).id).source / "notification.json"
        assert noted.read_bytes() == path.read_bytes()


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


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
        "Basic pacifica:right",
        basic("pacifica", "wrong"),
        basic("other", "right"),
        f"Bearer {base64.b64encode(b'pacifica:right').decode()}",
    ],
)
def test_strangers(url: str, runner: JobRunner, authorization: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """Without the right token the answer is 401, nothing is stored, and what was tried is not logged."""
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    answer = requests.post(f"{url}/receive", data=NOTIFICATIONS[0].read_bytes(), headers=headers, timeout=10)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="pacifica", Basic realm="pacifica"'
    assert kept(runner) == 0
    assert "turned away 127.0.0.1 from the endpoint: its credentials are missing or wrong" in caplog.text
    assert not authorization or authorization.split()[-1] not in caplog.text


def test_strangers_do_not_fill_the_log(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    """Many who are turned away at the same time make one line, and the next one says how many there were."""
    for _ in range(50):
        endpoint.strangers.note("192.0.2.1")
    assert len(caplog.records) == 1
    endpoint.strangers._told_at -= 1.0
    endpoint.strangers.note("192.0.2.2")
    assert (
        "turned away 192.0.2.2 from the endpoint: its credentials are missing or wrong (49 more since the last line)"
        in caplog.text
    )


@pytest.mark.parametrize("authorization", ["bearer right", "BEARER right", basic("pacifica", "right")])
def test_credentials(url: str, authorization: str) -> None:
    """The token counts as bearer token and as password; the scheme's name may be written in any case, as HTTP says."""
    assert post(url, b'{"a": 1}', Authorization=authorization).status_code == 202


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
    runner = JobRunner(tmp_path / "x", tmp_path / "state", name="n", services=Services(), strict=is_strict, workers=0)
    with runner, listening(Endpoint(runner.accept_all, TOKEN, LIMIT, is_strict), "127.0.0.1", 0) as server:
        answer = post(server.url, body, **{"Content-Type": "application/json"})
        assert answer.status_code == (strict if is_strict else lenient)
        if answer.status_code == 400:
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert detail in answer.json()["detail"]
        assert kept(runner) == 1


def test_too_large(url: str, runner: JobRunner) -> None:
    """What is larger than the limit is refused, whether it says so or is found out, and nothing is kept."""
    answer = post(url, b" " * (LIMIT + 1))
    assert (answer.status_code, answer.json()["detail"]) == (
        413,
        f"the body has {LIMIT + 1} bytes, the limit is {LIMIT}",
    )
    chunks = requests.post(f"{url}/receive", data=iter([b"x" * 9000] * 2), headers=AUTHORIZED, timeout=10)
    assert (chunks.status_code, chunks.json()["detail"]) == (413, f"the body has more than {LIMIT} bytes")
    assert kept(runner) == 0


def test_largest(url: str) -> None:
    """What is exactly as large as the limit is taken, in one piece or in chunks."""
    body = b'{"a": "' + b"x" * (LIMIT - 9) + b'"}'
    assert post(url, body).status_code == 202
    chunks = requests.post(f"{url}/receive", data=iter([body[:9000], body[9000:]]), headers=AUTHORIZED, timeout=10)
    assert chunks.status_code == 202


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
    headers = AUTHORIZED | ({"Content-Type": media_type} if media_type else {})
    for strict in (True, False):
        with listening(Endpoint(runner.accept_all, TOKEN, LIMIT, strict), "127.0.0.1", 0) as server:
            answer = requests.post(f"{server.url}/receive", data=b"{}", headers=headers, timeout=10)
            assert answer.status_code == (status if strict else 202)


def test_body_without_end_is_refused(url: str) -> None:
    """A notification must say how long it is."""
    (answer,) = replies(raw(url, b"POST /receive HTTP/1.1\r\nAuthorization: Bearer right\r\n\r\n{}"))
    assert answer.startswith(b"HTTP/1.1 411 ")


def test_nothing_is_read_of_strangers(url: str) -> None:
    """Who has no token, or wants something else, is not asked for a body that waits to be asked for."""
    head = b"HTTP/1.1\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
    for line, status in ((b"POST /receive ", b"401"), (b"POST /elsewhere ", b"404"), (b"PUT /receive ", b"405")):
        answer = raw(url, line + head)
        assert answer.split()[1] == status
        assert b"100 Continue" not in answer


def test_health(url: str, endpoint: Endpoint) -> None:
    """It is healthy from the beginning, and ready when the consumer is; strangers learn no versions."""
    health = requests.get(f"{url}/healthz", timeout=10)
    assert (health.status_code, health.text) == (200, "ok\n")
    assert health.headers["Server"] == "pacifica-notifications-consumer"
    assert requests.get(f"{url}/readyz", timeout=10).status_code == 503
    endpoint.ready = True
    assert requests.get(f"{url}/readyz", timeout=10).status_code == 200
    head = requests.head(f"{url}/readyz", timeout=10)
    assert (head.status_code, head.text) == (200, "")
    endpoint.trouble = lambda: "the producer has switched it off"
    answer = requests.get(f"{url}/readyz", timeout=10)
    assert (answer.status_code, answer.json()["detail"]) == (503, "the producer has switched it off")


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/receive", 405, "POST, OPTIONS"),
        ("PUT", "/receive", 405, "POST, OPTIONS"),
        ("DELETE", "/healthz", 405, "GET, HEAD, OPTIONS"),
        ("POST", "/healthz", 405, "GET, HEAD, OPTIONS"),
        ("OPTIONS", "/receive", 204, "POST, OPTIONS"),
        ("GET", "/", 404, None),
        ("POST", "/receive/", 404, None),
        ("OPTIONS", "/elsewhere", 404, None),
        ("BREW", "/receive", 501, None),
    ],
)
def test_other_resources(url: str, method: str, path: str, status: int, allow: str | None) -> None:
    """What does not exist is 404, what exists but not so is 405, and who asks is told what can be done."""
    answer = requests.request(method, url + path, headers=AUTHORIZED, timeout=10)
    assert (answer.status_code, answer.headers.get("Allow")) == (status, allow)
    assert answer.headers.get("Content-Type") == (None if status == 204 else "application/problem+json")


def test_disk_that_takes_no_more() -> None:
    """If the notification cannot be committed the answer is no 2xx, and tells strangers nothing of the disk."""

    def accept(_: Sequence[bytes], __: Sequence[str]) -> Any:
        raise StateError("the ledger /secret/place cannot be used: disk full")

    with listening(Endpoint(accept=accept, token=TOKEN, max_body=LIMIT), "127.0.0.1", 0) as server:
        answer = post(server.url, b"{}")
    assert answer.status_code == 500
    assert "/secret" not in answer.text


def test_token_is_not_shown(endpoint: Endpoint) -> None:
    """Printing the endpoint does not print its token."""
    assert TOKEN not in repr(endpoint)


def test_port_in_use(endpoint: Endpoint) -> None:
    """A port that another program has is an error that names it, and so is an address that is not ours."""
    with listening(endpoint, "127.0.0.1", 0) as server:
        port = server.server_port
        expected = f"127.0.0.1 port {port}: Address already in use"
        with pytest.raises(EndpointError, match=expected), listening(endpoint, "127.0.0.1", port):
            pass
    with (
        pytest.raises(EndpointError, match="choose an address that this machine has"),
        listening(endpoint, "203.0.113.1", 0),
    ):
        pass
    with pytest.raises(EndpointError, match="99999 is no port"), listening(endpoint, "127.0.0.1", 99999):
        pass


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
