"""How the texts of settings become values; each function raises `ValueError` with the reason when one cannot."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

from pacifica_notifications_consumer.environment.cache import CacheLimits
from pacifica_notifications_consumer.jobs.retention import Keep
from pacifica_notifications_consumer.settings.option import header_text

_LARGEST_PORT = 65535
_ORIGIN = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?")
_LONGEST_NAME = 200
_SHORTEST_LOSS = 20.0


def port(text: str) -> int:
    """Read the number of a port; 0 stands for any free one."""
    return whole_number(text, 0, _LARGEST_PORT)


def count(text: str) -> int:
    """Read a number of things of which there must be one at least."""
    return whole_number(text, 1)


def whole_number(text: str, least: int, most: int | None = None) -> int:
    """Read a whole number within limits."""
    try:
        number = int(text)
    except ValueError:
        raise ValueError("it must be a whole number") from None
    if number < least or (most is not None and number > most):
        raise ValueError(f"it must be at least {least}" if most is None else f"it must be from {least} to {most}")
    return number


def seconds(text: str) -> float:
    """Read a duration."""
    try:
        number = float(text)
    except ValueError:
        raise ValueError("it must be a number of seconds") from None
    if not 0 <= number < float("inf"):
        raise ValueError("it must be a number of seconds, 0 or more")
    return number


def patience(text: str) -> float:
    """Read a duration that somebody is waited for."""
    if not (number := seconds(text)):
        raise ValueError("it must be more than 0")
    return number


def limit(text: str) -> float | None:
    """Read a duration that limits something; 0 stands for no limit."""
    return seconds(text) or None


def count_limit(text: str) -> int | None:
    """Read a number that limits something; 0 stands for no limit."""
    return whole_number(text, 0) or None


def whole(text: str) -> int:
    """Read a number of things of which there may be none."""
    return whole_number(text, 0)


def one_of(*words: str) -> Callable[[str], str]:
    """Make a reader of one of some words."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"it must be {' or '.join(words)}")
        return text

    return read


def keep(text: str) -> Keep:
    """Read which finished jobs are kept."""
    try:
        return Keep.parse(text)
    except ValueError:
        raise ValueError("it must be an age such as 30d or 12h, a number of jobs, or both, as in 30d,1000") from None


def cache_limits(text: str) -> CacheLimits:
    """Read which environments are kept in the cache."""
    try:
        return CacheLimits.parse(text)
    except ValueError:
        raise ValueError("it must be an age such as 30d or 12h, a size such as 20G, or both, as in 30d,20G") from None


def consumer_name(text: str) -> str:
    """Read a consumer's name, which also names its default state directory."""
    if not header_text(text) or "/" in text or text.startswith(".") or len(text) > _LONGEST_NAME:
        raise ValueError(f"it must be at most {_LONGEST_NAME} characters, without / and not start with a dot")
    return text


def transaction_or_time(text: str) -> int | datetime:
    """Read the number of a transaction, or a time, of this machine's zone unless it says another one."""
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise ValueError("it must be the number of a transaction, or a time such as 2026-11-24T18:00") from None


def lost_after(text: str) -> float:
    """Read after how many seconds a worker counts as lost."""
    number = seconds(text)
    if number < _SHORTEST_LOSS:
        raise ValueError(f"it must be {_SHORTEST_LOSS:g} seconds or more: in half of them a worker ends its jobs")
    return number


def origins(text: str) -> tuple[str, ...]:
    """Read names of senders, with commas between."""
    names = tuple(name.strip().lower() for name in text.split(","))
    if not all(name == "*" or _ORIGIN.fullmatch(name) for name in names):
        raise ValueError("it must be names such as events.example.org, with commas between, or *")
    return names


def rate(text: str) -> float:
    """Read how often something may be done in a second."""
    number = seconds(text)
    if number <= 0:
        raise ValueError("it must be more than 0 a second")
    return number
