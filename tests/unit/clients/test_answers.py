"""An answer of a service is limited in bytes, when decompressed, and in time; the error names service and limit."""

from __future__ import annotations

import gzip
import itertools
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest
import requests

from pacifica_notifications_consumer.clients import base
from pacifica_notifications_consumer.clients.base import make_session, summarize
from pacifica_notifications_consumer.clients.ingest import IngestState
from pacifica_notifications_consumer.clients.policy import Policy
from pacifica_notifications_consumer.errors import ServiceError
from pacifica_notifications_consumer.http.server import Handler
from pacifica_notifications_consumer.settings.services import Services
from tests.support.faults import fault_server, replying

LIMIT = 1 << 20


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are small, and requests are not repeated."""
    monkeypatch.setattr(base, "_LARGEST_ANSWER", LIMIT)
    monkeypatch.setattr(Policy, "tries", 1)


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with make_session(Services()) as session:
        yield session


COMPRESS: dict[str, Callable[[bytes], bytes]] = {"identity": bytes, "gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("encoding", COMPRESS)
@pytest.mark.parametrize("size", [0, LIMIT - 1, LIMIT])
def test_answers_up_to_the_limit(session: requests.Session, encoding: str, size: int) -> None:
    """Answers up to the limit are read whole, with and without compression, and the connection is used again."""
    answer = COMPRESS[encoding](b"x" * size)
    with fault_server(replying(200, answer, Content_Encoding=encoding)) as server:
        assert Policy(server.url, session).answer(1) == b"x" * size
        assert Policy(server.url, session).answer(2) == b"x" * size


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("encoding", COMPRESS)
def test_larger_answers(session: requests.Session, encoding: str, status: int) -> None:
    """Of a larger answer, also one with an error, not much more than the limit is read or decompressed."""
    answer = COMPRESS[encoding](b"x" * (LIMIT + 1))
    with (
        fault_server(replying(status, answer, Content_Encoding=encoding)) as server,
        pytest.raises(ServiceError, match=r"^policy at \S+ answered with more than 1\.0 MiB; .*`policy_url`"),
    ):
        Policy(server.url, session).answer(1)


@pytest.mark.parametrize(("answer", "values"), [(b'{"times": {}, "total_count": 0}', 3), (b"[{},[],{},0]", 7)])
def test_values_of_an_answer(
    session: requests.Session, monkeypatch: pytest.MonkeyPatch, answer: bytes, values: int
) -> None:
    """Of short values, each of which takes much more memory than text, an answer has a limited number."""
    with fault_server(replying(200, answer)) as server:
        policy = Policy(server.url, session)
        monkeypatch.setattr(base, "_MOST_VALUES", values)
        assert policy.answer(1) == answer
        monkeypatch.setattr(base, "_MOST_VALUES", values - 1)
        with pytest.raises(ServiceError, match=rf"^policy at \S+ answered with more than {values - 1} values; "):
            policy.answer(1)


@pytest.mark.parametrize("where", ["requests.Response.iter_content", "json.loads"])
def test_answers_that_do_not_fit_into_the_memory(
    session: requests.Session, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """An answer for which the memory does not suffice is an error of this library."""

    def full(*_: object) -> None:
        raise MemoryError

    with fault_server(replying(200, b"[]")) as server:
        monkeypatch.setattr(where, full)
        with pytest.raises(ServiceError, match=r"^policy at \S+ answered with more than fits into the memory; "):
            Policy(server.url, session).knows_user("alice")


def test_charset_of_an_answer(session: requests.Session) -> None:
    """JSON is decoded as JSON is, not by a codec of the service's choice: some take hours, others hide values."""
    with (
        fault_server(replying(200, b"+AFs-+AF0-", Content_Type="application/json; charset=utf-7")) as server,
        pytest.raises(ServiceError, match="answered something that is not JSON"),
    ):
        Policy(server.url, session).knows_user("alice")


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x" * 1000])
def test_other_encodings(session: requests.Session, encoding: str) -> None:
    """Other encodings, which are not asked for, are refused: a few bytes of them can become any number."""
    with fault_server(replying(200, gzip.compress(gzip.compress(bytes(9))), Content_Encoding=encoding)) as server:
        with pytest.raises(ServiceError, match=r"answered in the encoding .*, which it was not asked for"):
            Policy(server.url, session).answer(1)
        assert server.requests[0][2]["Accept-Encoding"] == "gzip, deflate"


def test_streams_with_an_error(session: requests.Session) -> None:
    """The error in place of a stream is limited, too."""
    with (
        fault_server(replying(500, b"x" * (LIMIT + 1))) as server,
        pytest.raises(ServiceError, match=r"more than 1\.0 MiB"),
    ):
        Policy(server.url, session).request("GET", "/", stream=True)


def test_answer_without_an_end(session: requests.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that goes on and on is broken off after a time."""
    monkeypatch.setattr(base, "_LONGEST_ANSWER", -1.0)

    def answer(handler: Handler, _: bytes) -> None:
        with handler.stream({}) as out:
            for piece in itertools.repeat(bytes(base._PIECE), 100):
                out.write(piece)

    with (
        fault_server(answer) as server,
        pytest.raises(ServiceError, match=r"^policy at \S+ answered without an end: it sent for longer than -1 s"),
    ):
        Policy(server.url, session).answer(1)


class Authenticator(requests.auth.AuthBase):
    """Looks into each answer before the client does."""

    def __init__(self, look: Callable[[requests.Response], object]) -> None:
        self._look = look

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        def hook(response: requests.Response, **_: object) -> None:
            self._look(response)

        request.hooks["response"].append(hook)
        return request


@pytest.mark.parametrize("status", [302, 401])
def test_answers_that_the_client_does_not_read(session: requests.Session, status: int) -> None:
    """Redirects, and answers that an authenticator reads, are not decompressed twice."""
    session.auth = Authenticator(lambda response: status == 401 and response.content)
    answer = gzip.compress(gzip.compress(bytes(16 << 20), 1), 1)
    with fault_server(replying(status, answer, Content_Encoding="gzip, gzip", Location="/")) as server:
        tracemalloc.start()
        try:
            with pytest.raises(ServiceError, match="answered in the encoding gzip, gzip, which it was not asked for"):
                Policy(server.url, session).answer(1)
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("target", [b"http://[bad", b"http://127.0.0.1:99999999/", b"\xff\xfe://\xe9"])
def test_targets_of_redirects(session: requests.Session, target: bytes) -> None:
    """A redirect is an error of this library, wherever it leads."""
    session.auth = ("alice", "secret")

    def answer(handler: Handler, _: bytes) -> None:
        handler.wfile.write(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + target + b"\r\n\r\n")

    with (
        fault_server(answer) as server,
        pytest.raises(ServiceError, match=r"^policy at \S+ answered 302 Found \(to .+\) to "),
    ):
        Policy(server.url, session).answer(1)


def test_authenticator_that_fails(session: requests.Session) -> None:
    """A value that an authenticator cannot decode is an error of this library."""
    session.auth = Authenticator(lambda response: int(response.headers["X-Token"]))
    with (
        fault_server(replying(401, X_Token="!")) as server,
        pytest.raises(ServiceError, match=r"^policy at \S+ answered something that is not HTTP; "),
    ):
        Policy(server.url, session).answer(1)


def test_negative_chunk(session: requests.Session) -> None:
    """A chunk of a negative size is an error of this library."""

    def answer(handler: Handler, _: bytes) -> None:
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc")

    with fault_server(answer) as server, pytest.raises(ServiceError, match=r"^policy at \S+ answered something"):
        Policy(server.url, session).answer(1)


def test_texts_of_an_answer(session: requests.Session) -> None:
    """The reason and the message of an answer are shortened, and shown instead of obeyed by a terminal."""
    body = b'{"message": "\\u001b[2J\\ud800\\u202e' + b"m" * 1000 + b'"}'

    def answer(handler: Handler, _: bytes) -> None:
        handler.wfile.write(b"HTTP/1.1 500 \x1b[31mFAKE\x07" + b"r" * 10_000)
        handler.wfile.write(b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with fault_server(answer) as server, pytest.raises(ServiceError) as caught:
        Policy(server.url, session).answer(1)
    problem = caught.value.problem
    assert problem.isprintable()
    assert r" answered 500 \x1b[31mFAKE\x07rr" in problem
    assert r": \x1b[2J\ud800\u202emm" in problem
    assert len(problem) < 800


def test_blanks_in_a_message() -> None:
    """The time to shorten a message does not grow with the square of its length: this would take days."""
    assert summarize(" \n" * 20_000 + "x" + "?" * 60_000 + "Traceback") == "x"


def test_long_texts() -> None:
    """Of a very long text only the begin and the end are looked at, which take no memory."""
    text = "The server encountered an unexpected condition\n" + "a. 😀" * 4_000_000 + "\nlab.Error: it is full"
    state = IngestState(state="FAILED", task="", percent="", complete=True, exception=text)
    tracemalloc.start()
    try:
        assert state.reason == "Error: it is full"
        assert summarize(text).startswith("The server encountered an unexpected condition a. ")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_cookies(session: requests.Session) -> None:
    """No cookie of a service is kept, and none sent."""
    with fault_server(replying(200, b"", Set_Cookie="big=" + "x" * 5000)) as server:
        for _ in range(2):
            Policy(server.url, session).answer(1)
    assert len(session.cookies) == 0
    assert all("Cookie" not in headers for _, _, headers, _ in server.requests)


def test_redirect_is_named(session: requests.Session) -> None:
    """The error for a redirect says where it leads, since the right address may be there."""
    with (
        fault_server(replying(301, Location="https://new.example/\x1b[2J")) as server,
        pytest.raises(
            ServiceError, match=r"answered 301 .* \(to https://new\.example/.*\) to GET .*; check that `policy_url`"
        ),
    ):
        Policy(server.url, session).answer(1)
