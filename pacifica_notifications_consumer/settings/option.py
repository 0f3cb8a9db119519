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
from urllib.parse import unquote

import attrs

from ..errors import ConfigurationError
from . import official_clients
from .converters import PLACEHOLDERS, checked, count_limit, limit, show_size, size, size_limit

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
    #: Makes the value of the text; raises `ValueError` with the reason.
    convert: Callable[[str], Any]
    #: Added to the help of commands only.
    note: str = attrs.field()
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

    @note.default
    def _no_limit(self) -> str:
        return "0 for no limit" if self.convert in (limit, size_limit, count_limit) else ""

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
    text = read_text(path, f"the configuration {path}", "correct `config`")
    try:
        parser.read_string(text, source=str(path))
    except (configparser.DuplicateOptionError, configparser.DuplicateSectionError) as error:
        twice = getattr(error, "option", f"the section [{error.section}]")
        problem = f"{path} (line {error.lineno}) has {twice} a second time"
        raise ConfigurationError(problem, "remove one of them") from None
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
    values: dict[str, str] = {}
    for key, value in parser[SECTION].items():
        if (name := key.replace("-", "_")) in values:
            raise ConfigurationError(f"{path} has {name} a second time, as {key}", "remove one of them")
        values[name] = value
    known = [option.name for option in options]
    for key in values if strict else ():
        if key not in known:
            advice = suggestion(key, known) or "correct or remove it"
            raise ConfigurationError(f"{path} sets {key}, which is not a setting", advice)
    return values


def suggestion(name: str, known: Iterable[str]) -> str:
    """The advice about a name that is not that of a setting; empty if no setting resembles it."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return f"did you mean {close[0]}?" if close else ""


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
            (flags.get(option.name), "it on the command line"),
            (environ.get(option.variable) or None, f"the variable {option.variable}"),
            others[0].get(option.name, (None, "")),
            (filed.get(option.name), f"it in {ini}"),
            others[1].get(option.name, (None, "")),
        )
        for rank, (text, source) in enumerate(sources):
            if text is not None:
                if not str(text).strip():
                    raise ConfigurationError(f"`{option.name}` is empty", f"leave it out, or correct {source}")
                if rank == 0 and option.secret and ("@" in text or "password=" in unquote(text).lower()):
                    raise ConfigurationError(
                        f"the value of `{option.name}` has a password, which all users could read on the command line",
                        f"set the variable {option.variable}, or {option.name} in an INI file",
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
        raise ConfigurationError(f"both `{name}` and `{file}` are set in one place", "remove one of them")
    rank, path = found[file]
    text = read_text(path, f"the file {path}", f"correct `{file}`").rstrip("\r\n")
    if not text:
        raise ConfigurationError(f"the file {path}, set by `{file}`, is empty", f"write the {name} into its first line")
    found[name] = rank, text


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
        # A password or a token may stand before the host of an address, or at its end, also if its scheme is missing.
        is_secret = option.secret or (option.name.endswith("_url") and {*"@?#"} & {*str(text)})
        shown = "this text" if is_secret else f"{text!r:.200}"
        raise ConfigurationError(f"`{option.name}` cannot be {shown}: {error}", f"correct {source}") from None


def read_text(path: Path, what: str, advice: str) -> str:
    """Read a text file that a setting names.

    Raises:
        ConfigurationError: It cannot be read, or is not UTF-8; ``what`` says which file it is.
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise ConfigurationError(f"cannot read {what}: {reason}", advice) from None
