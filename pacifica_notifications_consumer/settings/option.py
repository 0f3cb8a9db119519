"""Settings: fields of attrs classes, found in a flag, else an environment variable, else an INI file, else a default.

All names of a setting derive from its field: ``cartd_url`` is the flag ``--cartd-url``, the variable
``PACIFICA_CARTD_URL`` and the key ``cartd_url`` of the section ``[pacifica-notifications-consumer]``. The variables and
the file of Pacifica's own clients are read after the variables and the file of this package.

A message names a setting by its field in backticks; a command shows its flag and its variable instead.
"""

from __future__ import annotations

import configparser
import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, overload

import attrs

from ..errors import ConfigurationError
from . import official_clients
from .converters import PLACEHOLDERS, checked, show_size, size, size_limit

SECTION = "pacifica-notifications-consumer"
PREFIX = "PACIFICA_"
CONFIG_VARIABLE = PREFIX + "CONFIG"

#: The keys of a field's metadata: of its option, and of the class whose settings are its value.
_OPTION, _CLASS = "pacifica_option", "pacifica_class"
_T = TypeVar("_T")
_D = TypeVar("_D")


@attrs.frozen(kw_only=True)
class Option:
    """One setting: its names, its meaning, and how its text becomes a value."""

    #: The key in the INI file, from which the flag and the variable derive; by default the field's name.
    name: str = ""
    #: Its meaning; other settings stand in backticks.
    help: str
    #: Added to the help of commands only, such as the text for no limit.
    note: str = ""
    #: Makes the value of the text; raises `ValueError` with the reason.
    convert: Callable[[str], Any]
    default: Any = None
    #: The placeholder of the value in a command's help; None for a switch.
    metavar: str | None = attrs.field()
    #: The heading in a command's help; by default that of the field before it.
    group: str = ""
    has_flag: bool = True
    #: Whether a file may hold it, which the setting ``NAME_file`` names.
    in_file: bool = False
    #: A more general setting that overrides this one when it comes from a source of higher precedence.
    part_of: str = ""
    #: Whether it may contain a password: then it is not shown, and not taken from the command line.
    secret: bool = False

    @metavar.default
    def _placeholder(self) -> str | None:
        return PLACEHOLDERS.get(self.convert, "TEXT")

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return PREFIX + self.name.upper()

    @property
    def shown_default(self) -> str:
        """Its default as it would be written; empty for None."""
        if isinstance(self.default, bool):
            return "yes" if self.default else "no"
        if isinstance(self.default, tuple):
            return ",".join(self.default)
        if self.convert in (size, size_limit) and self.default:
            return show_size(self.default)
        if isinstance(self.default, float):
            return f"{self.default:g}"
        return "" if self.default is None else str(self.default)


@overload
def setting(help: str, convert: Callable[[str], _T], *, default: _D, **details: Any) -> _T | _D: ...
@overload
def setting(help: str, convert: Callable[[str], _T], *, default: None = None, **details: Any) -> _T | None: ...
def setting(help: str, convert: Callable[[str], Any], *, default: Any = None, **details: Any) -> Any:
    """Make a field of an attrs class that is a setting; the arguments are those of `Option`."""
    option = Option(help=help, convert=convert, default=default, **details)
    shown = not option.secret
    return attrs.field(default=default, validator=checked(convert, show=shown), repr=shown, metadata={_OPTION: option})


def settings_of(cls: type[_T], group: str) -> _T:
    """Make a field whose value is an instance of another class of settings, shown under one heading."""
    made: _T = attrs.field(factory=cls, metadata={_CLASS: cls, "group": group})
    return made


def documented(cls: type[_T]) -> type[_T]:
    """Add the settings of a class to the arguments in its docstring."""
    text = inspect.cleandoc(cls.__doc__ or "")
    lines = [] if "\nArgs:\n" in text else ["", "Args:"]
    for name, option in _own_options(cls):
        lines.append(f"    {name}: {option.help[0].upper()}{option.help[1:]}.".replace("`", "``"))
    cls.__doc__ = "\n".join([text, *lines])
    return cls


def options_of(cls: type[Any]) -> Iterator[Option]:
    """The settings of a class, in the order of its fields."""
    group = ""
    own = dict(_own_options(cls))
    for field in attrs.fields(cls):
        if inner := field.metadata.get(_CLASS):
            group = field.metadata["group"]
            yield from (attrs.evolve(option, group=group) for option in options_of(inner))
        elif option := own.get(field.name):
            group = option.group or group
            yield attrs.evolve(option, group=group)
            if option.in_file:
                help_text = f"a file that holds {option.help}"
                yield Option(name=f"{option.name}_file", help=help_text, convert=Path, group=group)


def _own_options(cls: type[Any]) -> Iterator[tuple[str, Option]]:
    """The options of a class itself, after the names of their fields."""
    for field in attrs.fields(cls):
        if option := field.metadata.get(_OPTION):
            yield field.name, attrs.evolve(option, name=option.name or field.name)


def environ_of(settings: Any) -> dict[str, str]:
    """The variables that pass settings on to another process; a missing one stands for None or True."""
    values = ((option, getattr(settings, name)) for name, option in _own_options(type(settings)))
    return {option.variable: str(value) for option, value in values if value is not None and value is not True}


def read_ini(path: Path, options: Iterable[Option], *, strict: bool = True) -> dict[str, str]:
    """Read the settings of an INI file; with ``strict``, refuse keys that are not settings."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"), source=str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(f"cannot read the configuration {path}: {reason}") from error
    except configparser.Error as error:
        # The message of configparser quotes whole lines, which may contain a password.
        line = getattr(error, "lineno", None)
        where = f" (line {line})" if line else ""
        raise ConfigurationError(
            f"{path}{where} is not a well-formed INI file",
            f"write [{SECTION}], and below it lines of the form key = value",
        ) from None
    if SECTION not in parser:
        raise ConfigurationError(f"{path} has no section [{SECTION}]", "write the settings below that heading")
    values = {key.replace("-", "_"): value for key, value in parser[SECTION].items()}
    known = [option.name for option in options]
    for key in values:
        if strict and key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            advice = f"did you mean {close[0]}?" if close else f"the settings are {', '.join(sorted(known))}"
            raise ConfigurationError(f"{path} sets {key}, which is not a setting", advice)
    return values


def resolve(
    cls: type[_T], flags: Mapping[str, Any], environ: Mapping[str, str], ini: Path | None = None, *, strict: bool = True
) -> _T:
    """Make an instance of a class from flags (None where not given), variables, and an INI file, if there is one.

    With ``strict``, a key of the file that is not one of these settings is refused.
    """
    options = tuple(options_of(cls))
    filed = read_ini(ini, options, strict=strict) if ini else {}
    others = official_clients.from_variables(environ), official_clients.from_file(environ)
    #: The values that are set, each with the rank of its source.
    found: dict[str, tuple[int, Any]] = {}
    for option in options:
        sources = (
            (flags.get(option.name), option.flag),
            (environ.get(option.variable) or None, option.variable),
            others[0].get(option.name, (None, "")),
            (filed.get(option.name), f"{option.name} in {ini}"),
            others[1].get(option.name, (None, "")),
        )
        for rank, (text, source) in enumerate(sources):
            if text is not None:
                if rank == 0 and option.secret and "@" in text:
                    raise ConfigurationError(
                        f"{source} has a password, which all users of this machine could read there",
                        f"set {option.variable}, or {option.name} in an INI file",
                    )
                found[option.name] = rank, _convert(option, text, source)
                break
    for option in options:
        if option.in_file:
            _read_file(option.name, found)
        if _rank(option.part_of, found) < _rank(option.name, found):
            found.pop(option.name, None)
    return _make(cls, {name: value for name, (_, value) in found.items()})


def _rank(name: str, found: Mapping[str, tuple[int, Any]]) -> float:
    return found[name][0] if name in found else float("inf")


def _read_file(name: str, found: dict[str, tuple[int, Any]]) -> None:
    """Read a setting from the file that ``NAME_file`` names, if that comes from a source of higher precedence."""
    file = f"{name}_file"
    if file not in found or _rank(file, found) > _rank(name, found):
        return
    if _rank(file, found) == _rank(name, found):
        raise ConfigurationError(f"both {name} and {file} are set in one place", "remove one of them")
    rank, path = found[file]
    found[name] = rank, _read_password(path)


def _make(cls: type[_T], values: Mapping[str, Any]) -> _T:
    given = {name: values[option.name] for name, option in _own_options(cls) if option.name in values}
    for field in attrs.fields(cls):  # type: ignore[arg-type]
        if inner := field.metadata.get(_CLASS):
            given[field.name] = _make(inner, values)
    return cls(**given)


def _convert(option: Option, text: Any, source: str) -> Any:
    try:
        return option.convert(text)
    except ValueError as error:
        shown = "" if option.secret else f" ({text!r:.200})"
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
