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
    """The result of the triage of a notification."""

    verdict: Verdict  #: the ledger changes it to `Verdict.DUPLICATE` if the notification arrived before
    title: str  #: the name of the notification in logs
    source: str | None = None
    event_id: str | None = None
    reason: str = ""  #: why the notification is undecidable, malformed or unreadable
    traceparent: str = ""


@attrs.frozen(kw_only=True)
class Triage:
    """Decides about the notifications for one consumer."""

    name: str  #: by which the consumer's own uploads are recognized
    filter: Filter | None = None  #: None if all match
    strict: bool = False  #: whether a notification that violates CloudEvents is malformed
    max_depth: int = MAX_DEPTH  #: of nesting; a deeper notification is malformed

    def settings(self) -> dict[str, Any]:
        """The arguments in a form that JSON can represent, for `from_settings`."""
        jsonpath = None if self.filter is None else self.filter.jsonpath
        return {"name": self.name, "jsonpath": jsonpath, "strict": self.strict, "max_depth": self.max_depth}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Make a triage from the result of `settings`."""
        jsonpath = settings["jsonpath"]
        filter_ = None if jsonpath is None else Filter(jsonpath)
        # Settings that an older version wrote contain no depth.
        max_depth = settings.get("max_depth", MAX_DEPTH)
        return cls(name=settings["name"], filter=filter_, strict=settings["strict"], max_depth=max_depth)

    def decide(self, body: bytes) -> Decision:
        """Triage a notification as received."""
        try:
            notification = Notification.parse(body, max_depth=self.max_depth)
        except NotificationError as error:
            verdict = Verdict.MALFORMED if is_json(body) else Verdict.UNREADABLE
            return Decision(verdict=verdict, title="(not a notification)", reason=str(error))
        verdict, reason = self._verdict(notification)
        # Without an identity, a malformed notification does not make a later, correct one a duplicate.
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
            return Verdict.MALFORMED, f"the notification is not a valid CloudEvent: {'; '.join(problems)}"
        if (expires_at := notification.expires_at) is not None and expires_at < time.time():
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
    """The notification that a transaction would have had, and the result of its triage."""

    decision: Decision
    body: bytes = attrs.field(repr=False)
    created: str  #: when the transaction was made, in ISO 8601, in UTC without a zone


def triage_transaction(triage: Triage, answer: bytes, identity: Identity) -> TriagedTransaction | None:
    """Triage a transaction, as policy returned it, as if it had been announced; None if it does not exist.

    A NotificationError is raised if the response of policy reports an error or is incomplete.
    """
    if (transaction := read_transaction(answer)) is None:
        return None
    body = announce(transaction, identity)
    return TriagedTransaction(decision=triage.decide(body), body=body, created=transaction["created"])
