"""The flags and the help of the commands, derived from the settings."""

from __future__ import annotations

import argparse
import logging
import os
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
from pacifica_notifications_runner.options.settings import LIMITS, LOG, OPTIONS, REMOVED, Settings, with_flags

log = logging.getLogger(__name__)

_T = TypeVar("_T")

CONFIG_HELP = f"an INI file; its section [{SECTION}] may set these options, too ({CONFIG_VARIABLE})"


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Shows one placeholder in the usage for all flags of settings, since there are many."""

    def add_usage(
        self, usage: str | None, actions: Iterable[argparse.Action], groups: Any, prefix: str | None = None
    ) -> None:
        actions = list(actions)
        own = [action for action in actions if action.dest not in OPTIONS]
        if len(own) < len(actions):
            own.append(argparse.Action(["--SETTING"], dest="setting", metavar="VALUE ..."))
        super().add_usage(usage, own, groups, prefix)


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
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=help_text, description=description, epilog=epilog, allow_abbrev=False, add_help=False
    )
    parser.set_defaults(command=command)
    add_help(parser, parser, everything=any(OPTIONS[name].group == LIMITS for name in settings or ()))
    if settings is not None:
        add_settings(parser, (*settings, *LOG))
    return parser


def add_help(parser: argparse.ArgumentParser, to: argparse._ActionsContainer, *, everything: bool) -> None:
    """Add the flags that show a command's help to a group; with ``everything`` also the one that shows limits, too."""
    parser.formatter_class = _Formatter
    to.add_argument("-h", "--help", nargs=0, action=_Help, default=argparse.SUPPRESS, help="show this and exit")
    if everything:
        to.add_argument("--help-all", action="help", help="show this with the options that set limits, and exit")


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
    if option.metavar is None:
        group.add_argument(option.flag, dest=option.name, action="store_const", const="yes", help=help_text)
    else:
        group.add_argument(option.flag, dest=option.name, metavar=option.metavar, help=help_text)


def add_version(to: argparse._ActionsContainer) -> None:
    """Add the flag ``--version``."""
    installed = version("pacifica-notifications-consumer")
    to.add_argument("--version", action="version", version=f"pacifica-notifications-consumer {installed}")


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
    for variable in os.environ:
        _warn_of(variable)
    return resolve(Settings, vars(arguments), os.environ, config, removed=REMOVED)


def _warn_of(variable: str) -> None:
    """Report a variable that resembles a setting; other programs may have variables with this prefix, too."""
    name = variable.removeprefix(PREFIX).lower()
    if variable.startswith(PREFIX) and name not in OPTIONS and (advice := suggestion(name, OPTIONS, REMOVED)):
        log.warning("the variable %s is ignored, since it is not a setting; %s", variable, advice)
