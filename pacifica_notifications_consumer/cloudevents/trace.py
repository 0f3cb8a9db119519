"""Distributed tracing: passes on the ``traceparent`` of a notification to entry-points and requests.

The format is defined in https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping

#: The environment variable of an entry-point.
TRACE_VARIABLE = "TRACEPARENT"
#: The header field of requests, and the attribute of notifications.
TRACE_HEADER = "traceparent"

_FORM = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?")


def read_traceparent(value: object) -> str:
    """Validate a received ``traceparent``; empty if it is malformed, as the specification wants it to be ignored."""
    if not isinstance(value, str) or len(value) > 200:
        return ""
    found = _FORM.fullmatch(value.strip(" \t"))
    # See "Versioning of traceparent" there: of a later version, only the fields of version 00 are used.
    if found is None or (found[1] == "00" and len(value.strip(" \t")) != 55):
        return ""
    return "00" + value.strip(" \t")[2:55]


def child_of(traceparent: str) -> str:
    """The ``traceparent`` of a new span in the same trace; empty without a trace."""
    if not traceparent:
        return ""
    version, trace_id, _, flags = traceparent.split("-")
    return f"{version}-{trace_id}-{secrets.token_hex(8)}-{flags}"


def trace_id(traceparent: str) -> str:
    """The id of the trace; empty without a trace."""
    return traceparent.split("-")[1] if traceparent else ""


def trace_headers(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The header fields with which a request belongs to the trace of this process, or of another environment."""
    traceparent = read_traceparent((os.environ if environ is None else environ).get(TRACE_VARIABLE))
    return {TRACE_HEADER: traceparent} if traceparent else {}
