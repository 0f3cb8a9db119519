"""How the texts of settings become values; each function raises `ValueError` with the reason when one cannot."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit


def url(text: str) -> str:
    """Check an address such as ``https://pacifica.example.org:8070/path``."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it must look like http://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials do not belong into it: use --username and --password-file")
    if parts.query or parts.fragment:
        raise ValueError("it must end with its path")
    _ = parts.port  # raises a ValueError of its own when it is no port
    return text.rstrip("/")


def url_with_path(text: str) -> str:
    """Check an address such as ``https://proxy.example.org/consumer/receive``."""
    if not urlsplit(url(text)).path:
        raise ValueError("it must end with the path that leads to the endpoint's /receive")
    return text


def header_text(text: str) -> str:
    """Check a text that is to stand in an HTTP header."""
    if not (text and text.isascii() and text.isprintable()):
        raise ValueError("it must be printable ASCII, and not empty")
    return text


def ca_bundle(text: str) -> str | bool:
    """Read how servers' certificates are verified: yes, no, or against the authorities in a file."""
    if text.lower() in _SWITCH:
        return _SWITCH[text.lower()]
    if not Path(text).exists():
        raise ValueError("it must be yes, no, or a file with certificates, and there is no such file")
    return str(Path(text).absolute())


def switch(text: str) -> bool:
    """Read yes or no."""
    try:
        return _SWITCH[text.lower()]
    except KeyError:
        raise ValueError("it must be yes or no") from None


_SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def size(text: str) -> int:
    """Read a number of bytes of which there must be one at least, with K, M, G or T behind it."""
    number = size_limit(text)
    if number is None:
        raise ValueError("it must be at least 1")
    return number


def size_limit(text: str) -> int | None:
    """Read a number of bytes that limits something, with K, M, G or T behind it; 0 stands for no limit."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise ValueError("it must be a number of bytes, such as 500M or 8G")
    return int(found[1]) << (10 * " KMGT".index((found[2] or " ").upper())) or None


_SIZE = re.compile(r"(\d{1,15})([KMGT]?)", re.IGNORECASE)


def authentication(text: str) -> str:
    """Read the kind of authentication."""
    if text.lower() not in AUTHENTICATIONS:
        raise ValueError(f"it must be one of {', '.join(AUTHENTICATIONS)}")
    return text.lower()


AUTHENTICATIONS = ("none", "basic", "clientssl", "gssapi")


def existing_file(text: str) -> str:
    """Check the path of a file that must be there."""
    if not Path(text).is_file():
        raise ValueError("there is no such file")
    return str(Path(text).absolute())


_AGE = re.compile(r"(\d+)([smhdw])")
#: Seconds in the units of an age.
AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def age_or_number(text: str, read_number: Callable[[str], int | None], error: str) -> tuple[float | None, int | None]:
    """Read an age such as ``30d`` in seconds, a number, or both with a comma between; `error` says what is accepted."""
    age: float | None = None
    number: int | None = None
    for part in (part.strip() for part in text.split(",")):
        if age is None and (found := _AGE.fullmatch(part)):
            age = float(int(found[1]) * AGES[found[2]])
        elif number is None and (read := read_number(part)) is not None:
            number = read
        else:
            raise ValueError(error)
    return age, number


def module_names(text: str) -> tuple[str, ...]:
    """Read the names of modules, with spaces, commas or line ends between, and ``#`` before what is none.

    Raises:
        ValueError: One of them cannot be a module's name.
    """
    words = " ".join(line.partition("#")[0] for line in text.splitlines()).replace(",", " ").split()
    for word in words:
        if not all(part.isidentifier() for part in word.split(".")):
            raise ValueError(f"{word!r} is no name of a module")
    return tuple(words)


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
