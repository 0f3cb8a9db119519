"""The log of requests without the right credentials."""

from __future__ import annotations

import logging
import threading
import time

log = logging.getLogger(__name__)

#: The usual reason to refuse a request.
WRONG = "the credentials are missing or wrong"
#: Seconds between two lines.
_INTERVAL = 60.0


class Strangers:
    """Logs refused requests, at most one line a minute, so that no client can fill the disk with them."""

    def __init__(self, listener: str) -> None:
        self._listener = listener
        self._count = 0
        self._told_at = float("-inf")
        self._lock = threading.Lock()

    def note(self, address: str, reason: str = WRONG) -> None:
        """Note a request by the client's address, and why it is refused."""
        with self._lock:
            self._count += 1
            if time.monotonic() - self._told_at < _INTERVAL:
                return
            more = f" ({self._count - 1} more since the last line)" if self._count > 1 else ""
            self._count, self._told_at = 0, time.monotonic()
        log.warning("refused %s to %s: %s%s", address, self._listener, reason, more)
