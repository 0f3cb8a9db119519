"""Trying again what failed for a moment: when, how long to wait, and when to give up."""

from __future__ import annotations

import email.utils
import logging
import random
import time
from collections.abc import Iterator
from http import HTTPStatus

import requests

log = logging.getLogger(__name__)

#: Statuses by which a service, or what stands before it, says that another try may work.
TRANSIENT_STATUSES = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
#: Seconds before the second try, at most before any, and at most if the service itself says how long.
_FIRST_PAUSE, _LONGEST_PAUSE, _LONGEST_RETRY_AFTER = 0.5, 30.0, 300.0


def growing_pause(failures: int, first: float, longest: float) -> float:
    """Seconds to wait after so many failures in a row: doubled each time, and shortened by up to a half.

    That is at random, so that many who wait for the same thing do not come back all at once.

    Args:
        failures: How many, 1 at least.
        first: Seconds after the first one, at most.
        longest: Seconds after any, at most.
    """
    return min(first * 2.0 ** min(failures - 1, 30), longest) * random.uniform(0.5, 1.0)  # noqa: S311


class Backoff:
    """The pauses between the tries of one thing.

    Args:
        tries: How often it is tried in all.
    """

    def __init__(self, tries: int) -> None:
        self._tries = tries
        self.reset()

    def reset(self) -> None:
        """Begin anew, since there was progress."""
        self._left = self._tries - 1
        self._failures = 0

    def pause(self, problem: object, retry_after: float | None = None) -> bool:
        """Wait before another try; False, at once, when there are none left.

        Args:
            problem: What failed, for the log.
            retry_after: Seconds that the service asks for; when it asks for too long, there is no other try.
        """
        if self._left <= 0 or (retry_after or 0) > _LONGEST_RETRY_AFTER:
            return False
        self._left -= 1
        self._failures += 1
        seconds = retry_after
        if seconds is None:
            seconds = growing_pause(self._failures, _FIRST_PAUSE, _LONGEST_PAUSE)
        log.warning("%s; trying again in %.1f s", problem, seconds)
        time.sleep(seconds)
        return True


def retry_after(response: requests.Response) -> float | None:
    """How many seconds an answer asks to wait, if it says so (RFC 9110, section 10.2.3)."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


#: Between two looks passes about a fifth of the time that it has taken so far, within these seconds.
_FIRST_LOOK, _GROWTH, _LONGEST_LOOK = 0.02, 1.2, 1.0


def pauses() -> Iterator[float]:
    """Yield the seconds to wait before each further look, for ever."""
    pause = _FIRST_LOOK
    while True:
        yield pause
        pause = min(pause * _GROWTH, _LONGEST_LOOK)
