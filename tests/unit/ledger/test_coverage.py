"""What the ledger records of the transactions that catch-up examines."""

import time

from pacifica_notifications_consumer.jobs.job import Origin, Verdict
from pacifica_notifications_consumer.ledger.coverage import FOLLOWER, Gap, MissedCounts, Span
from pacifica_notifications_consumer.ledger.ledger import Ledger
from pacifica_notifications_consumer.subscription.incident import Incident, IncidentKind
from tests.unit.ledger.ledger_tools import accept, decided


def test_spans(ledger: Ledger) -> None:
    """Spans are examined from their first transaction to their last, and then forgotten; the follower stays."""
    coverage = ledger.coverage
    assert (coverage.spans(), coverage.span(FOLLOWER), coverage.newest) == ([], None, None)
    coverage.follow(Span(FOLLOWER, 5, 9), (9, "2026-11-25T10:00:00"))
    history = coverage.add_span(range(1, 5))
    assert history == Span(1, 1, 4)
    assert coverage.spans() == [Span(FOLLOWER, 5, 9), history]
    coverage.advance(history, 3)
    assert coverage.span(history.id) == Span(1, 3, 4)
    assert coverage.span(FOLLOWER) == Span(FOLLOWER, 5, 9)
    coverage.advance(history, 5)
    assert coverage.span(history.id) is None
    coverage.advance(Span(FOLLOWER, 5, 9), 10)
    assert (coverage.spans(), coverage.span(FOLLOWER)) == ([], Span(FOLLOWER, 10, 9))
    coverage.follow(Span(FOLLOWER, 10, 12), (12, "2026-11-25T11:00:00"))
    assert coverage.spans() == [Span(FOLLOWER, 10, 12)]
    assert coverage.newest == (12, "2026-11-25T11:00:00")
    # The number of a span that was forgotten is not given to another.
    assert coverage.add_span(range(20, 21)) == Span(2, 20, 20)


def test_gaps(ledger: Ledger) -> None:
    """The gap that has waited longest for its next request comes first; one that stays keeps the time of its first."""
    coverage = ledger.coverage
    assert (coverage.due_gaps(10), coverage.next_gap()) == ([], None)
    now = time.time()
    later = Gap(1, now, now + 1000)
    due = [Gap(2, now - 20, now - 10), Gap(3, now - 30, now - 20, "policy is down")]
    coverage.advance(coverage.add_span(range(1, 9)), 4, [later, *due])
    assert coverage.due_gaps(10) == [due[1], due[0]]
    assert coverage.due_gaps(1) == [due[1]]
    assert coverage.next_gap() == now - 20
    assert coverage.counts() == MissedCounts(recovered=0, refused=0, unknown=3)
    coverage.settle([2], [Gap(3, now, now + 500, "still down")])
    assert coverage.due_gaps(10) == []
    assert coverage.next_gap() == now + 500
    assert coverage.counts().unknown == 2
    ledger._database.change("UPDATE gaps SET ask_at = 0")
    assert coverage.due_gaps(10)[-1] == Gap(3, now - 30, 0, "still down")


def test_counts(ledger: Ledger) -> None:
    """Refused transactions are counted, whether they were found in a span or among the gaps, and recovered ones."""
    coverage = ledger.coverage
    span = coverage.add_span(range(1, 9))
    coverage.advance(span, 3, refused=2)
    coverage.advance(span, 4)
    coverage.settle([], [], refused=3)
    ledger.accept([(decided(1), b"{}")], Origin.RECOVERED)
    accept(ledger, 2)
    assert coverage.counts() == MissedCounts(recovered=1, refused=5, unknown=0)


def test_what_has_arrived(ledger: Ledger) -> None:
    """Notifications are known by source and event id; the latest of those that were delivered come first."""
    coverage = ledger.coverage
    assert coverage.last_delivered(10) == []
    before = time.time()
    accept(ledger, 1)
    accept(ledger, 2, Verdict.UNMATCHED)
    ledger.accept([(decided(3), b"{}")], Origin.RECOVERED)
    accept(ledger, 4, source=None)
    accept(ledger, 1)
    known = coverage.known([("here", "e.1"), ("there", "e.1"), ("here", "e.3"), ("here", "e.4")])
    assert [arrived is not None for arrived in known] == [True, False, True, False]
    assert all(before <= arrived <= time.time() for arrived in known if arrived is not None)
    # That of the duplicate, too, since it was delivered.
    assert coverage.last_delivered(10) == [("here", "e.1"), ("here", "e.2"), ("here", "e.1")]
    assert coverage.last_delivered(1) == [("here", "e.1")]


def test_facts(ledger: Ledger) -> None:
    """A fact is a value that JSON can represent; the last one stays."""
    coverage = ledger.coverage
    assert (coverage.fact("name"), coverage.last_incident()) == (None, 0)
    for value in ({"a": [1, None]}, "text", "text", False):
        coverage.put_fact("name", value)
        assert coverage.fact("name") == value
    assert coverage.fact("other") is None
    ledger.note_incident(Incident(kind=IncidentKind.DELETED, since=None, until=3.0))
    ledger.note_incident(Incident(kind=IncidentKind.DELETED, since=None, until=4.0))
    assert coverage.last_incident() == 2
