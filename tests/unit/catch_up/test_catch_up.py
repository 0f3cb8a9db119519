"""Catch-up takes each missed transaction once, asks again for unknown ones, and loses nothing in a crash."""

import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacifica_notifications_consumer.catch_up import catch_up
from pacifica_notifications_consumer.catch_up.catch_up import CatchUp
from pacifica_notifications_consumer.cloudevents.announcement import Identity
from pacifica_notifications_consumer.errors import Cancelled, ServiceError, StateError
from pacifica_notifications_consumer.jobs.job import Origin, Receipt, Verdict
from pacifica_notifications_consumer.jobs.readers import Readers
from pacifica_notifications_consumer.jobs.triage import Triage, TriagedTransaction
from pacifica_notifications_consumer.ledger.coverage import FOLLOWER, MissedCounts
from tests.support.faults import FailingFilter
from tests.support.machine.scratch import scratch_directory
from tests.support.machine.waiting import wait_until
from tests.support.policy_tools import TestedStore, Told, catcher, store_at, telling


@pytest.fixture
def caught(store: TestedStore, told: Told) -> Iterator[CatchUp]:
    """A catch-up that has started on a site with three transactions, none of which match."""
    told.go(1, 2, 3)
    with catcher(store, told) as caught:
        look(caught)
        told.asked.clear()
        yield caught


def look(caught: CatchUp, *, all_of_it: bool = True) -> None:
    """Look, and work until nothing is left to check."""
    caught.look(all_of_it=all_of_it)
    while caught.work():
        pass


def follower(store: TestedStore) -> tuple[int, int]:
    span = store.coverage.span(FOLLOWER)
    assert span is not None
    return span.next, span.last


def test_history_is_left_alone(store: TestedStore, caught: CatchUp) -> None:
    """On a new ledger, earlier transactions are not taken."""
    assert store.jobs() == []
    assert follower(store) == (4, 3)


def test_missed_ones_are_taken(store: TestedStore, told: Told, caught: CatchUp) -> None:
    """Transactions that match and that the user may see are taken; policy is not asked for announced ones."""
    told.go(4, 5, 6, 8)
    told.add(7)
    told.own(9)
    told.hidden.add(6)
    store.deliver(5, told=told)
    look(caught)
    assert store.jobs() == [4, 8]
    assert store.jobs(Origin.DELIVERED) == [5]
    assert store.coverage.counts() == MissedCounts(recovered=2, refused=1, unknown=0)
    assert sorted(map(str, told.asked)) == sorted(map(str, ["list", 4, 6, 7, 8, 9, ("see", 4), ("see", 6), ("see", 8)]))
    look(caught)
    assert store.jobs() == [4, 8]


def test_notification_is_as_if_announced(store: TestedStore, told: Told, caught: CatchUp) -> None:
    """The job's notification equals the missed one, which is a duplicate if it arrives later."""
    told.go(4)
    look(caught)
    job = store.ledger.claim(60)
    assert job is not None
    assert (job.title, job.origin) == ("metadata.ingest.4", Origin.RECOVERED)
    assert b'"http://metadata.pacifica.org/transactions?_id=4"' in job.body
    store.deliver(4, told=told)
    assert store.jobs(Origin.DELIVERED) == []


def test_nothing_missing_costs_one_question(store: TestedStore, told: Told, caught: CatchUp) -> None:
    """While all transactions are announced, a look asks policy only for the newest transaction."""
    told.go(4, 5)
    store.deliver(4, 5, told=told)
    look(caught)
    look(caught)
    assert told.asked == ["list", "list"]


def test_what_is_new_may_yet_be_announced(store: TestedStore, told: Told, caught: CatchUp) -> None:
    """A regular look leaves transactions since the last look to the producer, until the next look."""
    told.go(4)
    look(caught, all_of_it=False)
    assert store.jobs() == []
    told.go(5)
    look(caught, all_of_it=False)
    assert store.jobs() == [4]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the time until gaps are asked for again."""
    monkeypatch.setattr(catch_up, "_SOONEST", 0.05)


def ask_again(caught: CatchUp, store: TestedStore) -> None:
    due = store.coverage.next_gap()
    assert due is not None
    wait_until(lambda: time.time() >= due, "the gap is due")
    caught.work()


@pytest.mark.usefixtures("hurried")
def test_gap_is_asked_for_again(store: TestedStore, told: Told, caught: CatchUp) -> None:
    """A number without a transaction is asked for again, and its transaction is taken when it exists."""
    told.go(4, 7)
    look(caught)
    assert (store.jobs(), store.coverage.counts().unknown) == ([4, 7], 2)
    told.go(5)
    ask_again(caught, store)
    assert (store.jobs(), store.coverage.counts().unknown) == ([4, 5, 7], 1)
    told.go(6)
    store.deliver(6, told=told)
    told.asked.clear()
    ask_again(caught, store)
    assert (store.jobs(Origin.DELIVERED), store.coverage.counts().unknown, told.asked) == ([6], 0, [])


@pytest.mark.usefixtures("hurried")
def test_gap_is_given_up(store: TestedStore, told: Told) -> None:
    """A number without a transaction counts as left out after `patience`, and is not asked for any more."""
    with catcher(store, told) as caught:
        look(caught)
        told.go(3)
        look(caught)
        assert store.coverage.counts().unknown == 2
    with catcher(store, told, patience=0.0) as caught:
        while store.coverage.next_gap():
            ask_again(caught, store)
        told.asked.clear()
        look(caught)
        assert told.asked == ["list"]


def test_old_gaps_are_none(store: TestedStore, told: Told) -> None:
    """A number that was left out before an old transaction is not asked for again."""
    told.go(2, 5, created="2026-11-20T10:00:00")
    told.go(8)
    with catcher(store, told, start=1) as caught:
        look(caught)
        assert store.jobs() == [2, 5, 8]
        assert store.coverage.counts().unknown == 2  # 6 and 7


@pytest.mark.usefixtures("hurried")
def test_one_that_cannot_be_read(
    store: TestedStore, told: Told, caught: CatchUp, caplog: pytest.LogCaptureFixture
) -> None:
    """A transaction for which metadata fails does not delay others, is logged, and is asked for again for ever."""
    told.go(4, 5, 6)
    told.broken.add(5)
    look(caught)
    assert (store.jobs(), store.coverage.counts().unknown) == ([4, 6], 1)
    assert "transactions that policy cannot describe: 1, such as 5: policy got an error from metadata: " in caplog.text
    with catcher(store, told, patience=0.0) as impatient:
        ask_again(impatient, store)
        assert store.coverage.counts().unknown == 1
        told.broken.clear()
        ask_again(impatient, store)
    assert (store.jobs(), store.coverage.counts().unknown) == ([4, 5, 6], 0)


def test_policy_that_is_down(store: TestedStore, told: Told, caught: CatchUp) -> None:
    """During an outage of metadata no transaction counts as checked; afterwards the search continues there."""
    told.go(4)
    caught.look(all_of_it=True)
    told.down = True
    with pytest.raises(ServiceError, match=r"policy at http://127\.0\.0\.1:\d+ answered 500"):
        caught.work()
    with pytest.raises(ServiceError):
        caught.look(all_of_it=True)
    assert (store.jobs(), follower(store), store.coverage.counts().unknown) == ([], (4, 4), 0)
    told.down = False
    look(caught)
    assert (store.jobs(), follower(store)) == ([4], (5, 4))


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (2, [2, 3, 4]),
        (4, [4]),
        (99, []),
        (datetime(2026, 11, 25, 12, tzinfo=UTC), [3, 4]),
        (datetime(2026, 11, 26, tzinfo=UTC), []),
        (datetime(2020, 1, 1, tzinfo=UTC), [1, 2, 3, 4]),
    ],
    ids=str,
)
def test_from_where_told(store: TestedStore, told: Told, start: int | datetime, expected: list[int]) -> None:
    """`start` may be a number or a time, and takes effect once."""
    for number in range(1, 5):
        told.go(number, created=f"2026-11-25T{10 + number}:00:00" if number != 3 else "2026-11-25T12:00:00")
    told.transactions[2]["updated"] = "2026-11-25T11:30:00"
    for _ in range(2):
        with catcher(store, told, start=start) as caught:
            look(caught)
        assert store.jobs() == expected
    told.asked.clear()
    with catcher(store, told, start=start) as caught:
        look(caught)
    assert told.asked == ["list"]


def test_from_the_last_announced(store: TestedStore, told: Told) -> None:
    """On a ledger without a follower, the search starts after the last announced transaction."""
    told.go(*range(1, 7))
    store.deliver(2, 4, 3, told=told)
    with catcher(store, told) as caught:
        look(caught)
    assert store.jobs() == [5, 6]


def test_site_of_its_own_identity(store: TestedStore, told: Told) -> None:
    """The site's source and form of eventID are learnt from delivered notifications."""
    site = Identity(source="https://example.org/7/t/{id}", event_id="example.{id}")
    told.go(*range(1, 4))
    store.deliver(1, told=told, identity=site)
    with catcher(store, told) as caught:
        look(caught)
    assert store.jobs() == [2, 3]
    store.deliver(2, 3, told=told, identity=site)
    assert store.jobs(Origin.DELIVERED) == [1]


def test_number_of_somebodys_own(store: TestedStore, told: Told, caught: CatchUp) -> None:
    """A stray is taken, and the follower stays with the other transactions."""
    told.go(4, 10**9)
    for _ in range(2):
        look(caught)
    assert store.jobs() == [4, 10**9]
    assert follower(store) == (5, 4)
    told.go(5)
    look(caught)
    assert store.jobs() == [4, 5, 10**9]


@pytest.mark.usefixtures("hurried")
def test_number_of_somebodys_own_that_cannot_be_read(store: TestedStore, told: Told, caught: CatchUp) -> None:
    """A stray for which metadata fails is asked for again, like any other transaction."""
    told.go(10**9)
    told.broken.add(10**9)
    told.go(4, created="2026-11-26T10:00:00")
    for _ in range(2):
        look(caught)
    assert (follower(store), store.jobs()) == ((5, 4), [4])
    told.broken.clear()
    told.asked.clear()
    caught.look(all_of_it=True)
    assert told.asked == ["list"]
    ask_again(caught, store)
    assert store.jobs() == [4, 10**9]


@pytest.mark.parametrize("others", [(1, 2, 3), (3,)], ids=["several", "one"])
def test_number_of_somebodys_own_at_the_beginning(store: TestedStore, told: Told, others: tuple[int, ...]) -> None:
    """A stray from before a new consumer's start does not move the follower, nor the end of an operator's range."""
    told.go(*others, 10**9)
    with catcher(store, told) as caught:
        look(caught)
        assert follower(store) == (4, 3)
        told.go(4)
        look(caught)
        assert 4 in store.jobs()
        assert caught.numbers(2, None) == range(2, 5)
        assert caught.numbers(2, datetime(2027, 1, 1, tzinfo=UTC)) == range(2, 5)
        assert caught.numbers(10**9, 10**9) == range(10**9, 10**9 + 1)


@pytest.mark.parametrize("count", [15, 80])
def test_site_that_numbers_anew(store: TestedStore, told: Told, caught: CatchUp, count: int) -> None:
    """When many numbers are far above, the follower moves there, and earlier missed transactions are still found."""
    anew = range(10**6, 10**6 + count)
    told.go(4, *anew)
    for _ in range(2):
        look(caught)
    assert store.jobs() == [4, *anew]
    assert follower(store) == (anew.stop, anew.stop - 1)


def test_long_range_holds_up_nothing(store: TestedStore, told: Told, caught: CatchUp) -> None:
    """A newly missed transaction is found before the end of a long range that is being checked."""
    told.add(*range(4, 1000))
    store.deliver(*range(4, 1000), told=told)
    look(caught)
    span = store.coverage.add_span(range(1, 1000))
    assert caught.work()
    told.go(1000)
    caught.look(all_of_it=True)
    assert caught.work()
    assert 1000 in store.jobs()
    assert store.coverage.span(span.id) is not None


def test_what_cannot_be_decided(store: TestedStore, told: Told, caught: CatchUp) -> None:
    """A transaction on which the filter fails is set aside, and does not count as recovered."""
    told.go(4)
    readers = Readers(Triage(name="mine", filter=FailingFilter()))
    with contextlib.closing(readers), catcher(TestedStore(store.ledger, readers), told) as undecided:
        look(undecided)
    assert (store.jobs(), store.coverage.counts().recovered) == ([], 0)
    assert store.ledger.count_verdicts()[Verdict.UNDECIDABLE] == 1


class Frail:
    """A store whose disk fails after a number of notifications."""

    def __init__(self, store: TestedStore, after: int) -> None:
        self._desk, self._left = store, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._desk, name)

    def recover(self, announced: TriagedTransaction) -> Receipt:
        if self._left <= 0:
            raise StateError("the disk is full")
        self._left -= 1
        return self._desk.recover(announced)


@settings(max_examples=10)
@given(
    kinds=st.lists(st.sampled_from(["go", "add", "own", "hidden", "none", "delivered"]), max_size=150),
    crashes=st.lists(st.integers(0, 30), max_size=4),
)
def test_crashes_lose_and_double_nothing(kinds: list[str], crashes: list[int]) -> None:
    """After an interruption at any point, each matching transaction is taken once, and no other."""
    with scratch_directory() as home, telling() as told:
        told.add(1)
        with store_at(home) as store, catcher(store, told) as caught:
            look(caught)
            for number, kind in enumerate(kinds, 2):
                if kind != "none":
                    getattr(told, kind if kind in ("add", "own") else "go")(number)
                if kind == "hidden":
                    told.hidden.add(number)
                if kind == "delivered":
                    store.deliver(number, told=told)
        for after in crashes:
            with (
                store_at(home) as store,
                catcher(Frail(store, after), told) as caught,
                contextlib.suppress(StateError),
            ):
                look(caught)
        with store_at(home) as store, catcher(store, told) as caught:
            look(caught)
            by_kind = {kind: [n for n, k in enumerate(kinds, 2) if k == kind] for kind in kinds}
            assert store.jobs() == by_kind.get("go", [])
            assert store.jobs(Origin.DELIVERED) == by_kind.get("delivered", [])


def test_stop(store: TestedStore, told: Told, caught: CatchUp) -> None:
    """A stop ends the search at any point, and unchecked transactions do not count as checked."""
    told.go(*range(4, 100))
    stop = threading.Event()

    class Stopping(list[object]):
        def append(self, asked: object) -> None:
            super().append(asked)
            if len(self) == 10:
                stop.set()

    with catcher(store, told, stop, rate=50.0) as slow:
        slow.look(all_of_it=True)
        told.asked = Stopping()
        with pytest.raises(Cancelled):
            slow.work()
    assert 10 <= len(told.asked) < 30
    look(caught)
    assert store.jobs() == list(range(4, 100))


def test_pace(store: TestedStore, told: Told, caught: CatchUp) -> None:
    """The requests to policy do not exceed `rate` per second."""
    told.add(*range(4, 44))
    with catcher(store, told, rate=200.0) as slow:
        started = time.monotonic()
        look(slow)
        assert time.monotonic() - started >= 39 / 200.0
