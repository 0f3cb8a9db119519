"""How the texts of settings become values, and values texts; each reader raises `ValueError` with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

_T = TypeVar("_T")
_Word = TypeVar("_Word", bound=str)


def url(text: str) -> str:
    """Check an address such as ``https://pacifica.example.org:8070/path``."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it must look like http://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials do not belong into it: use `username` and `password_file`")
    if parts.query or parts.fragment:
        raise ValueError("it must end with its path")
    _ = parts.port  # raises a ValueError of its own for a bad port
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
        raise ValueError("it must be yes, no, or the path of an existing file with certificates")
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
    if not (number := byte_count(text)):
        raise ValueError("it must be at least 1")
    return number


def size_limit(text: str) -> int | None:
    """Read a number of bytes that limits something, with K, M, G or T behind it; 0 stands for no limit."""
    return byte_count(text) or None


def byte_count(text: str) -> int:
    """Read a number of bytes, with K, M, G or T behind it."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise ValueError("it must be a number of bytes, such as 500M or 8G")
    return int(found[1]) * _SIZES[found[2].upper()]


def show_size(number: int) -> str:
    """A number of bytes, as `size` reads it."""
    return _whole_units(number, _SIZES)


def describe_size(number: int) -> str:
    """A number of bytes for people, such as 1.5 MiB."""
    unit, factor = max((item for item in _SIZES.items() if item[1] <= max(number, 1)), key=lambda item: item[1])
    return f"{number / factor:.1f} {unit}iB" if unit else f"{number} B"


def _whole_units(value: float, units: Mapping[str, int]) -> str:
    unit, factor = max((item for item in units.items() if value % item[1] == 0), key=lambda item: item[1])
    return f"{int(value // factor)}{unit}"


_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
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
        raise ValueError("the file does not exist")
    return str(Path(text).absolute())


def age_and(text: str, read: Callable[[str], _T], form: str) -> tuple[float | None, _T | None]:
    """Read an age such as ``30d``, something else, or both with a comma between.

    Args:
        text: The text.
        read: Reads the part that is not an age.
        form: How the text must look, for the error.

    Returns:
        The seconds of the age, and the other value; None for the one that is not given.
    """
    parts = [part.strip() for part in text.split(",")]
    ages = [float(int(found[1]) * _AGES[found[2]]) for part in parts if (found := _AGE.fullmatch(part))]
    try:
        others = [read(part) for part in parts if not _AGE.fullmatch(part)]
    except ValueError:
        raise ValueError(f"it must be {form}") from None
    if len(ages) > 1 or len(others) > 1:
        raise ValueError(f"it must be {form}")
    return ages[0] if ages else None, others[0] if others else None


def show_age(seconds: float) -> str:
    """An age, as `age_and` reads it."""
    return _whole_units(seconds, _AGES)


_AGE = re.compile(r"(\d+)([smhdw])")
_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def module_names(text: str) -> tuple[str, ...]:
    """Read the names of modules, with spaces, commas or line ends between, and ``#`` before what is none.

    Raises:
        ValueError: One of them cannot be a module's name.
    """
    words = " ".join(line.partition("#")[0] for line in text.splitlines()).replace(",", " ").split()
    for word in words:
        if not all(part.isidentifier() for part in word.split(".")):
            raise ValueError(f"{word!r} cannot be the name of a module")
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


def one_of(*words: _Word) -> Callable[[str], _Word]:
    """Make a reader of one of some words."""

    def read(text: str) -> _Word:
        if text not in words:
            raise ValueError(f"it must be {' or '.join(words)}")
        return words[words.index(text)]

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


#: What stands for the value in a command's help, by the function that reads it.
PLACEHOLDERS: dict[Callable[[str], object], str] = {
    consumer_name: "NAME",
    count: "N",
    count_limit: "N",
    existing_file: "FILE",
    limit: "SECONDS",
    lost_after: "SECONDS",
    port: "PORT",
    rate: "N",
    seconds: "SECONDS",
    size: "BYTES",
    size_limit: "BYTES",
    transaction_or_time: "ID|TIME",
    url: "URL",
    url_with_path: "URL",
    whole: "N",
}
