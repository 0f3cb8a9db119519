"""The subscription exists as long as its context, is repaired after any change, and reports incidents."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer.clients.base import make_session
from pacifica_notifications_consumer.clients.producer import Producer, SubscriptionSpec
from pacifica_notifications_consumer.errors import Cancelled, ServiceError
from pacifica_notifications_consumer.filter.filter import Filter
from pacifica_notifications_consumer.http.server import Handler
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.subscription import subscription as subscription_module
from pacifica_notifications_consumer.subscription.incident import Incident, IncidentKind
from pacifica_notifications_consumer.subscription.subscription import mint_token, subscribed
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.support.faults import fault_server, replying
from tests.support.machine.ports import free_port
from tests.support.machine.waiting import DEADLINE, wait_until

TOKEN = mint_token()
TARGET = "http://127.0.0.1:9/receive"
ARGUMENTS: dict[str, Any] = {"name": "mine", "filter": None, "target_url": TARGET, "token": TOKEN}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(users={"alice": 10}) as sandbox:
        yield sandbox


@pytest.fixture
def services(sandbox: Sandbox) -> Services:
    return Services(producer_url=sandbox.producer_url, username="alice")


@pytest.fixture
def producer(services: Services) -> Iterator[Producer]:
    """The producer, as another client with the same user name reaches it."""
    with make_session(services) as session:
        yield Producer(services.producer_url, session)


def test_it_lives_as_long_as_its_context(sandbox: Sandbox, services: Services) -> None:
    """A subscription is created with all its fields, and deleted afterwards, even after an error."""
    arguments = ARGUMENTS | {"filter": Filter('$["data"]')}
    with pytest.raises(ZeroDivisionError), subscribed(services, **arguments) as ours:
        (found,) = sandbox.subscriptions()
        assert (found["uuid"], found["name"], found["user"]) == (ours.uuid, "mine", "alice")
        assert (found["jsonpath"], found["target_url"]) == ('$["data"]', TARGET)
        assert found["auth"]["header"] == {"type": "Bearer", "credentials": TOKEN}
        assert (ours.trouble, ours.incidents) == ("", {})
        raise ZeroDivisionError
    assert sandbox.subscriptions() == []


def test_without_a_filter_everything_is_wanted(sandbox: Sandbox, services: Services) -> None:
    """A subscription without a filter gets every notification; and basic authentication is supported."""
    with subscribed(services, **ARGUMENTS, auth="basic"):
        (found,) = sandbox.subscriptions()
        assert found["jsonpath"] == "$"
        assert found["auth"] == {"type": "basic", "basic": {"username": "pacifica", "password": TOKEN}}


def test_somebody_else_deleted_it(services: Services, producer: Producer) -> None:
    """A subscription that was deleted before the end does not cause an error."""
    with subscribed(services, **ARGUMENTS, watch_interval=0) as ours:
        producer.unsubscribe(ours.uuid)


def test_it_cannot_be_deleted(caplog: pytest.LogCaptureFixture) -> None:
    """If the producer cannot be reached at the end, the stop succeeds and logs the remaining subscription."""
    with fault_server(
        lambda handler, _: handler.reply(200, b"[]" if handler.command == "GET" else b'{"uuid": "u-1"}')
    ) as server:
        services = Services(producer_url=server.url, username="alice")
        with subscribed(services, **ARGUMENTS):
            server.answer = replying(500)
    assert "the subscription u-1 stays behind at the producer" in caplog.text


def test_leftovers_are_taken_over(sandbox: Sandbox, services: Services, producer: Producer) -> None:
    """A subscription of an earlier run is taken over, its duplicates are deleted, and others are not changed."""
    old = SubscriptionSpec(name="mine", jsonpath="$", target_url="http://127.0.0.1:8/old", token="old")
    first, second = producer.subscribe(old), producer.subscribe(old)
    other = producer.subscribe(
        SubscriptionSpec(name="other", jsonpath="$", target_url="http://127.0.0.1:8/old", token="old")
    )
    incidents: list[Incident] = []
    with subscribed(services, **ARGUMENTS, on_incident=incidents.append) as ours:
        assert ours.uuid == first
        assert {each["uuid"] for each in sandbox.subscriptions()} == {first, other}
        assert second not in {each["uuid"] for each in sandbox.subscriptions()}
        adopted = producer.subscription(first)
        assert adopted is not None
        assert (adopted["target_url"], adopted["auth"]["header"]["credentials"]) == (TARGET, TOKEN)
    assert [incident.kind for incident in incidents] == [IncidentKind.LEFT_BEHIND]


def disable(sandbox: Sandbox, uuid: str) -> None:
    sandbox._producer.subscriptions.disable(uuid, "it answered 500\nin many words")


def change(producer: Producer, uuid: str, **changes: Any) -> None:
    wanted = {"name": "mine", "jsonpath": "$", "target_url": TARGET, "token": TOKEN} | changes
    producer.correct(uuid, SubscriptionSpec(**wanted))


BLOWS: dict[str, tuple[Callable[[Sandbox, Producer, str], None], IncidentKind, str]] = {
    "disabled": (
        lambda sandbox, _, uuid: disable(sandbox, uuid),
        IncidentKind.DISABLED,
        "it answered 500 in many words",
    ),
    "deleted": (lambda _, producer, uuid: producer.unsubscribe(uuid), IncidentKind.DELETED, ""),
    "moved": (
        lambda _, producer, uuid: change(producer, uuid, target_url="http://127.0.0.1:8/"),
        IncidentKind.CHANGED,
        "another client changed its target_url",
    ),
    "other token": (
        lambda _, producer, uuid: change(producer, uuid, token="other"),
        IncidentKind.CHANGED,
        "another client changed its auth",
    ),
    "other filter and name": (
        lambda _, producer, uuid: change(producer, uuid, jsonpath="$..a", name="x"),
        IncidentKind.CHANGED,
        "another client changed its name, jsonpath",
    ),
}


@pytest.mark.parametrize("blow", BLOWS)
def test_it_is_mended(
    blow: str, sandbox: Sandbox, services: Services, producer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    """Each change is found, repaired, counted, and logged with the time of the incident, but without the token."""
    strike, kind, detail = BLOWS[blow]
    incidents: list[Incident] = []
    with subscribed(services, **ARGUMENTS, watch_interval=0.02, on_incident=incidents.append) as ours:
        before = time.time()
        strike(sandbox, producer, ours.uuid)
        wait_until(lambda: bool(incidents))
        (incident,) = incidents
        assert (incident.kind, incident.detail) == (kind, detail)
        assert incident.since is not None
        assert before - DEADLINE < incident.since <= incident.until <= time.time()
        assert ours.incidents == {kind: 1}
        (found,) = sandbox.subscriptions()
        assert found["uuid"] == ours.uuid
        assert (found["disabled"], found["error"], found["target_url"], found["jsonpath"]) == (None, None, TARGET, "$")
        assert found["auth"]["header"]["credentials"] == TOKEN
        wait_until(lambda: ours.repairs == 0)
        assert ours.trouble == ""
    assert "notifications may have been missed from" in caplog.text
    assert TOKEN not in caplog.text
    assert sandbox.subscriptions() == []


@pytest.mark.parametrize("disabled", ["2999-01-01T00:00:00", "1999-01-01T00:00:00"])
def test_producer_whose_clock_is_wrong(
    disabled: str, services: Services, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A period of loss begins when the subscription was last healthy if the producer's time for it cannot be right."""
    incidents: list[Incident] = []
    before = time.time()
    with subscribed(services, **ARGUMENTS, watch_interval=0.02, on_incident=incidents.append) as ours:
        wrong = {"disabled": disabled, "error": "it answered 500"}
        producer.request("PUT", f"/eventmatch/{ours.uuid}", json=wrong)
        wait_until(lambda: bool(incidents))
        (incident,) = incidents
    assert incident.kind is IncidentKind.DISABLED
    assert incident.since is not None
    assert before <= incident.since <= incident.until <= time.time()


def test_producer_that_is_down_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage of the producer is logged, and recorded as an incident with its begin and end afterwards."""
    monkeypatch.setattr(subscription_module, "_FIRST_PAUSE", 0.02)
    incidents: list[Incident] = []
    with ExitStack() as stack:
        port = free_port()
        sandbox = Sandbox(tmp_path, users={"alice": 10}, producer_port=port)
        sandbox.__enter__()
        services = Services(producer_url=sandbox.producer_url, username="alice")
        ours = stack.enter_context(subscribed(services, **ARGUMENTS, watch_interval=0.02, on_incident=incidents.append))
        sandbox.__exit__(None, None, None)
        wait_until(lambda: "cannot reach the producer" in ours.trouble)
        assert incidents == []
        stack.enter_context(Sandbox(tmp_path, users={"alice": 10}, producer_port=port))
        wait_until(lambda: bool(incidents) and ours.trouble == "")
    assert [incident.kind for incident in incidents] == [IncidentKind.UNREACHABLE]
    assert "cannot reach the producer" in incidents[0].detail


def test_switched_off_again_and_again(sandbox: Sandbox, services: Services) -> None:
    """A subscription that is disabled repeatedly is repaired at growing intervals, and counts as in trouble."""
    with subscribed(services, **ARGUMENTS, watch_interval=0.01) as ours:
        for number in range(1, 4):
            disable(sandbox, ours.uuid)
            wait_until(lambda number=number: ours.incidents.get(IncidentKind.DISABLED) == number)  # type: ignore[misc]
        # Its own check may find it in order at any time.
        wait_until(lambda: ours.repairs < 2 or "times in a row: it answered 500" in ours.trouble)
        wait_until(lambda: ours.trouble == "")


@pytest.mark.parametrize("answer", [b"[]", b'"x"', b"{}", b"nonsense", b'{"disabled": 7, "auth": []}'])
def test_nonsense_does_not_end_the_watch(answer: bytes) -> None:
    """The checks continue after any answer of the producer."""
    asked = threading.Event()

    def reply(handler: Any, _: bytes) -> None:
        if handler.command == "GET" and handler.path != "/eventmatch":
            asks.append(handler.path)
            if len(asks) > 3:
                asked.set()
            handler.reply(200, answer)
        else:
            handler.reply(200, b"[]" if handler.command == "GET" else b'{"uuid": "u"}')

    asks: list[str] = []
    with fault_server(reply) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(subscription_module, "_FIRST_PAUSE", 0.01)
        services = Services(producer_url=server.url, username="alice")
        with subscribed(services, **ARGUMENTS, watch_interval=0.01):
            assert asked.wait(DEADLINE)


def test_books_that_cannot_be_kept(sandbox: Sandbox, services: Services, producer: Producer) -> None:
    """If an incident cannot be recorded, the subscription is repaired nevertheless."""

    def fail(_: Incident) -> None:
        raise LookupError

    with subscribed(services, **ARGUMENTS, watch_interval=0.01, on_incident=fail) as ours:
        for _ in range(2):
            disable(sandbox, ours.uuid)
            wait_until(lambda: all(each["disabled"] is None for each in sandbox.subscriptions()))


def test_producer_that_is_not_there_yet(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """At the start, a producer that cannot be reached is tried again until the timeout."""
    monkeypatch.setattr(subscription_module, "_FIRST_PAUSE", 0.01)
    tries = iter([replying(503), replying(502), replying(503)])

    def answer(handler: Any, body: bytes) -> None:
        next(tries, lambda handler, _: handler.reply(200, b"[]" if handler.command == "GET" else b'{"uuid": "u"}'))(
            handler, body
        )

    with fault_server(answer) as server:
        services = Services(producer_url=server.url, username="alice")
        with subscribed(services, **ARGUMENTS, register_timeout=DEADLINE) as ours:
            assert ours.uuid == "u"
    assert caplog.text.count("trying again in") >= 1
    unreachable = Services(producer_url=f"http://127.0.0.1:{free_port()}", username="alice")
    started = time.monotonic()
    with (
        pytest.raises(ServiceError, match="cannot reach the producer"),
        subscribed(unreachable, **ARGUMENTS, register_timeout=0.2),
    ):
        pass
    assert time.monotonic() - started >= 0.2
    with pytest.raises(ServiceError, match="cannot reach the producer"), subscribed(unreachable, **ARGUMENTS):
        pass


@pytest.mark.parametrize("answer", [replying(500, b'{"message": "no"}'), replying(404), replying(200, b"<html>")])
def test_refusal_is_final(answer: Any) -> None:
    """A producer that refuses, or a server that is not a producer, is not asked again."""
    with fault_server(answer) as server:
        services = Services(producer_url=server.url, username="alice")
        with pytest.raises(ServiceError), subscribed(services, **ARGUMENTS, register_timeout=1000):
            pass
        assert len(server.requests) == 1


def test_stop_ends_the_trying() -> None:
    """Setting `stop` ends the tries to reach the producer."""
    stop = threading.Event()
    with fault_server(replying(503)) as server:
        services = Services(producer_url=server.url, username="alice")
        threading.Timer(0.1, stop.set).start()
        with pytest.raises(Cancelled), subscribed(services, **ARGUMENTS, register_timeout=1000, stop=stop):
            pass


def test_tokens_differ() -> None:
    """Each start has a new token that is too long to guess, and that is never shown."""
    assert mint_token() != mint_token()
    assert len(mint_token()) >= 40
    wanted = SubscriptionSpec(name="n", jsonpath="$", target_url=TARGET, token=TOKEN)
    assert TOKEN not in repr(wanted)
    assert TOKEN in json.dumps(wanted.document())


@pytest.mark.parametrize("found", [[], [{"name": "mine", "uuid": "\x1b[2J\ud800"}, {"name": "mine", "uuid": "\udfff"}]])
def test_uuid_of_other_characters(found: list[dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    """The id that the producer gives is shown instead of obeyed by a terminal."""

    def answer(handler: Handler, _: bytes) -> None:
        document: object = found if handler.command == "GET" else {"uuid": "\x1b[2J\ud800"}
        handler.reply(200, json.dumps(document).encode())

    caplog.set_level("INFO")
    with (
        fault_server(answer) as server,
        subscribed(Services(producer_url=server.url), **ARGUMENTS, watch_interval=0.0) as ours,
    ):
        assert ours.uuid == r"\x1b[2J\ud800"
    assert all(record.getMessage().isprintable() for record in caplog.records)
