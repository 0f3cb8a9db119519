"""Retries after transient errors: on which errors, after which pause, and how often."""

from __future__ import annotations

import email.utils
import logging
import random
import time
from collections.abc import Iterator
from http import HTTPStatus

import requests

log = logging.getLogger(__name__)

#: Statuses after which another try may work; a service or a proxy in front of it sends them.
TRANSIENT_STATUSES = frozenset(
    {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
)
#: Seconds before the second try; before any try, at most; and the longest accepted ``Retry-After``.
_FIRST_PAUSE, _LONGEST_PAUSE, _LONGEST_RETRY_AFTER = 0.5, 30.0, 300.0


def growing_pause(failures: int, first: float, longest: float) -> float:
    """Seconds to wait after failures in a row: doubled at each failure, and shortened by a random part up to a half.

    The random part keeps many clients of the same service from retrying all at once.
    """
    return min(first * 2.0 ** min(failures - 1, 30), longest) * random.uniform(0.5, 1.0)  # noqa: S311


class Backoff:
    """The pauses between the tries of a request or transfer; the first try counts."""

    def __init__(self, tries: int) -> None:
        self._tries = tries
        self.reset()

    def reset(self) -> None:
        """Start counting anew, after progress."""
        self._left = self._tries - 1
        self._failures = 0

    def pause(self, problem: object, retry_after: float | None = None) -> bool:
        """Log the problem, and wait before another try; False, without waiting, if there is to be no other.

        There is none after the last try, or if the service asks to wait for more than 5 minutes.
        """
        if self._left <= 0 or (retry_after or 0) > _LONGEST_RETRY_AFTER:
            return False
        self._left -= 1
        self._failures += 1
        growing = growing_pause(self._failures, _FIRST_PAUSE, _LONGEST_PAUSE)
        seconds = growing if retry_after is None else retry_after
        log.warning("%s; trying again in %.1f s", problem, seconds)
        time.sleep(seconds)
        return True


def retry_after(response: requests.Response) -> float | None:
    """The seconds to wait by a response's ``Retry-After`` (RFC 9110, section 10.2.3); None if it has none."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


#: Seconds of the first and the longest pause between two polls. With this factor, each pause is about a fifth of the
#: time that has passed so far.
_FIRST_POLL_PAUSE, _POLL_PAUSE_FACTOR, _LONGEST_POLL_PAUSE = 0.02, 1.2, 1.0


def pauses() -> Iterator[float]:
    """Yield the seconds to wait before each further poll, without end."""
    pause = _FIRST_POLL_PAUSE
    while True:
        yield pause
        pause = min(pause * _POLL_PAUSE_FACTOR, _LONGEST_POLL_PAUSE)
