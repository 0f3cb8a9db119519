"""The trace that a transaction belongs to, as far as somebody follows it through all programs that handle it.

It is named by a ``traceparent``: https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping

#: In which variable an entry-point finds it.
TRACE_VARIABLE = "TRACEPARENT"
#: What it is called in requests and in notifications.
TRACE_HEADER = "traceparent"

_FORM = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?")


def read_traceparent(value: object) -> str:
    """Take over a ``traceparent`` from outside; empty if it is none, as the specification wants it to be ignored."""
    if not isinstance(value, str) or len(value) > 200:
        return ""
    found = _FORM.fullmatch(value.strip())
    # Of a later version, what this one defines is passed on; what comes behind that, nobody here understands.
    if found is None or (found[1] == "00" and len(value.strip()) != 55):
        return ""
    return "00" + value.strip()[2:55]


def child_of(traceparent: str) -> str:
    """Name a new piece of work in the same trace; empty if there is none."""
    if not traceparent:
        return ""
    version, trace_id, _, flags = traceparent.split("-")
    return f"{version}-{trace_id}-{secrets.token_hex(8)}-{flags}"


def trace_id(traceparent: str) -> str:
    """The number of the trace; empty if there is none."""
    return traceparent.split("-")[1] if traceparent else ""


def trace_headers(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a request has to carry to belong to the trace of this process."""
    traceparent = read_traceparent((os.environ if environ is None else environ).get(TRACE_VARIABLE))
    return {TRACE_HEADER: traceparent} if traceparent else {}
