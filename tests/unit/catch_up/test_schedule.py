"""The search for missed transactions runs at the start, after incidents, at intervals, and for operators' ranges."""

import time
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from pacifica_notifications_consumer.catch_up import catch_up
from pacifica_notifications_consumer.catch_up.catch_up import catching_up
from pacifica_notifications_consumer.errors import ConfigurationError
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.subscription.incident import Incident, IncidentKind
from tests.support.machine.waiting import wait_until
from tests.support.policy_tools import RULES, TestedStore, Told


@pytest.fixture
def keep_looking(store: TestedStore, told: Told, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Search for as long as a context lasts, with short pauses."""
    monkeypatch.setattr(catch_up, "_LOOK", 0.01)
    monkeypatch.setattr(catch_up, "_FIRST_PAUSE", 0.01)
    services = Services(policy_url=told.url, username="alice")
    return lambda **rules: catching_up(store, services, attrs.evolve(RULES, **rules))


def test_at_the_start_and_after_incidents(
    store: TestedStore, told: Told, keep_looking: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an interval the search runs at the start, and after a repair of the subscription."""
    turns: list[int] = []
    last_incident = store.coverage.last_incident

    def counted() -> int:
        turns.append(last_incident())
        return turns[-1]

    monkeypatch.setattr(store.coverage, "last_incident", counted)
    told.go(1)
    with keep_looking(interval=0):
        wait_until(lambda: store.coverage.newest is not None)
    told.go(2)
    with keep_looking(interval=0):
        wait_until(lambda: store.jobs() == [2])
        told.go(3)
        before = len(turns)
        wait_until(lambda: len(turns) >= before + 3)
        assert store.jobs() == [2]
        store.ledger.note_incident(Incident(kind=IncidentKind.DISABLED, since=None, until=time.time()))
        wait_until(lambda: store.jobs() == [2, 3])


def test_on_time(store: TestedStore, told: Told, keep_looking: Callable[..., Any]) -> None:
    """With an interval, missed transactions are found without an incident."""
    with keep_looking(interval=0.05):
        wait_until(lambda: store.coverage.newest is not None)
        told.go(1)
        wait_until(lambda: store.jobs() == [1])


def test_range_put_into_the_ledger(store: TestedStore, told: Told, keep_looking: Callable[..., Any]) -> None:
    """A range that another thread has added to the ledger is checked, too."""
    told.go(1, 2, 3)
    with keep_looking(interval=0):
        wait_until(lambda: store.coverage.newest is not None)
        store.coverage.add_span(range(2, 4))
        wait_until(lambda: store.jobs() == [2, 3])
        wait_until(lambda: not store.coverage.spans())


def test_after_policy_was_down(
    store: TestedStore, told: Told, keep_looking: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """An outage of policy is logged once, and transactions from the time of the outage are checked afterwards."""
    caplog.set_level("INFO", "pacifica_notifications_consumer.catch_up.catch_up")
    with keep_looking(interval=0.02):
        wait_until(lambda: store.coverage.newest is not None)
        told.down = True
        wait_until(lambda: "cannot look for missed transactions" in caplog.text)
        told.go(1)
        told.refused = 0
        wait_until(lambda: told.refused > 2)
        told.down = False
        wait_until(lambda: store.jobs() == [1])
    assert caplog.text.count("cannot look for missed transactions") == 1
    assert "policy can be asked again" in caplog.text


def test_end_in_the_middle_of_a_search(store: TestedStore, told: Told, keep_looking: Callable[..., Any]) -> None:
    """A search ends at once with its context, and the next one goes on where it was."""
    with keep_looking(interval=0):
        wait_until(lambda: store.coverage.newest is not None)
    told.go(*range(1, 31))
    with keep_looking(interval=0, rate=0.00001):  # a day between two requests
        wait_until(lambda: "see" in str(told.asked) or 1 in told.asked)
    assert len(store.jobs()) < 30
    with keep_looking(interval=0):
        wait_until(lambda: store.jobs() == list(range(1, 31)))


@pytest.mark.parametrize(
    ("services", "missing"), [(Services(), "policy_url"), (Services(policy_url="http://x"), "username")]
)
def test_whom_to_ask(store: TestedStore, services: Services, missing: str) -> None:
    """Without the URL of policy, or without a user name, the error says which setting is missing."""
    with pytest.raises(ConfigurationError, match=f"set `{missing}`"), catching_up(store, services):
        pass
