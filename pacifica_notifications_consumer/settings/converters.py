"""Readers that make values of the texts of settings, and the reverse, and check arguments like settings.

Each reader raises `ValueError` with the reason.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ..errors import ConfigurationError

_T = TypeVar("_T")
_Word = TypeVar("_Word", bound=str)


def url(text: str) -> str:
    """Check an address such as ``https://pacifica.example.org:8070/path``."""
    if not text.isprintable() or " " in text:
        raise ValueError("it must not contain blanks")
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        (parts.hostname or "").encode("idna")
    except UnicodeError:
        raise ValueError("a part of the host's name is empty or too long") from None
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"it must look like http://HOST:PORT, with a port from 1 to {_LARGEST_PORT}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials do not belong into it: use `username` and `password_file`")
    if parts.query or parts.fragment:
        raise ValueError("it must end with its path")
    return text.rstrip("/")


def url_with_path(text: str) -> str:
    """Check an address such as ``https://proxy.example.org/consumer/receive``."""
    if not urlsplit(url(text)).path:
        raise ValueError("it must end with the path that leads to the endpoint's /receive")
    return text


def header_text(text: str) -> str:
    """Check a text for an HTTP header."""
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
    if text.lower() not in _SWITCH:
        raise ValueError("it must be yes or no")
    return _SWITCH[text.lower()]


_SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def size(text: str) -> int:
    """Read a number of bytes, at least 1, with an optional K, M, G or T after it."""
    if not (number := byte_count(text)):
        raise ValueError("it must be at least 1")
    return number


def byte_count(text: str) -> int:
    """Read a number of bytes, with an optional K, M, G or T (1024 and its powers) after it."""
    found = _SIZE.fullmatch(text)
    if not found or (number := int(found[1]) * _SIZES[found[2].upper()]) > _MOST_BYTES:
        raise ValueError("it must be a number of bytes, such as 500M or 8G, at most 1000000T")
    return number


def show_size(number: int) -> str:
    """A number of bytes, as `size` reads it."""
    return _whole_units(number, _SIZES)


def describe_size(number: int) -> str:
    """A number of bytes for readers, such as 1.5 MiB."""
    unit, factor = [item for item in _SIZES.items() if item[1] <= max(number, 1)][-1]
    return f"{number / factor:.1f} {unit}iB" if unit else f"{number} B"


def _whole_units(value: float, units: Mapping[str, int]) -> str:
    unit, factor = [item for item in units.items() if value % item[1] == 0][-1]
    return f"{int(value // factor)}{unit}"


_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"(\d{1,19})([KMGT]?)", re.IGNORECASE)
_MOST_BYTES = 10**6 << 40  # the system can hold up to 2**63 - 1


def authentication(text: str) -> str:
    """Read the kind of authentication."""
    return one_of(*AUTHENTICATIONS)(text.lower())


AUTHENTICATIONS = ("none", "basic", "clientssl", "gssapi")


def path(text: str) -> Path:
    """Read a path."""
    if not text or "\0" in text:
        raise ValueError("it must be the path of a file or directory")
    return Path(text)


def existing_file(text: str) -> str:
    """Check the path of an existing file."""
    if not os.path.isfile(text):  # noqa: PTH113  (a Path raises PermissionError)
        raise ValueError("it must be the path of an existing file")
    return str(Path(text).absolute())


def age_and(text: str, read: Callable[[str], _T], form: str) -> tuple[float | None, _T | None]:
    """Read an age such as ``30d`` in seconds, another value with ``read``, or both with a comma between; else None."""
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


_AGE = re.compile(r"(\d{1,9})([smhdw])")
_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def module_names(text: str) -> tuple[str, ...]:
    """Read names of modules, separated by spaces, commas or line ends; comments begin with ``#``."""
    words = " ".join(line.partition("#")[0] for line in text.splitlines()).replace(",", " ").split()
    for word in words:
        if not all(part.isidentifier() for part in word.split(".")):
            raise ValueError(f"{word!r} cannot be the name of a module")
    return tuple(words)


_ORIGIN = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?")
_LARGEST_PORT, _LONGEST_NAME, _LONGEST_NUMBER = 65535, 200, 18
_SHORTEST_LOSS = 20.0
#: Limits that SQLite and timers can hold, and of things that have a thread each (with `engine` celery, most just wait).
_MOST, _MOST_SECONDS, _MOST_CONCURRENT = 10**9, 10.0**9, 1000


def whole_number(text: str, least: int, most: int = _MOST) -> int:
    """Read a whole number within limits."""
    try:
        number = int(text)  # raises a ValueError also for thousands of digits
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise ValueError(f"it must be a whole number from {least} to {most:,}")
    return number


#: Read the number of a port, of things, of things or none, and of things that run at the same time.
port = functools.partial(whole_number, least=0, most=_LARGEST_PORT)
count = functools.partial(whole_number, least=1)
whole = functools.partial(whole_number, least=0)
concurrency = functools.partial(whole_number, least=1, most=_MOST_CONCURRENT)


def seconds(text: str) -> float:
    """Read a duration in seconds."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= _MOST_SECONDS:
        raise ValueError(f"it must be a number of seconds from 0 to {_MOST_SECONDS:,.0f}")
    return number


def _limit(read: Callable[[str], _T]) -> Callable[[str], _T | None]:
    return lambda text: read(text) or None


#: Read a limit of a duration in seconds, of a number, and of a number of bytes; 0 stands for no limit.
limit, count_limit, size_limit = _limit(seconds), _limit(whole), _limit(byte_count)


def one_of(*words: _Word) -> Callable[[str], _Word]:
    """Make a reader that accepts only these words; a command's help shows them as the placeholder."""

    def read(text: str) -> _Word:
        if text not in words:
            raise ValueError(f"it must be {listed(words)}")
        return words[words.index(text)]

    PLACEHOLDERS[read] = "|".join(words)
    return read


def listed(words: Sequence[str]) -> str:
    """Alternatives, for a sentence."""
    return f"{', '.join(words[:-1])} or {words[-1]}" if words[1:] else words[0]


def counted(number: int, thing: str) -> str:
    """A number of things, for a sentence."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def consumer_name(text: str) -> str:
    """Read a consumer's name, after which its default state directory is named, too."""
    if not header_text(text) or "/" in text or text.startswith(".") or len(text) > _LONGEST_NAME:
        raise ValueError(f"it must be at most {_LONGEST_NAME} characters, without / and not start with a dot")
    return text


def transaction_or_time(text: str) -> int | datetime:
    """Read the number of a transaction, or a time, by default in this machine's zone."""
    if text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER:
        return int(text)
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise ValueError("it must be the number of a transaction, or a time such as 2026-11-24T18:00") from None


def lost_after(text: str) -> float:
    """Read the seconds of silence after which a worker counts as lost."""
    number = seconds(text)
    if number < _SHORTEST_LOSS:
        raise ValueError(f"it must be {_SHORTEST_LOSS:g} seconds or more, to leave a worker time to end its jobs")
    return number


def origins(text: str) -> tuple[str, ...]:
    """Read names of senders, separated by commas."""
    names = tuple(name.strip().lower() for name in text.split(","))
    if not all(name == "*" or _ORIGIN.fullmatch(name) for name in names):
        raise ValueError("it must be names such as events.example.org, with commas between, or *")
    return names


def rate(text: str) -> float:
    """Read a rate per second."""
    if not (number := seconds(text)):
        raise ValueError("it must be more than 0 a second")
    return number


#: The placeholder of the value in a command's help, by the function that reads it; None for a switch.
PLACEHOLDERS: dict[Callable[[str], object], str | None] = {
    Path: "FILE",
    consumer_name: "NAME",
    concurrency: "N",
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
    switch: None,
    transaction_or_time: "ID|TIME",
    url: "URL",
    url_with_path: "URL",
    whole: "N",
}


def check(read: Callable[[str], object], /, *, none: bool = False, show: bool = True, **arguments: object) -> None:
    """Check arguments with the reader of such a setting; raises `ConfigurationError` with the argument's name."""
    for name, value in arguments.items():
        if none and value is None:
            continue
        if isinstance(value, Real):
            value = min(max(value, -(10**19)), 10**19)  # Python refuses to show numbers of thousands of digits
        text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
        try:
            found = read(text)
            problem = ""
            if found is None:
                problem = "it must be more than 0; None stands for no limit"
            elif isinstance(found, str | Path) != isinstance(value, str | os.PathLike):
                problem = "it must be a text" if isinstance(found, str | Path) else "give the value, not its text"
        except ValueError as error:
            problem = str(error)
        if problem:
            shown = f"{text if isinstance(value, os.PathLike) else repr(value):.200}" if show else "this text"
            raise ConfigurationError(f"`{name}` cannot be {shown}", problem)


def checked(read: Callable[[str], object], *, none: bool = False, show: bool = True) -> Any:
    """Make a validator of an attrs field for texts and numbers, as `check`; other values check themselves."""

    def validate(_: object, field: Any, value: object) -> None:
        if isinstance(value, str | Real) or (value is None and not none and field.default is not None):
            check(read, show=show, **{field.alias: value})  # type: ignore[arg-type]

    return validate
