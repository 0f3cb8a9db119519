"""Records which transactions catch-up has examined, to find those that were never announced to this consumer."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable
from sqlite3 import Connection
from typing import Any

import attrs

from .database import Database

#: The number of the span that ends at the newest transaction and grows with it.
FOLLOWER = 0

# Served by the index notifications_by_identity, which excludes duplicates.
_KNOWN = "SELECT received_at FROM notifications WHERE source = ? AND event_id = ? AND verdict <> 'duplicate'"
# The lower bound limits the search when many notifications in a row were recovered, not delivered.
_LAST_DELIVERED = """
SELECT source, event_id FROM notifications
WHERE id > (SELECT max(id) FROM notifications) - 10000
    AND origin = 'delivered' AND source IS NOT NULL AND event_id IS NOT NULL
ORDER BY id DESC LIMIT ?
"""
_SPANS = "SELECT id, next, last FROM spans WHERE next <= last ORDER BY id"
_ONE_SPAN = "SELECT id, next, last FROM spans WHERE id = ?"
_ADD_SPAN = "INSERT INTO spans (next, last) VALUES (?, ?) RETURNING id"
_PUT_SPAN = """
INSERT INTO spans (id, next, last) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET next = excluded.next, last = excluded.last
"""
_ADVANCE_SPAN = "UPDATE spans SET next = ? WHERE id = ?"
_DROP_SPANS = "DELETE FROM spans WHERE id > 0 AND next > last"
_DUE_GAPS = "SELECT transaction_id, since, ask_at, problem FROM gaps WHERE ask_at <= ? ORDER BY ask_at LIMIT ?"
_NEXT_GAP = "SELECT min(ask_at) FROM gaps"
_COUNT_GAPS = "SELECT count(*) FROM gaps"
# A gap that is already recorded keeps its `since`.
_PUT_GAP = """
INSERT INTO gaps (transaction_id, since, ask_at, problem) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET ask_at = excluded.ask_at, problem = excluded.problem
"""
_CLOSE_GAP = "DELETE FROM gaps WHERE transaction_id = ?"
_COUNT = "INSERT INTO tally VALUES ('missed', ?, ?) ON CONFLICT DO UPDATE SET number = number + excluded.number"
_TALLY = "SELECT word, number FROM tally WHERE kind = 'missed'"
_INCIDENTS = "SELECT coalesce(max(id), 0) FROM incidents"
_FACT = "SELECT value FROM facts WHERE name = ?"
_PUT_FACT = "INSERT INTO facts VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"


@attrs.frozen
class Span:
    """A range of transactions to examine."""

    id: int  #: `FOLLOWER` for the span that ends at the newest transaction
    next: int  #: the first transaction that has not been examined
    last: int


@attrs.frozen
class Gap:
    """An examined transaction that policy did not know, or for which the request to policy failed."""

    transaction_id: int
    since: float  #: the time of the first request, in seconds since 1970
    ask_at: float  #: the time of the next request, in seconds since 1970
    problem: str = ""  #: why the request failed; empty if policy does not know the transaction


@attrs.frozen(kw_only=True)
class MissedCounts:
    """The numbers of transactions that were not announced to this consumer.

    Args:
        recovered: Transactions for which catch-up added a notification.
        refused: Transactions that match, but that the user is not permitted to see.
        unknown: Transactions that policy does not know yet or failed to report, which catch-up requests again.
    """

    recovered: int
    refused: int
    unknown: int


class Coverage:
    """The part of the ledger that records the examined transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, identities: Iterable[tuple[str, str]]) -> list[float | None]:
        """Look up by ``source`` and ``eventID`` when notifications arrived, in seconds since 1970; None if not yet."""
        with self._database.reading() as connection:
            rows = [connection.execute(_KNOWN, identity).fetchone() for identity in identities]
        return [row[0] if row else None for row in rows]

    def last_delivered(self, limit: int) -> list[tuple[str, str]]:
        """``source`` and ``eventID`` of the latest delivered notifications, the latest first."""
        return self._database.read(_LAST_DELIVERED, limit)

    def spans(self) -> list[Span]:
        """The spans that are not completely examined, the follower first."""
        return [Span(*row) for row in self._database.read(_SPANS)]

    def span(self, number: int) -> Span | None:
        """The span with a number; None if it has been examined completely (the follower remains)."""
        rows = self._database.read(_ONE_SPAN, number)
        return Span(*rows[0]) if rows else None

    def follow(self, span: Span, newest: tuple[int, str]) -> None:
        """Save the follower, and the newest transaction's number and time of its last change, as policy formats it."""

        def follow(connection: Connection) -> None:
            connection.execute(_PUT_SPAN, (FOLLOWER, span.next, span.last))
            connection.execute(_PUT_FACT, ("newest", json.dumps(newest)))

        self._database.write(follow)

    @property
    def newest(self) -> tuple[int, str] | None:
        """The number of the newest transaction that was seen, and the time of its last change."""
        newest = self.fact("newest")
        return (newest[0], newest[1]) if newest else None

    def add_span(self, numbers: range) -> Span:
        """Add a span of transactions to examine in addition to the follower."""
        ends = numbers[0], numbers[-1]
        return Span(self._database.write(lambda connection: connection.execute(_ADD_SPAN, ends).fetchone()[0]), *ends)

    def advance(self, span: Span, next_: int, gaps: Collection[Gap] = (), refused: int = 0) -> None:
        """Record the progress of a span: the first transaction that has not been examined, and the results before it.

        `refused` is the number of matching transactions that the user is not permitted to see.
        """

        def advance(connection: Connection) -> None:
            connection.execute(_ADVANCE_SPAN, (next_, span.id))
            connection.execute(_DROP_SPANS)
            _put_results(connection, gaps, refused)

        self._database.write(advance)

    def due_gaps(self, limit: int) -> list[Gap]:
        """The gaps whose next request is due, the longest overdue first."""
        return [Gap(*row) for row in self._database.read(_DUE_GAPS, time.time(), limit)]

    def next_gap(self) -> float | None:
        """The time of the next request for a gap, in seconds since 1970; None without gaps."""
        due: float | None = self._database.read(_NEXT_GAP)[0][0]
        return due

    def settle(self, closed: Collection[int], open_: Collection[Gap], refused: int = 0) -> None:
        """Record the results of requests for gaps: the closed ones by their numbers, and the ones that remain.

        `refused` is the number of matching transactions that the user is not permitted to see.
        """

        def settle(connection: Connection) -> None:
            connection.executemany(_CLOSE_GAP, [(number,) for number in closed])
            _put_results(connection, open_, refused)

        self._database.write(settle)

    def counts(self) -> MissedCounts:
        """Count the transactions that were not announced."""
        tally: dict[str, int] = dict(self._database.read(_TALLY))
        (unknown,) = self._database.read(_COUNT_GAPS)[0]
        return MissedCounts(recovered=tally.get("recovered", 0), refused=tally.get("refused", 0), unknown=unknown)

    def last_incident(self) -> int:
        """The number of the newest incident; 0 without incidents."""
        number: int = self._database.read(_INCIDENTS)[0][0]
        return number

    def fact(self, name: str) -> Any:
        """The value that was stored under a name; None without one."""
        rows = self._database.read(_FACT, name)
        return json.loads(rows[0][0]) if rows else None

    def put_fact(self, name: str, value: Any) -> None:
        """Store a value that JSON can represent under a name."""
        if self.fact(name) != value:
            self._database.change(_PUT_FACT, name, json.dumps(value))


def _put_results(connection: Connection, gaps: Collection[Gap], refused: int) -> None:
    connection.executemany(_PUT_GAP, [attrs.astuple(gap) for gap in gaps])
    if refused:
        connection.execute(_COUNT, ("refused", refused))
