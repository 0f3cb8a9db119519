"""Transient errors are retried with pauses; permanent errors are raised at once."""

from __future__ import annotations

import email.utils
import itertools
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from pacifica_notifications_consumer.clients import connections
from pacifica_notifications_consumer.clients.base import PATIENT_TRIES, make_session
from pacifica_notifications_consumer.clients.cartd import Cartd, CartState
from pacifica_notifications_consumer.errors import ServiceError
from pacifica_notifications_consumer.http.server import Handler
from pacifica_notifications_consumer.settings.services import Services
from tests.support.faults import fault_server
from tests.support.machine.ports import free_port
from tests.support.machine.waiting import DEADLINE


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses before further tries, recorded instead of slept."""
    pauses: list[float] = []
    monkeypatch.setattr("pacifica_notifications_consumer.clients.retry.time.sleep", pauses.append)
    return pauses


def answering(*answers: Callable[[Handler], None]) -> Callable[[Handler, bytes], None]:
    """Give each answer once, in order, and the last one for ever."""
    rest = itertools.chain(answers, itertools.repeat(answers[-1]))
    return lambda handler, _: next(rest)(handler)


def ready(handler: Handler) -> None:
    handler.reply(204, X_Pacifica_Status="ready")


def refusing(status: int, **headers: Any) -> Callable[[Handler], None]:
    return lambda handler: handler.reply(status, **headers)


def hang_up(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def status(url: str) -> CartState:
    with make_session(Services()) as session:
        return Cartd(url, session).status("uid").state


@pytest.mark.parametrize("fault", [refusing(429), refusing(502), refusing(503), refusing(504), hang_up])
def test_transient_faults(fault: Callable[[Handler], None], pauses: list[float]) -> None:
    """Transient errors are retried after growing pauses with a random part."""
    with fault_server(answering(fault, fault, fault, ready)) as server:
        assert status(server.url) is CartState.READY
        assert len(server.requests) == 4
    assert [0.25 * 2**number <= pause <= 0.5 * 2**number for number, pause in enumerate(pauses)] == [True] * 3


@pytest.mark.parametrize("date", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT"])
def test_dates_that_do_not_exist(date: str, pauses: list[float]) -> None:
    """A time to wait for that no calendar has is as good as none."""
    with fault_server(answering(refusing(503, Retry_After=date), ready)) as server:
        assert status(server.url) is CartState.READY
    assert len(pauses) == 1


def test_proxy_that_opens_no_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that takes a request for a way to a service, and does not answer, is not given the time of an upload."""
    monkeypatch.setattr(connections, "_SENDING", 10 * DEADLINE)
    seen = list[bytes]()

    def listen() -> None:
        with listener.accept()[0] as client:
            while data := client.recv(4096):
                seen.append(data)

    with socket.create_server(("127.0.0.1", 0)) as listener, make_session(Services()) as session:
        thread = threading.Thread(target=listen)
        thread.start()
        host, port = listener.getsockname()
        with pytest.raises(requests.ReadTimeout, match="timed out"):
            session.get("https://service", timeout=0.5, proxies={"https": f"http://{host}:{port}"})
        thread.join(DEADLINE)
    assert seen[0].startswith(b"CONNECT service:443 ")


def test_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request whose answer does not arrive in time is repeated."""
    monkeypatch.setattr(Cartd, "timeouts", (DEADLINE, 0.5))
    asked_again = threading.Event()

    def silent(_: Handler) -> None:
        asked_again.wait(DEADLINE)

    def answer(handler: Handler) -> None:
        asked_again.set()
        ready(handler)

    with fault_server(answering(silent, answer)) as server:
        assert status(server.url) is CartState.READY


@pytest.mark.parametrize("code", [400, 401, 403, 501, 301])
def test_permanent_faults(code: int, pauses: list[float]) -> None:
    """A permanent error is raised at once, without another try."""
    with fault_server(answering(refusing(code))) as server:
        with pytest.raises(ServiceError) as caught:
            status(server.url)
        assert (caught.value.status, len(server.requests), pauses) == (code, 1, [])


def test_service_that_never_answered(pauses: list[float]) -> None:
    """A service that has never answered is not tried again."""
    with pytest.raises(ServiceError, match="Connection refused"):
        status(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ServiceError, match="cannot reach cartd"):
        status("http://name.invalid")
    assert pauses == []


def test_fault_that_stays(pauses: list[float]) -> None:
    """After the last try the error is that of the last answer."""
    with fault_server(answering(refusing(503))) as server:
        with pytest.raises(ServiceError, match="503 Service Unavailable"):
            status(server.url)
        assert len(server.requests) == PATIENT_TRIES
    assert len(pauses) == PATIENT_TRIES - 1
    assert max(pauses) <= 30


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("7", 7, 7), ("0", 0, 0), (100, 40, 100), (-100, 0, 0), ("soon", 0.25, 0.5), ("-5", 0.25, 0.5)],
)
def test_retry_after(header: str | int, least: float, most: float, pauses: list[float]) -> None:
    """Retry-After is obeyed, as seconds or as a date; a malformed one is ignored."""
    if isinstance(header, int):
        header = email.utils.formatdate(time.time() + header, usegmt=True)
    with fault_server(answering(refusing(503, Retry_After=header), ready)) as server:
        assert status(server.url) is CartState.READY
    assert least <= pauses[0] <= most


def test_retry_after_that_is_too_long(pauses: list[float]) -> None:
    """If the service asks to wait for an hour, the error is raised at once."""
    with fault_server(answering(refusing(503, Retry_After="3600"))) as server:
        with pytest.raises(ServiceError):
            status(server.url)
        assert (len(server.requests), pauses) == (1, [])
