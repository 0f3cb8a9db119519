"""The log of requests without the right credentials."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)


class Strangers:
    """Logs refused requests, at most one line a second, so that no client can fill the disk with them."""

    def __init__(self, listener: str) -> None:
        self._listener = listener
        self._count = 0
        self._told_at = float("-inf")

    def note(self, address: str) -> None:
        """Note a request by the client's address."""
        self._count += 1
        if time.monotonic() - self._told_at >= 1.0:
            more = f" ({self._count - 1} more since the last line)" if self._count > 1 else ""
            log.warning("refused %s to %s: the credentials are missing or wrong%s", address, self._listener, more)
            self._count, self._told_at = 0, time.monotonic()
