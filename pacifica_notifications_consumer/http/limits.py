"""Limits on the resources that clients may use."""

from __future__ import annotations

import attrs

from ..settings.converters import concurrency, count, size
from ..settings.option import documented, setting


@documented
@attrs.frozen(kw_only=True)
class ServerLimits:
    """Limits on the resources that clients of a server may use.

    Args:
        fields: Maximum number of header fields.
        head_seconds: Seconds within which the head of a request, and a small body, must have arrived.
        idle_seconds: Seconds that a connection may be idle between two requests.
        stall_seconds: Seconds without progress after which the transfer of a large body or of a response is given up.
        body_seconds: Seconds within which a large body must have arrived, plus one for each 50 kB.
        held: The most bytes that all connections may hold of requests that have not arrived in whole; beyond that, the
            connection that has held some for the longest time is closed.
    """

    head: int = setting(
        "the largest request line and header fields in bytes; proxies commonly allow 8K to 64K",
        size,
        name="max_head",
        default=64 << 10,
    )
    connections: int = setting(
        "the most open connections that wait for requests; a further one closes the one that has waited longest; each "
        "takes a file descriptor",
        count,
        name="max_connections",
        default=4096,
    )
    threads: int = setting(
        "the most requests with large bodies that are read at the same time, each by a thread; others wait",
        concurrency,
        name="max_slow_requests",
        default=128,
    )
    fields: int = 100
    head_seconds: float = 10.0
    idle_seconds: float = 60.0
    stall_seconds: float = 10.0
    body_seconds: float = 30.0
    held: int = 32 << 20
