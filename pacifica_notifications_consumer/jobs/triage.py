"""Triage: decides for each notification whether it gets a job."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self

import attrs

from ..cloudevents.announcement import Identity, announce, read_transaction
from ..cloudevents.notification import MAX_DEPTH, Notification, is_json
from ..cloudevents.validation import problems_of
from ..errors import FilterError, NotificationError
from ..filter.filter import Filter
from .job import Verdict


@attrs.frozen(kw_only=True)
class Decision:
    """What is to become of a notification.

    Args:
        verdict: That; the ledger may still find it a duplicate.
        title: How to call it in a log.
        source: The producer's ``source``, None if it has none.
        event_id: The producer's ``eventID``, None if it has none.
        reason: Why it is undecidable, malformed or unreadable, in words.
        traceparent: Names the trace that it belongs to; empty if it says none.
    """

    verdict: Verdict
    title: str
    source: str | None = None
    event_id: str | None = None
    reason: str = ""
    traceparent: str = ""


@attrs.frozen(kw_only=True)
class Triage:
    """Judges the notifications for one consumer.

    Args:
        name: The consumer's name, by which it knows its own uploads.
        filter: Which notifications match; None means all.
        strict: Whether one that is not as CloudEvents demands is malformed.
        max_depth: How deep one may be nested; one that is deeper is malformed.
    """

    name: str
    filter: Filter | None = None
    strict: bool = False
    max_depth: int = MAX_DEPTH

    def settings(self) -> dict[str, Any]:
        """What JSON can say of it, for `from_settings`."""
        jsonpath = None if self.filter is None else self.filter.jsonpath
        return {"name": self.name, "jsonpath": jsonpath, "strict": self.strict, "max_depth": self.max_depth}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Make the triage again of which `settings` told.

        Raises:
            FilterError: The JSONPath cannot be parsed.
        """
        jsonpath = settings["jsonpath"]
        filter_ = None if jsonpath is None else Filter(jsonpath)
        # An older version wrote no depth down.
        max_depth = settings.get("max_depth", MAX_DEPTH)
        return cls(name=settings["name"], filter=filter_, strict=settings["strict"], max_depth=max_depth)

    def decide(self, body: bytes) -> Decision:
        """Triage a notification.

        Args:
            body: As it was received.
        """
        try:
            notification = Notification.parse(body, max_depth=self.max_depth)
        except NotificationError as error:
            verdict = Verdict.MALFORMED if is_json(body) else Verdict.UNREADABLE
            return Decision(verdict=verdict, title="(not a notification)", reason=str(error))
        verdict, reason = self._verdict(notification)
        # What is refused does not take the place of a better one that may come.
        identified = verdict is not Verdict.MALFORMED
        return Decision(
            verdict=verdict,
            title=notification.title,
            source=notification.source if identified else None,
            event_id=notification.event_id if identified else None,
            reason=reason,
            traceparent=notification.traceparent,
        )

    def _verdict(self, notification: Notification) -> tuple[Verdict, str]:
        if self.strict and (problems := problems_of(notification.event)):
            return Verdict.MALFORMED, f"the notification is no valid CloudEvent: {'; '.join(problems)}"
        expires_at = notification.expires_at
        if expires_at is not None and expires_at < time.time():
            return Verdict.EXPIRED, ""
        if self.name in notification.consumers:
            return Verdict.OWN, ""
        try:
            matches = self.filter is None or self.filter.matches(notification.event)
        except FilterError as error:
            return Verdict.UNDECIDABLE, str(error)
        return (Verdict.MATCHED if matches else Verdict.UNMATCHED), ""


@attrs.frozen(kw_only=True)
class TriagedTransaction:
    """A transaction as if it had been announced.

    Args:
        decision: What is to become of the notification.
        body: The notification.
        created: When the transaction was made: ISO 8601 in UTC, without zone.
    """

    decision: Decision
    body: bytes = attrs.field(repr=False)
    created: str


def triage_transaction(triage: Triage, answer: bytes, identity: Identity) -> TriagedTransaction | None:
    """Triage a transaction as if it had been announced.

    Args:
        triage: Judges its notification.
        answer: What policy tells of it.
        identity: What the site's notifications carry.

    Returns:
        The notification and the decision; None if there is no such transaction.

    Raises:
        NotificationError: policy could not tell, or not all.
    """
    transaction = read_transaction(answer)
    if transaction is None:
        return None
    body = announce(transaction, identity)
    return TriagedTransaction(decision=triage.decide(body), body=body, created=transaction["created"])
