"""The endpoint lets nobody in without the token, and answers 2xx only for what is on the disk."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica_notifications_consumer import Filter, JobRunner
from pacifica_notifications_consumer.errors import EndpointError, StateError
from pacifica_notifications_consumer.job import Verdict
from pacifica_notifications_consumer.services import Services
from pacifica_notifications_consumer.serving import Handler, serve
from pacifica_notifications_runner.endpoint import Endpoint, listening

TOKEN = "right"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
LIMIT = 10_000
NOTIFICATIONS = sorted((Path(__file__).parent.parent / "data" / "notifications").glob("*.json"))


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
    return Endpoint(accept=runner.accept, token=TOKEN, max_body=LIMIT)


@pytest.fixture
def url(endpoint: Endpoint) -> Iterator[str]:
    with listening(endpoint, "127.0.0.1", 0) as server:
        yield server.url


def post(url: str, body: bytes, **headers: str) -> requests.Response:
    return requests.post(f"{url}/receive", data=body, headers={**AUTHORIZED, **headers}, timeout=10)


@pytest.mark.parametrize("path", NOTIFICATIONS, ids=lambda path: path.stem)
def test_real_notifications(url: str, runner: JobRunner, path: Path) -> None:
    """Every real notification is taken, and runs a job only if it matches; a second delivery runs nothing."""
    matches = b"text/plain" in path.read_bytes()
    first, second = (post(url, path.read_bytes(), Content_Type="application/json") for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["verdict"] == ("matched" if matches else "unmatched")
    assert (first.json()["job"] is not None, second.json()["verdict"]) == (matches, "duplicate")
    if matches:
        kept = runner.directory(runner.wait(1, 20).id).source / "notification.json"
        assert kept.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong", "Bearer rightt", "Basic right", "right", "Bearer \xe9", "Bearer"],
)
def test_strangers(url: str, runner: JobRunner, authorization: str | None) -> None:
    """Without the right token the answer is 401, and nothing is stored."""
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    answer = requests.post(f"{url}/receive", data=NOTIFICATIONS[0].read_bytes(), headers=headers, timeout=10)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert sum(runner.count_verdicts().values()) == 0


def test_scheme_is_not_case_sensitive(url: str) -> None:
    """The name of the scheme may be written in any case, as HTTP says."""
    assert post(url, b'{"a": 1}', Authorization=f"bearer {TOKEN}").status_code == 202


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"", 400, "empty"),
        (b"{", 400, "not JSON"),
        (b"[]", 400, "a JSON array"),
        (b"\xff", 400, "not JSON"),
        (b" " * LIMIT, 400, "empty"),
        (b" " * (LIMIT + 1), 413, f"the body has {LIMIT + 1} bytes, the limit is {LIMIT}"),
    ],
)
def test_unusable_bodies(url: str, runner: JobRunner, body: bytes, status: int, detail: str) -> None:
    """What is no notification is refused in words, and nothing is stored."""
    answer = post(url, body)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert detail in answer.json()["detail"]
    assert sum(runner.count_verdicts().values()) == 0


def raw(url: str, request: bytes) -> bytes:
    """Send bytes and return the answer up to where the server hangs up."""
    host, port = re.findall(r"//(.*):(\d+)", url)[0]
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"", b"411"),
        (b"Content-Length: x\r\n", b"400"),
        (b"Content-Length: -1\r\n", b"400"),
        (b"Content-Length: " + b"9" * 5000 + b"\r\n", b"413"),
        (b"Content-Length: 10\r\n", b"400"),
        (b"Transfer-Encoding: chunked\r\n", b"411"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", b"411"),
        (b"Content-Length: 2\r\nContent-Length: 3\r\n", b"400"),
    ],
)
def test_lengths(url: str, runner: JobRunner, headers: bytes, status: bytes) -> None:
    """A body without a usable length, or shorter than announced, is refused."""
    request = b"POST /receive HTTP/1.1\r\nAuthorization: Bearer right\r\n" + headers + b"\r\n{}"
    assert raw(url, request).split()[1] == status
    assert sum(runner.count_verdicts().values()) == 0


@pytest.mark.parametrize("request_line", [b"NONSENSE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\r\n\r\n"])
def test_nonsense(url: str, request_line: bytes) -> None:
    """What is no HTTP request is refused, and the endpoint lives on."""
    assert b"html" not in raw(url, request_line).lower()
    assert requests.get(f"{url}/healthz", timeout=10).status_code == 200


@pytest.mark.parametrize("target", [b"http://[", b"//[", b"/%zz", b"*"])
def test_odd_targets(url: str, target: bytes) -> None:
    """Whatever a request asks for, it is answered."""
    assert raw(url, b"GET " + target + b" HTTP/1.1\r\n\r\n").split()[1] == b"404"


def test_body_of_a_get_is_no_request(url: str) -> None:
    """What follows a GET as its body is not taken for a request of its own."""
    inner = b"GET /healthz HTTP/1.1\r\n\r\n"
    request = b"GET /healthz HTTP/1.1\r\nContent-Length: " + str(len(inner)).encode() + b"\r\n\r\n" + inner
    assert raw(url, request).count(b"HTTP/1.1 200") == 1


def test_connection_is_kept(url: str) -> None:
    """Several notifications can come over one connection."""
    with requests.Session() as session:
        for number in range(3):
            answer = session.post(f"{url}/receive", json={"eventID": f"{number}"}, headers=AUTHORIZED, timeout=10)
            assert answer.status_code == 202
            assert "Connection" not in answer.headers


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


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/receive", 405, "POST"),
        ("PUT", "/receive", 405, "POST"),
        ("DELETE", "/healthz", 405, "GET, HEAD"),
        ("POST", "/healthz", 405, "GET, HEAD"),
        ("GET", "/", 404, None),
        ("POST", "/receive/", 404, None),
        ("OPTIONS", "/elsewhere", 404, None),
        ("BREW", "/receive", 501, None),
    ],
)
def test_other_resources(url: str, method: str, path: str, status: int, allow: str | None) -> None:
    """What does not exist is 404, what exists but not so is 405."""
    answer = requests.request(method, url + path, headers=AUTHORIZED, timeout=10)
    assert (answer.status_code, answer.headers.get("Allow")) == (status, allow)
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_disk_that_takes_no_more() -> None:
    """If the notification cannot be committed the answer is no 2xx, and tells strangers nothing of the disk."""

    def accept(_: bytes) -> Any:
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


def test_idle_connections_do_not_outlive_the_server(endpoint: Endpoint) -> None:
    """A connection that waits for its next request is closed when the server is."""
    with listening(endpoint, "127.0.0.1", 0) as server:
        connection = socket.create_connection(("127.0.0.1", server.server_port), timeout=10)
        connection.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert b"200" in connection.recv(65536)
    with connection:
        assert connection.recv(65536) == b""


def test_answer_that_is_under_way_is_finished() -> None:
    """A request that was taken before the server closes gets its answer."""

    class Slow(Handler):
        def do_POST(self) -> None:
            entered.sendall(b"x")
            may_go_on.recv(1)
            self.reply_json(200, {"done": True})

    entered, noticed = socket.socketpair()
    may_go_on, let_it = socket.socketpair()
    with entered, noticed, may_go_on, let_it:
        with serve(Slow, "127.0.0.1", 0) as server:
            connection = socket.create_connection(("127.0.0.1", server.server_port), timeout=10)
            connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
            noticed.recv(1)
            server.shutdown()
            let_it.sendall(b"x")
        with connection:
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert json.loads(answer.split(b"\r\n\r\n")[1]) == {"done": True}


def test_verdict_words() -> None:
    """The words in the answers are those of the ledger."""
    assert {verdict.value for verdict in Verdict} == {"matched", "unmatched", "own", "duplicate", "undecidable"}
