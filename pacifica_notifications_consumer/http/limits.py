"""What clients may cost a server."""

from __future__ import annotations

import attrs

from ..settings.converters import count, size
from ..settings.option import documented, setting


@documented
@attrs.frozen(kw_only=True)
class ServerLimits:
    """What clients may cost a server.

    Args:
        fields: How many header fields there may be.
        head_seconds: Seconds in which the head of a request, and a small body, must be there.
        idle_seconds: Seconds that a client may say nothing between two requests.
        stall_seconds: Seconds that it may say nothing in the middle of a large body, or take nothing of an answer.
        body_seconds: Seconds in which a large body must be there; for each 50 kB it is given one more.
    """

    head: int = setting(
        "bytes that the line and the header fields of a request may have; proxies commonly allow 8K to 64K",
        size,
        name="max_head",
        default=64 << 10,
    )
    connections: int = setting(
        "how many connections may wait; when there are more, the one that has waited longest is closed; each is an "
        "open file",
        count,
        name="max_connections",
        default=4096,
    )
    threads: int = setting(
        "how many requests with large bodies are read at the same time, each by a thread; others wait for their turn",
        count,
        name="max_slow_requests",
        default=128,
    )
    fields: int = 100
    head_seconds: float = 10.0
    idle_seconds: float = 60.0
    stall_seconds: float = 10.0
    body_seconds: float = 30.0
