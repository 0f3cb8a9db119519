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
    """

    head: int = 64 << 10
    fields: int = 100
    connections: int = 4096
    threads: int = 128
