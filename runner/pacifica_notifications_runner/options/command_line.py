"""The flags and the help of the commands, derived from the settings."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from pacifica_notifications_consumer.settings.option import (
    CONFIG_VARIABLE,
    PREFIX,
    SECTION,
    Option,
    resolve,
    suggestion,
)
from pacifica_notifications_runner.options.settings import LIMITS, LOG, NEEDED, OPTIONS, Settings, with_flags

log = logging.getLogger(__name__)

_T = TypeVar("_T")

CONFIG_HELP = f"an INI file; its section [{SECTION}] may set these options, too [{CONFIG_VARIABLE}]"


class _Formatter(argparse.HelpFormatter):
    """Fits a help into the terminal; lines that are indented stay lines, and flags of settings share a placeholder."""

    def __init__(self, prog: str) -> None:
        width = min(shutil.get_terminal_size().columns, 120)
        super().__init__(prog, max_help_position=max(6, min(24, width - 50)), width=width)

    def _format_usage(self, usage: Any, actions: Iterable[argparse.Action], groups: Any, prefix: Any) -> str:
        own = [action for action in actions if action.dest not in OPTIONS]
        if len(own) < len(list(actions)):
            own.append(argparse.Action(["--SETTING"], dest="setting", metavar="VALUE ..."))
        width, self._width = self._width, sys.maxsize
        text = super()._format_usage(usage, own, groups, prefix).rstrip()
        self._width = width
        unbroken = re.sub(r"\[[^]]+]+", lambda found: found[0].replace(" ", "\0"), text)
        return self._fill_text(unbroken, width, "").replace("\0", " ") + "\n\n"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = re.sub(r"(?<=\S)\n(?=\S)", " ", text).splitlines()
        more = [indent + "  " * (line.startswith("usage: ") + 2 * line.startswith(" ")) for line in lines]
        fill = functools.partial(textwrap.fill, width=width, break_on_hyphens=False)
        return "\n".join(fill(indent + line, subsequent_indent=rest) for line, rest in zip(lines, more, strict=True))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return self._fill_text(text, width, "").splitlines()


class Parser(argparse.ArgumentParser):
    """A parser whose errors show its own usage; with ``everything`` it has a flag that shows limits, too."""

    def __init__(self, *, everything: bool = False, **details: Any) -> None:
        super().__init__(formatter_class=_Formatter, allow_abbrev=False, add_help=False, **details)
        self.color = False  # Python 3.14 puts escape sequences into the usage, which the formatter would break up
        self.add_argument("-h", "--help", nargs=0, action=_Help, default=argparse.SUPPRESS, help="show this and exit")
        if everything:
            self.add_argument("--help-all", action="help", help="show this with the options that set limits, and exit")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments, all of which must be known; unknown flags are reported first."""
        args = sys.argv[1:] if args is None else list(args)
        for text in args:
            flag = text.partition("=")[0]
            if text == "--" or (self._subparsers and not text.startswith("-")):
                break
            if re.fullmatch(r"--\S+", flag) and flag not in self._option_string_actions:
                advice = suggestion(flag, self._option_string_actions)
                self.error(f"unrecognized arguments: {flag}{advice and f'; {advice}'}")
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


class _Help(argparse.Action):
    """Shows a command's help without the limits."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        parser._action_groups[:] = [group for group in parser._action_groups if group.title != LIMITS]
        parser.print_help()
        parser.exit()


def add_subcommand(
    subparsers: Any,
    name: str,
    command: Callable[[argparse.Namespace, Settings], int] | None,
    help_text: str,
    description: str,
    epilog: str = "",
    *,
    settings: Sequence[str] | None = (),
) -> argparse.ArgumentParser:
    """Add a subcommand with flags for some settings and for logging (None: no flags); callers add its arguments."""
    everything = any(OPTIONS[name].group == LIMITS for name in settings or ())
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=help_text, description=description, epilog=epilog, everything=everything
    )
    parser.set_defaults(command=command)
    if settings is not None:
        add_settings(parser, (*settings, *LOG))
    return parser


def add_settings(parser: argparse.ArgumentParser, names: Sequence[str], first: Sequence[str] = ()) -> None:
    """Add flags for settings in groups, each documented with its variable and its default; some are shown first."""
    order = list(OPTIONS)
    options = [OPTIONS[name] for name in (*first, *sorted({*names} - {*first}, key=order.index))]
    groups: dict[str, argparse._ArgumentGroup] = {}
    for option in options:
        title = "Most needed" if option.name in first else option.group
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        if option.has_flag:
            _add_flag(groups[title], option)
    group = groups.get("Consumer") or parser.add_argument_group("Consumer")
    group.add_argument("--config", metavar="FILE", type=Path, help=CONFIG_HELP)


def _add_flag(group: argparse._ArgumentGroup, option: Option) -> None:
    default = f" (default: {option.shown_default})" if option.metavar and option.shown_default else ""
    note = f"; {option.note}" if option.note else ""
    help_text = with_flags(f"{option.help}{note}{default} [{option.variable}]", variables=False).replace("%", "%%")
    value = {"metavar": option.metavar} if option.metavar else {"action": "store_const", "const": "yes"}
    group.add_argument(option.flag, dest=option.name, help=help_text, **value)  # type: ignore[arg-type]


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add the flag ``--version``."""
    text = f"pacifica-notifications-consumer {version('pacifica-notifications-consumer')}"
    parser.add_argument("--version", action="version", version=text, help="show the version and exit")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the flag ``--output``."""
    help_text = "text for people, json for programs (default: text)"
    parser.add_argument("--output", choices=("text", "json"), default="text", metavar="text|json", help=help_text)


def argument(read: Callable[[str], _T]) -> Callable[[str], _T]:
    """The type of an argument that is not a setting: its `ValueError` becomes an error of the command line."""

    def convert(text: str) -> _T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not usable: {error}") from None

    return convert


def read_settings(arguments: argparse.Namespace) -> Settings:
    """Find the values of all settings, including those without flags of the command."""
    config = arguments.config or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    settings = resolve(Settings, vars(arguments), os.environ, config)
    for variable in os.environ:
        name = variable.removeprefix(PREFIX).lower()
        # Other programs may have variables with this prefix, too.
        if variable.startswith(PREFIX) and name not in OPTIONS and (advice := suggestion(name, OPTIONS)):
            log.warning("the variable %s is ignored, since it is not a setting; %s", variable, advice)
    for (needed, value), names in NEEDED.items():
        found = getattr(settings if hasattr(settings, needed) else settings.services, needed)
        # A command without the flag of the setting that is needed works as if it were set.
        is_there = found is not None or needed in getattr(arguments, "defaulted", ())
        if hasattr(arguments, needed) and not (is_there and value in ("", found)):
            for name in filter(lambda name: getattr(arguments, name, None) is not None, names):
                log.warning("`%s` has no effect without `%s`%s", name, needed, value and f" {value}")
    return settings
