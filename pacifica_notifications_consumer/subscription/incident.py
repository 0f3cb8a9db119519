"""An incident: a period in which notifications of the producer may have been missed."""

from __future__ import annotations

import enum

import attrs


class IncidentKind(enum.Enum):
    """The cause of an incident."""

    #: The producer had disabled the subscription after an error status, or a failed connection.
    DISABLED = "disabled"
    #: The subscription had been deleted.
    DELETED = "deleted"
    #: The subscription had another target, other credentials or another filter.
    CHANGED = "changed"
    #: The state of the subscription was unknown, because the producer could not be reached.
    UNREACHABLE = "unreachable"
    #: The subscription of an earlier run still existed, but no consumer was running.
    LEFT_BEHIND = "left behind"


@attrs.frozen(kw_only=True)
class Incident:
    """An incident of a subscription.

    Args:
        kind: The cause.
        since: The last time that the subscription was healthy, in seconds since 1970; None if unknown.
        until: The time of the repair, in seconds since 1970.
        detail: The producer's error message, or another detail; may be empty.
    """

    kind: IncidentKind
    since: float | None
    until: float
    detail: str = ""
