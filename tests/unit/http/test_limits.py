"""The server enforces its limits."""

import itertools
import math
import select
import selectors
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from typing import Any, cast

import attrs
import pytest
import requests

from pacifica_notifications_consumer.http import poller as poller
from pacifica_notifications_consumer.http.limits import ServerLimits
from pacifica_notifications_consumer.http.server import serve
from tests.support.http_tools import PATIENT, Echo, Hasty, answered, connect, idle, rest_of, statuses
from tests.support.machine.waiting import DEADLINE, wait_until


@pytest.mark.parametrize(("most", "status"), [(302, 200), (301, 200), (300, 431)])
def test_longest_head(most: int, status: int) -> None:
    """The limit of the head holds to the byte, also if the empty line at its end arrives in pieces."""
    head = b"GET / HTTP/1.1\r\nHost: h\r\nX: "
    head += b"y" * (301 - len(head))
    with serve(Echo, "127.0.0.1", 0, limits=ServerLimits(head=most)) as server:
        for pieces in ((head + b"\r\n\r\n",), (head + b"\r\n\r", b"\n")):
            with connect(server.url) as connection:
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(0.05)
                assert f" {status} ".encode() in connection.recv(65536)


def test_longer_head_than_usual() -> None:
    """A limit of the head above the size of a small request is effective, too."""
    field = b"X: " + b"y" * 200_000 + b"\r\n"
    with serve(Echo, "127.0.0.1", 0, limits=ServerLimits(head=256 << 10)) as server, connect(server.url) as connection:
        head = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2\r\n"
        connection.sendall(head + field + b"\r\n{}")
        assert statuses(rest_of(connection)) == [200]


@pytest.mark.parametrize(("most", "status"), [(4, 200), (3, 200), (2, 431)])
def test_most_fields(most: int, status: int) -> None:
    """A request may have as many header fields as the limit, and no more."""
    with serve(Echo, "127.0.0.1", 0, limits=ServerLimits(fields=most)) as server, connect(server.url) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nConnection: close\r\n\r\n")
        assert statuses(rest_of(connection)) == [status]


_GET, _POST = (method + b" / HTTP/1.1\r\nHost: h\r\n" for method in (b"GET", b"POST"))
#: The bytes that a client sends before and after a pause, and the answers if the server waits for it.
WAITS = {
    "head_seconds": (
        [_POST + b"Content-Length: 2\r\nConn", b"ection: close\r\n\r\n{}"],
        [200],
        [],
    ),
    "idle_seconds": (
        [_GET + b"\r\n", _GET + b"Connection: close\r\n\r\n"],
        [200, 200],
        [200],
    ),
    "stall_seconds": (
        [
            _POST + b"Connection: close\r\nContent-Length: 70000\r\n\r\n" + b"x" * 60_000,
            b"x" * 10_000,
        ],
        [200],
        [408],
    ),
    "body_seconds": (
        [
            _POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
            *[b"1\r\nx\r\n"] * 5,
            b"0\r\n\r\n",
        ],
        [200],
        [408],
    ),
}


@pytest.mark.parametrize("name", WAITS)
def test_longest_waits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is faster than the limit is served; the connection of a slower client is closed."""
    monkeypatch.setattr(poller, "_EXPIRY_INTERVAL", 0.02)
    pieces, in_time, too_late = WAITS[name]
    with serve(Echo, "127.0.0.1", 0, limits=PATIENT) as server, connect(server.url) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.05)
        assert statuses(rest_of(connection)) == in_time
    changed: dict[str, Any] = {name: 1.0}
    with (
        serve(Echo, "127.0.0.1", 0, limits=attrs.evolve(PATIENT, **changed)) as server,
        connect(server.url) as connection,
    ):
        connection.sendall(pieces[0])
        # However many pieces come, a body has its time.
        while name == "body_seconds" and not select.select([connection], [], [], 0.05)[0]:
            connection.sendall(pieces[1])
        assert statuses(rest_of(connection)) == too_late


def test_deadlines_while_others_send_without_a_pause() -> None:
    """A slow head is given up, however many requests others have sent already."""
    limits = attrs.evolve(PATIENT, head_seconds=0.2)
    with serve(Hasty, "127.0.0.1", 0, limits=limits) as server, ExitStack() as stack:
        clients = idle(stack, server, 4)

        def send(client: socket.socket) -> None:
            with suppress(OSError):
                while True:
                    client.sendall((_POST + b"Content-Length: 0\r\n\r\n") * 100)

        def receive(client: socket.socket) -> None:
            with suppress(OSError):
                while client.recv(1 << 20):
                    pass

        for work, client in itertools.product((send, receive), clients):
            thread = threading.Thread(target=work, args=(client,))
            thread.start()
            stack.callback(thread.join)
        for client in clients:
            stack.callback(client.shutdown, socket.SHUT_RDWR)
        (slow,) = idle(stack, server, 1, _POST)
        assert slow.recv(1) == b""


def test_few_files_may_be_open() -> None:
    """Connections leave most of the files that may be open to jobs, and a warning says so."""
    script = (
        "import logging, resource\nfrom tests.support.http_tools import Echo\n"
        "from pacifica_notifications_consumer.http.server import serve\nlogging.basicConfig(format='%(message)s')\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 400))\n"
        "with serve(Echo, '127.0.0.1', 0) as server: print(server.limits.connections)\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert finished.stdout == "100\n"
    assert "only 100 connections may wait, not 4096: this process may open no more than 400 files" in finished.stderr


def closed_among(clients: list[socket.socket], gone: list[socket.socket]) -> int:
    """Add those clients to `gone` whose connections the server has closed; returns how many it has closed so far."""
    readable, _, _ = select.select(clients, [], [], 0.1)
    for client in readable:
        if client not in gone:
            with suppress(ConnectionResetError):
                assert client.recv(1) == b""
            gone.append(client)
    return len(gone)


def test_more_clients_than_may_wait() -> None:
    """When too many connections wait, the one that has waited longest is closed."""
    with serve(Echo, "127.0.0.1", 0, limits=attrs.evolve(PATIENT, connections=5)) as server, ExitStack() as stack:
        clients = idle(stack, server, 20)
        gone: list[socket.socket] = []
        wait_until(lambda: closed_among(clients, gone) >= 15, "15 connections are closed")
        answered(server.url)
        assert len(gone) == 15


def test_accepting_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast clients connect, those that are connected get their turn."""
    accepted: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        endless = poller.Poller(listener, lambda: cast("Any", object()), lambda *_: None, lambda: 0, 4096, 1 << 20)
        monkeypatch.setattr(endless, "_add", lambda connection, _: accepted.append(connection))
        endless._selector.register(listener, selectors.EVENT_READ, listener)
        endless._select(DEADLINE)
        endless.close()
    assert len(accepted) == poller._MOST_ACCEPTED


class Endless:
    """A connection on which the next request has always arrived already."""

    held, counted, busy, lingers, deadline = 1, 0, False, False, math.inf

    def __init__(self, client: socket.socket) -> None:
        self.fileno, self.close = client.fileno, client.close

    def gather(self) -> bool:
        return True


def test_new_clients_while_others_send_without_a_pause() -> None:
    """A new client is accepted although the connected ones always have their next request ready."""
    accepted: list[Endless] = []
    turns = itertools.count()

    def accept() -> Any:
        with suppress(BlockingIOError):
            accepted.append(Endless(listener.accept()[0]))
            return accepted[-1]

    def serve_all(*_: object) -> None:
        if next(turns) == 0:
            stack.enter_context(socket.create_connection(listener.getsockname()))
        elif len(accepted) == 2 or next(turns) > 1000:
            endless.stop()

    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        listener.setblocking(False)
        stack.enter_context(socket.create_connection(listener.getsockname()))
        endless = poller.Poller(listener, accept, serve_all, lambda: 0, 4096, 1 << 20)
        endless.work()
        endless.close()
    assert len(accepted) == 2


def test_connections_with_threads_count() -> None:
    """Clients whose requests wait for a thread, or have one, count as well: there are never more than the limit."""
    go = threading.Event()

    class Waiting(Echo):
        def do_GET(self) -> None:
            go.wait(DEADLINE)
            super().do_GET()

    limits = attrs.evolve(PATIENT, connections=5, threads=1)
    with serve(Waiting, "127.0.0.1", 0, limits=limits) as server, ExitStack() as stack:
        clients = idle(stack, server, 20, _GET + b"\r\n")
        gone: list[socket.socket] = []
        try:
            wait_until(lambda: closed_among(clients, gone) >= 15, "15 connections are closed")
            assert server._load + len(server._poller._waiting) <= 5
        finally:
            go.set()


def test_most_held_bytes() -> None:
    """Connections hold limited bytes of unfinished requests: the ones that have held some longest are closed."""
    limits = attrs.evolve(PATIENT, held=100_000)
    with serve(Echo, "127.0.0.1", 0, limits=limits) as server, ExitStack() as stack:
        (silent,) = idle(stack, server, 1)
        clients = idle(stack, server, 10, _POST + b"X: " + b"y" * 30_000)
        clients += idle(stack, server, 10, _POST + b"Content-Length: 40000\r\n\r\n" + b"y" * 30_000)
        gone: list[socket.socket] = []

        def most_are_closed() -> bool:
            # The limit is checked before the next bytes are read: those of this request.
            answered(server.url)
            return closed_among(clients, gone) >= 17

        wait_until(most_are_closed, "all but three are closed")
        assert len(gone) == 17
        assert sum(each.held for each in server._poller._waiting) == server._poller._held <= 100_000
        silent.sendall(_GET + b"\r\n")
        assert b" 200 " in silent.recv(65536)


def test_who_has_held_bytes_longest() -> None:
    """A client that was idle for long and has just begun a request is not closed, but one that began before it."""
    head = _POST + b"Content-Length: 2\r\n\r\n"
    with serve(Hasty, "127.0.0.1", 0, limits=attrs.evolve(PATIENT, held=100_000)) as server, ExitStack() as stack:
        (patient,) = idle(stack, server, 1)
        hoarders = idle(stack, server, 3, _POST + b"X: " + b"y" * 30_000)
        wait_until(lambda: server._poller._held > 90_000, "three heads have begun to arrive")
        before = server._poller._held
        patient.sendall(head)
        wait_until(lambda: server._poller._held == before + len(head), "a fourth has arrived")
        # The limit is checked before the next bytes are read: those of the second one.
        idle(stack, server, 2, _POST + b"X: " + b"y" * 30_000)
        with suppress(ConnectionResetError):
            assert hoarders[0].recv(1) == b""
        patient.sendall(b"{}")
        assert b" 200 " in patient.recv(65536)


def test_active_clients_keep_their_connections() -> None:
    """A client that is being served, or has just been, keeps its connection however many others connect."""
    with serve(Hasty, "127.0.0.1", 0, limits=attrs.evolve(PATIENT, connections=5)) as server, ExitStack() as stack:
        (busy,) = idle(stack, server, 1)
        for _ in range(10):
            busy.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}")
            assert b" 200 " in busy.recv(65536)
            idle(stack, server, 4)


def test_more_clients_than_threads() -> None:
    """Clients that share a few threads all get their answers, however many requests they send."""
    failed: list[BaseException] = []

    def ask(url: str) -> None:
        try:
            with requests.Session() as session:
                for number in range(20):
                    assert session.post(url, data=f"{number}", timeout=DEADLINE).content == f"{number}".encode()
        except BaseException as error:
            failed.append(error)

    with serve(Echo, "127.0.0.1", 0, limits=ServerLimits(threads=2)) as server:
        threads = [threading.Thread(target=ask, args=(server.url,)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert len(server._threads) == 2
    assert failed == []
