"""The server answers every valid request, whatever other clients do."""

import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from http import HTTPStatus

import attrs
import pytest

from pacifica_notifications_consumer.http import connection as connections
from pacifica_notifications_consumer.http import poller as poller
from pacifica_notifications_consumer.http import server as servers
from pacifica_notifications_consumer.http.server import Handler, Server, serve
from tests.support.http_tools import PATIENT, Echo, Hasty, answered, connect, idle, raw, replies, rest_of, statuses
from tests.support.machine.waiting import wait_until


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(Echo, "127.0.0.1", 0, limits=PATIENT) as server:
        yield server


def post(headers: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: h\r\n" + headers + b"\r\n" + body


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Content-Length: x\r\n", 400),
        (b"Content-Length: -1\r\n", 400),
        (b"Content-Length: +2\r\n", 400),
        (b"Content-Length: " + b"9" * 5000 + b"\r\n", 413),
        (b"Content-Length: 2\r\nContent-Length: 3\r\n", 400),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", 400),
        (b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"Transfer-Encoding: gzip\r\n", 501),
        (b"Transfer-Encoding: gzip, chunked\r\n", 501),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 501),
        (b"Transfer-Encoding: xchunked\r\n", 501),
        (b"Transfer-Encoding: \xa0chunked\r\n", 501),
        (b"Transfer-Encoding: chunked\x85\r\n", 501),
        (b"Host: h\r\nContent-Length: 2\r\n", 400),
        (b"host: other\r\nContent-Length: 2\r\n", 400),
        (b"Content-Length : 2\r\n", 400),
        (b" Content-Length: 2\r\n", 400),
        (b"X: y\r\n folded: z\r\nContent-Length: 2\r\n", 400),
        (b"X: a\x00b\r\nContent-Length: 2\r\n", 400),
        (b"X: a\rb\r\nContent-Length: 2\r\n", 400),
        (b"no colon\r\nContent-Length: 2\r\n", 400),
        (b"Expect: miracles\r\nContent-Length: 2\r\n", 417),
        (b"X: y\r\n" * 101, 431),
        (b"X: " + b"y" * 70_000 + b"\r\n", 431),
    ],
)
def test_bad_headers(server: Server, headers: bytes, status: int) -> None:
    """A malformed or ambiguous header section is refused, and the bytes after it are not taken for a request."""
    answer = raw(server.url, post(headers, b"{}") + b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
    assert statuses(answer) == [status]
    assert b"problem+json" in answer
    assert b"Connection: close" in answer


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"NONSENSE", 400),
        (b"GET /", 400),
        (b"GET / HTTP/1.1 x", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked", 400),
        (b"GET / HTTP/1.0\r\nHost: h", 400),
        (b"GET / http/1.1", 400),
        (b"\x16\x03\x01", 400),
        (b"BREW / HTTP/1.1", 501),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1", 431),
    ],
)
def test_bad_request_lines(server: Server, line: bytes, status: int) -> None:
    """A malformed or unsupported request line is refused, and the server goes on."""
    assert statuses(raw(server.url, line + b"\r\nHost: h\r\n\r\n")) == [status]
    answered(server.url)


def test_body_that_ends_early(server: Server) -> None:
    """A body that is shorter than its Content-Length is refused, with the number of bytes that arrived."""
    answer = raw(server.url, post(b"Content-Length: 10\r\n", b"{}"))
    assert statuses(answer) == [400]
    assert b"the body ended after 2 of 10 bytes" in answer


@pytest.mark.parametrize("target", [b"http://[", b"//[", b"/%zz", b"*", b"/\xe9"])
def test_odd_targets(server: Server, target: bytes) -> None:
    """A request with an odd target is answered."""
    assert statuses(raw(server.url, b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")) == [200]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (b"2\r\n{}\r\n0\r\n\r\n", b"{}"),
        (b"1\r\n{\r\n1;ext=x\r\n}\r\n0\r\nTrailer: x\r\n\r\n", b"{}"),
        (b"00002\r\n{}\r\n000\r\n\r\n", b"{}"),
        (b"0\r\n\r\n", b""),
        (b"2\r\n{}0\r\n\r\n", 400),
        (b"2 ;ext\r\n{}\r\n0\r\n\r\n", b"{}"),
        (b"2\n{}\r\n0\r\n\r\n", 400),
        (b"2\xa0\r\n{}\r\n0\r\n\r\n", 400),
        (b"2;\0\r\n{}\r\n0\r\n\r\n", 400),
        (b"2\r\n{}\r\n0\r\nX: y\n\r\n", 400),
        (b"2\r\n{}\r\n0\r\n\n\r\n", 400),
        (b"2\r\n{}\r\n0\r\nno colon\r\n\r\n", 400),
        (b"-1\r\n{}\r\n0\r\n\r\n", 400),
        (b"0x2\r\n{}\r\n0\r\n\r\n", 400),
        (b"\r\n{}\r\n0\r\n\r\n", 400),
        (b"ffffffffffffffffff\r\n{}\r\n", 400),
        (b"5\r\n{}", 400),
        (b"2\r\n{}\r\n", 400),
        (b"2;" + b"x" * 70_000, 400),
        (b"0\r\n" + b"X: y\r\n" * 200 + b"\r\n", 400),
        (b"fffff\r\n" + b"x" * 0xFFFFF + b"\r\n2\r\n{}\r\n0\r\n\r\n", 413),
    ],
)
def test_chunks(server: Server, chunks: bytes, expected: bytes | int) -> None:
    """A chunked body is read; a malformed or too large one is refused."""
    answer = raw(server.url, post(b"Transfer-Encoding: chunked\r\n", chunks))
    if isinstance(expected, int):
        assert statuses(answer) == [expected]
    else:
        assert (statuses(answer), answer.partition(b"\r\n\r\n")[2]) == ([200], expected)


def test_requests_one_after_the_other(server: Server) -> None:
    """Pipelined requests are answered in order, whether their bodies are chunked or not."""
    stream = post(b"Content-Length: 3\r\n", b"one") + post(b"Transfer-Encoding: chunked\r\n", b"3\r\ntwo\r\n0\r\n\r\n")
    for path, more in ((b"/three", b"\r\n\r\n"), (b"/four", b"Connection: close\r\n\r\n"), (b"/five", b"\r\n")):
        stream += b"GET " + path + b" HTTP/1.1\r\nHost: h\r\n" + more
    bodies = [reply.partition(b"\r\n\r\n")[2] for reply in replies(raw(server.url, stream))]
    assert bodies == [b"one", b"two", b"/three", b"/four"]


@pytest.mark.parametrize("host", [b"a b", b"a\tb", b"a/b", b"a@b", b"h\xe9", b'"a"', b"a,b c"])
def test_host_that_is_none(server: Server, host: bytes) -> None:
    """A Host that is not a host is refused (RFC 9112, section 3.2)."""
    head = b"GET / HTTP/1.1\r\nConnection: close\r\nHost: "
    assert statuses(raw(server.url, head + host + b"\r\n\r\n")) == [400]
    assert statuses(raw(server.url, head + b"[::1%25lo]:80\r\n\r\n")) == [200]


def test_request_without_host(server: Server) -> None:
    """A request of HTTP/1.1 must have a Host, which may be empty (RFC 9112, section 3.2)."""
    assert statuses(raw(server.url, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")) == [400]
    assert statuses(raw(server.url, b"GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n")) == [200]


@pytest.mark.parametrize(
    ("fields", "stays"),
    [
        (b"Connection: close\r\n", False),
        (b"Connection: x,\tClose\r\n", False),
        (b"Connection: x\r\nConnection: close\r\n", False),
        (b"Connection: disclose\r\n", True),
        (b"Connection: close\xa0\r\n", True),
    ],
)
def test_options_of_the_connection(server: Server, fields: bytes, stays: bool) -> None:
    """A connection is closed for the option ``close``, in any of the fields, and for no other one."""
    head = b"GET / HTTP/1.1\r\nHost: h\r\n"
    assert statuses(raw(server.url, head + fields + b"\r\n" + head + b"\r\n")) == [200] * (1 + stays)


def test_request_in_pieces(server: Server) -> None:
    """A request that arrives byte by byte, with long pauses, is answered like any other."""
    with connect(server.url) as connection:
        for byte in post(b"Content-Length: 2\r\nConnection: close\r\n"):
            connection.sendall(bytes([byte]))
        time.sleep(0.3)  # longer than a thread waits
        connection.sendall(b"{}")
        assert rest_of(connection).endswith(b"\r\n\r\n{}")


def test_connection_is_kept_over_a_pause(server: Server) -> None:
    """A client can send another request after a pause."""
    with connect(server.url) as connection:
        for _ in range(3):
            connection.sendall(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
            assert b"/x" in connection.recv(65536)
            wait_until(lambda: server._poller._waiting, "the connection is idle")


def test_body_of_a_get_is_no_request(server: Server) -> None:
    """The body of a GET is not taken for another request."""
    inner = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
    request = b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: " + str(len(inner)).encode() + b"\r\n\r\n" + inner
    assert statuses(raw(server.url, request)) == [200]


def test_expect_100_continue(server: Server) -> None:
    """A client that expects 100 Continue gets it, once."""
    with connect(server.url) as connection:
        connection.sendall(post(b"Content-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n"))
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert statuses(rest_of(connection)) == [200]


def test_answer_before_the_body_reaches_the_client() -> None:
    """A client that is refused while it sends its body can read the response, instead of losing it to a reset."""

    class Refusing(Handler):
        def do_POST(self) -> None:
            self.reply_problem(HTTPStatus.UNAUTHORIZED, "no")

    with serve(Refusing, "127.0.0.1", 0) as server, connect(server.url) as connection:
        connection.sendall(post(b"Content-Length: 5000000\r\n", b"x" * 100_000))
        time.sleep(0.05)
        connection.sendall(b"x" * 100_000)
        assert statuses(rest_of(connection)) == [401]


def test_http_1_0(server: Server) -> None:
    """A client of HTTP/1.0 is answered, and its connection is closed unless it asks to keep it."""
    assert b"Connection: close" in raw(server.url, b"GET / HTTP/1.0\r\n\r\n")
    kept = raw(server.url, b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /b HTTP/1.0\r\n\r\n")
    assert statuses(kept) == [200, 200]


def test_a_thousand_idle_connections(server: Server) -> None:
    """With a thousand idle connections, the next client is answered."""
    with ExitStack() as stack:
        clients = idle(stack, server, 1000)
        answered(server.url)
        assert len(server._threads) <= server.limits.threads
        clients[0].sendall(b"GET /still-here HTTP/1.1\r\nHost: h\r\n\r\n")
        assert b"/still-here" in clients[0].recv(65536)


def test_slow_loris(server: Server) -> None:
    """Clients that send their headers byte by byte do not delay other clients."""
    with ExitStack() as stack:
        clients = idle(stack, server, 300, b"POST / HTTP/1.1\r\nHost: h\r\nX-Slow: ")
        for _ in range(3):
            for client in clients:
                client.sendall(b"x")
            answered(server.url)


def test_half_bodies(server: Server) -> None:
    """Clients that send half a body occupy only their own threads."""
    with ExitStack() as stack:
        idle(stack, server, 50, post(b"Content-Length: 100000\r\n", b"x" * 500))
        idle(stack, server, 500, post(b"Content-Length: 1000\r\n", b"x" * 500))
        answered(server.url)
        assert len(server._threads) < 60


@pytest.mark.parametrize("handler", [Echo, Hasty])
def test_client_that_reads_no_responses(handler: type[Handler]) -> None:
    """A client that sends requests and reads no responses is disconnected."""
    with serve(handler, "127.0.0.1", 0) as server, ExitStack() as stack:
        for _ in range(5):
            idle(stack, server, 1, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 1000)
        for _ in range(100):
            answered(server.url)


def test_poller_goes_on_after_an_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected error in the poller's thread is logged, and the next client is served."""
    select, faults = server._poller._select, iter([LookupError("a fault")])

    def faulty(seconds: float) -> list[connections.Connection]:
        if fault := next(faults, None):
            raise fault
        return select(seconds)

    monkeypatch.setattr(server._poller, "_select", faulty)
    for _ in range(3):
        answered(server.url)
    assert server.alive


def test_expired_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is idle, or on which the head or the body of a request takes too long, is closed."""
    monkeypatch.setattr(poller, "_EXPIRY_INTERVAL", 0.05)
    limits = attrs.evolve(PATIENT, head_seconds=1.0)
    with serve(Echo, "127.0.0.1", 0, limits=limits) as server, ExitStack() as stack:
        for first in (b"", b"GET / HT", post(b"Content-Length: 10\r\n", b"x")):
            # However late its first bytes are sent.
            with suppress(ConnectionResetError, BrokenPipeError):
                (client,) = idle(stack, server, 1, first)
                assert rest_of(client) == b""
    # Here no client can be too late with a request.
    limits = attrs.evolve(PATIENT, idle_seconds=1.0, stall_seconds=1.0)
    with serve(Echo, "127.0.0.1", 0, limits=limits) as server, ExitStack() as stack:
        (kept,) = idle(stack, server, 1, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        (half,) = idle(stack, server, 1, post(b"Content-Length: 100000\r\n", b"x"))
        assert statuses(rest_of(kept)) == [200]
        assert statuses(rest_of(half)) == [408]


def test_handler_that_fails(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error in a request is logged, and closes only its connection."""

    class Faulty(Handler):
        def do_GET(self) -> None:
            raise LookupError("a fault")

    with serve(Faulty, "127.0.0.1", 0) as faulty:
        for _ in range(3):
            assert raw(faulty.url, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n") == b""
    assert caplog.text.count("LookupError: a fault") == 3


def test_idle_connections_do_not_outlive_the_server() -> None:
    """Idle connections are closed together with the server."""
    with serve(Echo, "127.0.0.1", 0) as server:
        connection = connect(server.url)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert b"200" in connection.recv(65536)
    with connection:
        assert connection.recv(65536) == b""


def test_answer_that_is_under_way_is_finished() -> None:
    """A request that is being answered when the server closes gets its answer."""

    class Slow(Handler):
        def do_POST(self) -> None:
            entered.sendall(b"x")
            may_go_on.recv(1)
            self.reply_json(200, {"done": True})

    entered, noticed = socket.socketpair()
    may_go_on, let_it = socket.socketpair()
    with entered, noticed, may_go_on, let_it:
        with serve(Slow, "127.0.0.1", 0) as server:
            connection = connect(server.url)
            connection.sendall(post(b"Content-Length: 0\r\n"))
            noticed.recv(1)
            server.shutdown()
            let_it.sendall(b"x")
        with connection:
            answer = rest_of(connection)
    assert json.loads(answer.split(b"\r\n\r\n")[1]) == {"done": True}


def test_thread_that_cannot_be_started(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request for which no thread can be started waits for the other threads; without any, its client is hung up."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert raw(server.url, post(b"Content-Length: 2\r\n", b"{}")) == b""
    monkeypatch.setattr(threading.Thread, "start", start)
    answered(server.url)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with connect(server.url) as slow:
        slow.sendall(post(b"Content-Length: 2\r\nExpect: 100-continue\r\n"))
        assert b"100 Continue" in slow.recv(65536)
        with connect(server.url) as waiting:
            waiting.sendall(post(b"Content-Length: 2\r\nConnection: close\r\n", b"{}"))
            wait_until(lambda: server._load == 2)
            slow.sendall(b"{}")
            assert statuses(rest_of(waiting)) == [200]
    assert server._threads[0].is_alive()


def test_too_many_requests_that_wait(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that would be one too many for the threads is hung up, and the server goes on."""
    monkeypatch.setattr(servers, "_MOST_QUEUED", 0)
    assert raw(server.url, post(b"Content-Length: 2\r\n", b"{}")) == b""
    monkeypatch.undo()
    answered(server.url)


def test_answers_together_that_fail(caplog: pytest.LogCaptureFixture) -> None:
    """If answering several requests fails, their clients get no answer, rather than a wrong one; others are served."""

    class Faulty(Hasty):
        def do_POST(self) -> None:
            self.deferred = True

        @classmethod
        def answer_together(cls, handlers: Sequence[Handler]) -> None:
            raise LookupError(f"a fault of {len(handlers)}")

    with serve(Faulty, "127.0.0.1", 0, limits=PATIENT) as faulty:
        assert raw(faulty.url, post(b"Content-Length: 0\r\n")) == b""
        assert statuses(raw(faulty.url, b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")) == [200]
    assert "answering 1 requests; their connections were closed" in caplog.text
    assert "LookupError: a fault of 1" in caplog.text
