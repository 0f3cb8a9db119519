"""What clients may cost a server."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class ServerLimits:
    """What clients may cost a server.

    Args:
        head: Bytes that the line and the header fields of a request may have. Proxies commonly allow 8 to 64 KiB.
        fields: How many header fields there may be.
        connections: How many connections may wait; beyond that, the one that has waited longest is closed. Each is an
            open file.
        threads: How many requests that take time are served at the same time, large bodies above all.
        head_seconds: Seconds in which the head of a request, and a small body, must be there.
        idle_seconds: Seconds that a client may say nothing between two requests.
        stall_seconds: Seconds that it may say nothing in the middle of a large body, or take nothing of an answer.
        body_seconds: Seconds in which a large body must be there; for each 50 kB it is given one more.
    """

    head: int = 64 << 10
    fields: int = 100
    connections: int = 4096
    threads: int = 128
    head_seconds: float = 10.0
    idle_seconds: float = 60.0
    stall_seconds: float = 10.0
    body_seconds: float = 30.0
