"""Commits the notifications that arrive at the same time in one SQL statement.

Python lets other threads run at each statement, which may take 5 ms each time. With the beginning and the
end of a transaction, and a statement or two for each notification, a commit of a few took three times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from sqlite3 import Connection

import attrs

from ..jobs.job import Origin, Receipt, Verdict
from ..jobs.triage import Decision
from . import statements

# Known notifications are skipped. A trigger adds the jobs.
_ADD = """
INSERT INTO notifications (id, received_at, source, event_id, title, verdict, reason, body, body_file, origin,
    traceparent)
VALUES {rows}
ON CONFLICT DO NOTHING
"""
_ADDED = "SELECT id FROM notifications WHERE id > ?"


@attrs.frozen(kw_only=True)
class Arrival:
    """A notification that will be committed."""

    received_at: float  #: in seconds since 1970
    decision: Decision
    body: bytes | None  #: if it is kept in the database
    body_file: str | None  #: the name of the body's file, if it is kept in one
    origin: Origin


class Arrivals:
    """Adds notifications, and for each matching notification a job of the same number.

    The numbers are assigned here, so only one instance may add notifications to a ledger.
    """

    def __init__(self, connection: Connection) -> None:
        (self._highest,) = connection.execute(statements.HIGHEST_NOTIFICATION).fetchone()

    def add(self, connection: Connection, arrivals: Sequence[Arrival]) -> list[Receipt]:
        """Add some notifications, of which known ones become duplicates; returns their receipts in the same order.

        Outside of a transaction, each statement is committed by itself, and usually there is one.
        """
        before = self._highest
        numbered = list(enumerate(arrivals, before + 1))
        # These numbers are not assigned again, even if the statement fails.
        self._highest += len(arrivals)
        added = _add(connection, [_row(number, arrival) for number, arrival in numbered])
        duplicates: set[int] = set()
        if added < len(arrivals):
            known = {number for (number,) in connection.execute(_ADDED, (before,))}
            duplicates = {number for number, _ in numbered} - known
            _add(connection, [_row_of_duplicate(number, each) for number, each in numbered if number in duplicates])
        return [_receipt(number, arrival.decision, number in duplicates) for number, arrival in numbered]


def _add(connection: Connection, rows: Sequence[tuple[object, ...]]) -> int:
    return connection.execute(_statement(len(rows)), [value for row in rows for value in row]).rowcount


@lru_cache(maxsize=256)
def _statement(rows: int) -> str:
    return _ADD.format(rows=", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"] * rows))


def _row(number: int, arrival: Arrival) -> tuple[object, ...]:
    decision = arrival.decision
    return (
        number,
        arrival.received_at,
        decision.source,
        decision.event_id,
        decision.title,
        decision.verdict.value,
        decision.reason,
        arrival.body,
        arrival.body_file,
        arrival.origin.value,
        decision.traceparent or None,
    )


def _row_of_duplicate(number: int, arrival: Arrival) -> tuple[object, ...]:
    decision = attrs.evolve(arrival.decision, verdict=Verdict.DUPLICATE, reason="")
    return _row(number, attrs.evolve(arrival, decision=decision, body=None, body_file=None))


def _receipt(number: int, decision: Decision, duplicate: bool) -> Receipt:
    if duplicate:
        return Receipt(notification_id=number, verdict=Verdict.DUPLICATE)
    job_id = number if decision.verdict is Verdict.MATCHED else None
    return Receipt(notification_id=number, verdict=decision.verdict, job_id=job_id, reason=decision.reason)
