"""The newest transaction is found, or an error is raised, whatever policy answers."""

from collections.abc import Callable
from typing import Any

import pytest
import requests

from pacifica_notifications_consumer.catch_up import newest as newest_module
from pacifica_notifications_consumer.catch_up.newest import find_newest
from pacifica_notifications_consumer.clients.policy import Listing, Policy
from pacifica_notifications_consumer.errors import Cancelled, ServiceError
from tests.support.policy_tools import Told

SEEN = (5, "2026-11-01T00:00:00")


@pytest.fixture
def lists(told: Told, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Policy]:
    """Make a client of a policy that has these numbers on each page of a size, whichever page it is."""

    def make(numbers: dict[int, list[int]]) -> Policy:
        def transactions(_: Policy, *, size: int = 1, **__: Any) -> Listing:
            return Listing(times=dict.fromkeys(numbers[size], "2026-11-30T00:00:00"), total=20)

        monkeypatch.setattr(Policy, "transactions", transactions)
        return Policy(told.url, requests.Session())

    return make


@pytest.fixture
def endless(lists: Callable[..., Policy]) -> Policy:
    far = list(range(10**9 + 20, 10**9, -1))
    return lists({2: far[:2], 20: far})


def test_pages_without_an_end(endless: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy whose list has no end is an error that says so."""
    monkeypatch.setattr(newest_module, "_MOST_PAGES", 50)
    with pytest.raises(ServiceError, match="lists more than 1000 transactions since 2026-11-01") as caught:
        find_newest(endless, SEEN)
    assert caught.value.transient


def test_search_is_stopped(endless: Policy) -> None:
    """A long search ends when it is stopped, and keeps to the rate of requests until then."""
    turns: list[None] = []

    def wait() -> None:
        turns.append(None)
        if len(turns) == 30:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        find_newest(endless, SEEN, wait)


HIGHEST = 10**9 + 20


@pytest.mark.parametrize(
    ("seen", "second", "expected"),
    [
        (None, [], (6, None)),
        (None, [7], (7, None)),
        (None, [10**9], (HIGHEST, None)),
        (SEEN, [], (6, None)),
        (SEEN, [7], (7, None)),
        (SEEN, [*range(10**9 + 11, 10**9, -1), 6], (HIGHEST, (6, 10**9 + 1))),
    ],
)
def test_list_that_changes_meanwhile(
    lists: Callable[..., Policy],
    seen: tuple[int, str] | None,
    second: list[int],
    expected: tuple[int, tuple[int, int] | None],
) -> None:
    """Policy's second list may lack the transactions that the first one had."""
    found = find_newest(lists({2: [HIGHEST, 6], 20: second}), seen)
    assert (found.number, found.anew) == expected
