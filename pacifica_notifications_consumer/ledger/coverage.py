"""Which transactions have been looked at, whether or not anybody announced them."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Sequence
from sqlite3 import Connection
from typing import Any

import attrs

from .database import Database

#: The number of the span that follows the newest transaction.
FOLLOWER = 0

# An index knows those that are no duplicates.
_KNOWN = "SELECT received_at FROM notifications WHERE source = ? AND event_id = ? AND verdict <> 'duplicate'"
# Of many that were recovered in a row it does not go through all.
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
# One that is known to be open keeps its age.
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


@attrs.frozen(kw_only=True)
class Span:
    """A range of transactions that is to be looked at.

    Args:
        id: Its number; `FOLLOWER` for the one that follows the newest transaction.
        next: The first that has not been looked at.
        last: The last that is to be.
    """

    id: int
    next: int
    last: int


@attrs.frozen(kw_only=True)
class Gap:
    """A transaction that policy did not know, or could not tell of, when it was asked.

    Args:
        transaction_id: Its number.
        since: When it was first asked for, in seconds since 1970.
        ask_at: When it is asked for again.
        problem: Why policy could not tell; empty if it said that there is none.
    """

    transaction_id: int
    since: float
    ask_at: float
    problem: str = ""


@attrs.frozen(kw_only=True)
class MissedCounts:
    """How many transactions nobody announced to us.

    Args:
        recovered: Those that were taken all the same.
        refused: Those that match, but that the user may not see.
        unknown: Those that policy does not know (yet), or cannot tell of, and that are asked for again.
    """

    recovered: int
    refused: int
    unknown: int


class Coverage:
    """What the ledger holds of that.

    Args:
        database: The ledger's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, identities: Iterable[tuple[str, str]]) -> list[float | None]:
        """When notifications came, in seconds since 1970; None for those that did not.

        Args:
            identities: Their ``source`` and ``eventID``.
        """
        with self._database.reading() as connection:
            rows = [connection.execute(_KNOWN, identity).fetchone() for identity in identities]
        return [row[0] if row else None for row in rows]

    def last_delivered(self, limit: int) -> list[tuple[str, str]]:
        """``source`` and ``eventID`` of the notifications that were delivered last, the last one first."""
        return self._database.read(_LAST_DELIVERED, limit)

    def spans(self) -> list[Span]:
        """What is to be looked at, the follower first."""
        return [Span(id=number, next=next_, last=last) for number, next_, last in self._database.read(_SPANS)]

    def span(self, number: int) -> Span | None:
        """One of the spans; None when all of it has been looked at, unless it is the follower."""
        rows = self._database.read(_ONE_SPAN, number)
        return Span(id=number, next=rows[0][1], last=rows[0][2]) if rows else None

    def follow(self, span: Span, newest: tuple[int, str] | None = None) -> None:
        """Put the follower where it is to go on, and note what was seen to be the newest transaction.

        Args:
            span: The follower.
            newest: The number of that, and when it was last changed, as policy writes it.
        """

        def follow(connection: Connection) -> None:
            connection.execute(_PUT_SPAN, (FOLLOWER, span.next, span.last))
            if newest is not None:
                connection.execute(_PUT_FACT, ("newest", json.dumps(newest)))

        self._database.write(follow)

    @property
    def newest(self) -> tuple[int, str] | None:
        """The newest transaction that was seen, and when it was last changed."""
        newest = self.fact("newest")
        return (newest[0], newest[1]) if newest else None

    def add_span(self, numbers: range) -> Span:
        """Have some transactions looked at, besides those that the follower gets to."""
        first, last = numbers[0], numbers[-1]

        def add(connection: Connection) -> Span:
            return Span(id=connection.execute(_ADD_SPAN, (first, last)).fetchone()[0], next=first, last=last)

        return self._database.write(add)

    def advance(self, span: Span, next_: int, gaps: Collection[Gap] = (), refused: int = 0) -> None:
        """Note that a span has been looked at up to a transaction, and what is open before it."""

        def advance(connection: Connection) -> None:
            connection.execute(_ADVANCE_SPAN, (next_, span.id))
            connection.execute(_DROP_SPANS)
            _put_gaps(connection, gaps)
            _count_refused(connection, refused)

        self._database.write(advance)

    def due_gaps(self, limit: int) -> list[Gap]:
        """The gaps that are to be asked for again, those first that wait longest."""
        return [
            Gap(transaction_id=number, since=since, ask_at=ask_at, problem=problem)
            for number, since, ask_at, problem in self._database.read(_DUE_GAPS, time.time(), limit)
        ]

    def next_gap(self) -> float | None:
        """When the next gap is to be asked for, in seconds since 1970; None if there is none."""
        due: float | None = self._database.read(_NEXT_GAP)[0][0]
        return due

    def settle(self, closed: Collection[int], open_: Collection[Gap], refused: int = 0) -> None:
        """Note that gaps are closed, and that others stay open."""

        def settle(connection: Connection) -> None:
            connection.executemany(_CLOSE_GAP, [(number,) for number in closed])
            _put_gaps(connection, open_)
            _count_refused(connection, refused)

        self._database.write(settle)

    def counts(self) -> MissedCounts:
        """How many transactions nobody announced."""
        tally: dict[str, int] = dict(self._database.read(_TALLY))
        (unknown,) = self._database.read(_COUNT_GAPS)[0]
        return MissedCounts(recovered=tally.get("recovered", 0), refused=tally.get("refused", 0), unknown=unknown)

    def last_incident(self) -> int:
        """The number of the newest incident, 0 if there was none."""
        number: int = self._database.read(_INCIDENTS)[0][0]
        return number

    def fact(self, name: str) -> Any:
        """What was put under a name; None if nothing was."""
        rows = self._database.read(_FACT, name)
        return json.loads(rows[0][0]) if rows else None

    def put_fact(self, name: str, value: Any) -> None:
        """Keep something under a name.

        Args:
            name: The name.
            value: What JSON can say.
        """
        if self.fact(name) == value:
            return
        row = (name, json.dumps(value))
        self._database.write(lambda connection: connection.execute(_PUT_FACT, row) and None)


def _put_gaps(connection: Connection, gaps: Collection[Gap]) -> None:
    rows: Sequence[tuple[object, ...]] = [(gap.transaction_id, gap.since, gap.ask_at, gap.problem) for gap in gaps]
    connection.executemany(_PUT_GAP, rows)


def _count_refused(connection: Connection, refused: int) -> None:
    if refused:
        connection.execute(_COUNT, ("refused", refused))
