"""Limits on the resources that clients may use."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class ServerLimits:
    """Limits on the resources that clients of a server may use.

    Args:
        head: Maximum size of the request line and header fields, in bytes. Proxies commonly allow 8 to 64 KiB.
        fields: Maximum number of header fields.
        connections: Maximum number of idle connections; beyond that, the connection that has waited longest is closed.
            Each takes an open file.
        threads: Maximum number of requests that are served on threads at the same time: those with large bodies, and
            all to a handler that is not `Handler.quick`.
        head_seconds: Seconds within which the head of a request, and a small body, must have arrived.
        idle_seconds: Seconds that a connection may be idle between two requests.
        stall_seconds: Seconds without progress after which the transfer of a large body or of a response is given up.
        body_seconds: Seconds within which a large body must have arrived, plus one for each 50 kB.
    """

    head: int = 64 << 10
    fields: int = 100
    connections: int = 4096
    threads: int = 128
    head_seconds: float = 10.0
    idle_seconds: float = 60.0
    stall_seconds: float = 10.0
    body_seconds: float = 30.0
