"""An incident: a time in which the producer may have announced transactions that this consumer was not told of."""

from __future__ import annotations

import enum

import attrs


class IncidentKind(enum.Enum):
    """What was the matter with a subscription."""

    #: The producer had switched it off after a bad answer of ours, or a connection that failed.
    DISABLED = "disabled"
    #: It was gone.
    DELETED = "deleted"
    #: It led elsewhere, or carried other credentials or another filter than ours.
    CHANGED = "changed"
    #: The producer could not be asked, so that nobody knows; or not yet, at the start.
    UNREACHABLE = "unreachable"
    #: An earlier run left it behind, and nobody listened since.
    LEFT_BEHIND = "left behind"


@attrs.frozen(kw_only=True)
class Incident:
    """What happened to a subscription, and when notifications may have been missed.

    Args:
        kind: What happened.
        since: The last time that all was known to be well, in seconds since 1970; None if that was never known.
        until: When it was mended, in seconds since 1970.
        detail: What the producer says of it, in words; may be empty.
    """

    kind: IncidentKind
    since: float | None
    until: float
    detail: str = ""
