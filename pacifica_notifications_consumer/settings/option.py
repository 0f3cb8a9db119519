"""Where settings come from: a flag, else an environment variable, else an INI file, else a default.

All three names of a setting derive from one: ``cartd_url`` is ``--cartd-url``, ``PACIFICA_CARTD_URL`` and the key
``cartd_url`` of the section ``[pacifica-notifications-consumer]``. After the variables, and after the file, comes what
people have set for Pacifica's own clients.
"""

from __future__ import annotations

import configparser
import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from ..errors import ConfigurationError
from . import official_clients

SECTION = "pacifica-notifications-consumer"
PREFIX = "PACIFICA_"


@attrs.frozen(kw_only=True)
class Option:
    """One setting: its names, its meaning, and how its text becomes a value.

    Args:
        name: The key in the INI file, from which the flag and the variable derive.
        help: What it is for, as ``--help`` shows it.
        convert: Makes the value of the text; raises `ValueError` with the reason.
        default: The value when nothing sets it.
        metavar: What stands for the value in ``--help``; None for an option that is on or off.
        has_flag: False for a secret, which must not stand on a command line.
        part_of: The setting that this one is a detail of; where that is set in a foremost place, this one is not.
        secret: Whether a password may be a part of it: then it is not shown, and not taken from the command line.
    """

    name: str
    help: str
    convert: Callable[[str], Any] = str
    default: Any = None
    metavar: str | None = "TEXT"
    has_flag: bool = True
    part_of: str = ""
    secret: bool = False

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return PREFIX + self.name.upper()


def read_ini(path: Path, options: Iterable[Option], *, strict: bool = True) -> dict[str, str]:
    """Read the settings of an INI file.

    Raises:
        ConfigurationError: It cannot be read, is no INI file, or has a key that is no option's.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"), source=str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(f"cannot read the configuration {path}: {reason}") from error
    except configparser.Error as error:
        # The message of configparser quotes whole lines, a password among them perhaps.
        line = getattr(error, "lineno", None)
        where = f" (line {line})" if line else ""
        raise ConfigurationError(
            f"{path}{where} is not a well-formed INI file",
            f"let it be [{SECTION}] with lines of the form key = value",
        ) from None
    if SECTION not in parser:
        raise ConfigurationError(f"{path} has no section [{SECTION}]", "put the settings below that heading")
    values = {key.replace("-", "_"): value for key, value in parser[SECTION].items()}
    known = [option.name for option in options]
    for key in values:
        if strict and key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            advice = f"did you mean {close[0]}?" if close else "known are " + ", ".join(sorted(known))
            raise ConfigurationError(f"{path} sets {key}, which is no setting", advice)
    return values


def resolve(
    options: Iterable[Option],
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    ini: Path | None = None,
    *,
    strict: bool = True,
) -> dict[str, Any]:
    """Find the value of each option.

    Args:
        options: What to find.
        flags: The texts given on the command line, by the options' names; None where a flag was not given.
        environ: The environment's variables.
        ini: The INI file, if there is one.
        strict: Whether a key that is none of these options is a mistake.

    Returns:
        The converted values by the options' names; ``password`` holds what ``password_file`` names.

    Raises:
        ConfigurationError: A value is wrong, or the INI file is.
    """
    options = tuple(options)
    filed = read_ini(ini, options, strict=strict) if ini else {}
    others = official_clients.from_variables(environ), official_clients.from_file(environ)
    values: dict[str, Any] = {}
    ranks: dict[str, int] = {}
    for option in options:
        sources = (
            (flags.get(option.name), option.flag),
            (environ.get(option.variable) or None, option.variable),
            others[0].get(option.name, (None, "")),
            (filed.get(option.name), f"{option.name} in {ini}"),
            others[1].get(option.name, (None, "")),
        )
        values[option.name] = option.default
        for rank, (text, source) in enumerate(sources):
            if text is not None:
                if rank == 0 and option.secret and "@" in text:
                    raise ConfigurationError(
                        f"{source} has a password, which everybody on this machine could read there",
                        f"set {option.variable}, or {option.name} in an INI file",
                    )
                values[option.name] = _convert(option, text, source)
                ranks[option.name] = rank
                break
    if "password_file" in ranks and ranks["password_file"] <= ranks.get("password", len(sources)):
        if ranks["password_file"] == ranks.get("password"):
            raise ConfigurationError("both password and password_file are set in one place", "keep one of them")
        values["password"] = _read_password(values["password_file"])
    for option in options:
        if ranks.get(option.part_of, len(sources)) < ranks.get(option.name, len(sources)):
            values[option.name] = option.default
    return values


def _convert(option: Option, text: Any, source: str) -> Any:
    try:
        return option.convert(text)
    except ValueError as error:
        shown = f" ({text!r})" if option.has_flag and not option.secret else ""
        raise ConfigurationError(f"{source}{shown} is not usable: {error}") from None


def _read_password(path: Path) -> str:
    try:
        password = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise ConfigurationError(f"cannot read the password file {path}: {reason}") from None
    if not password:
        raise ConfigurationError(f"the password file {path} is empty", "write the password into its first line")
    return password


CONFIG_VARIABLE = PREFIX + "CONFIG"
