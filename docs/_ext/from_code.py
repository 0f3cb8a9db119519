"""Directives that write a page's facts from the code itself, so that they cannot go stale.

- ``command-help`` with a command line: what it prints.
- ``settings``: the table of the settings, from their class.
- ``exit-statuses``: the table of the errors and of the exit statuses that commands end with on them.
- ``archive-limits``: what a consumer archive may cost.
- ``api-routes``: the table of what can be asked of the status page's API.
- ``metrics``: the table of the metrics.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_type_hints
from unittest import mock

import attrs
from docutils import nodes
from docutils.parsers.rst import Directive

from pacifica_notifications_consumer.archive.archive import ArchiveLimits
from pacifica_notifications_consumer.errors import PacificaError
from pacifica_notifications_consumer.queue.prometheus import FAMILIES, PREFIX, Family
from pacifica_notifications_consumer.settings.option import Option
from pacifica_notifications_runner import cli, start
from pacifica_notifications_runner.operating.completion import flags, subcommands, walk
from pacifica_notifications_runner.options import start_command
from pacifica_notifications_runner.options.settings import OPTIONS
from pacifica_notifications_runner.status.api.api import ROUTER
from pacifica_notifications_runner.status.api.openapi import schema_of
from pacifica_notifications_runner.status.api.routes import Route

_COMMANDS: dict[str, Callable[[list[str]], int]] = {start_command.PROGRAM: start.main, cli.PROGRAM: cli.main}
_WIDTH = "100"


class CommandHelp(Directive):
    """Show what a command line prints, such as ``pacifica-notifications-consumer run --help``."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Run the command in this process."""
        program, *arguments = self.arguments[0].split()
        printed = io.StringIO()
        plain = {"COLUMNS": _WIDTH, "NO_COLOR": "1"}
        with mock.patch.dict(os.environ, plain), contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            _COMMANDS[program](arguments)
        text = f"$ {self.arguments[0]}\n{printed.getvalue().rstrip()}"
        return [nodes.literal_block(text, text, language="text")]


class Settings(Directive):
    """The settings: the names of each, its meaning, its default, and the commands that have it."""

    def run(self) -> list[nodes.Node]:
        """Make the table of the settings."""
        header = ("Names", "Meaning", "Default", "Commands")
        commands = _flags_of_commands()
        rows = (self._row(option, commands) for option in OPTIONS.values())
        return [_table(header, rows, widths=(34, 44, 26, 12))]

    @staticmethod
    def _row(option: Option, commands: dict[str, set[str]]) -> Iterator[nodes.Node]:
        names = [option.flag] * option.has_flag + [option.variable, option.name]
        yield nodes.line_block("", *(nodes.line("", "", nodes.literal(name, name)) for name in names))
        yield _named("; ".join(filter(None, (option.help, option.note))))
        yield _code(option.shown_default) if option.shown_default else _text("")
        found = [name for name, names in commands.items() if option.name in names]
        yield _text("all" if len(found) == len(commands) else ", ".join(found))


def _flags_of_commands() -> dict[str, set[str]]:
    """The names of the settings that each command has flags for."""
    found: dict[str, set[str]] = {"start": {action.dest for action in flags(start_command.make_parser())}}
    for path, parser in walk(cli.make_parser()):
        if path and not subcommands(parser):
            name = "jobs" if path[0] == "jobs" else " ".join(path)
            found.setdefault(name, set()).update(action.dest for action in flags(parser))
    return found


class ExitStatuses(Directive):
    """The errors of the project and the exit statuses of commands that end with them."""

    def run(self) -> list[nodes.Node]:
        """Make the table of the error classes."""
        errors = sorted(_subclasses(PacificaError), key=lambda error: (error.exit_status, error.__name__))
        return [_table(("Status", "Error", "Meaning"), map(self._row, errors), widths=(8, 22, 70))]

    @staticmethod
    def _row(error: type[PacificaError]) -> Iterator[nodes.Node]:
        yield _code(str(error.exit_status))
        yield _code(error.__name__)
        yield _text((inspect.getdoc(error) or "").split("\n")[0].replace("``", ""))


class Limits(Directive):
    """What a consumer archive may cost."""

    def run(self) -> list[nodes.Node]:
        """Make the table of the limits."""
        limits = ArchiveLimits()
        meanings = {
            "entries": "files and folders",
            "size": "bytes that they may have together when extracted; --archive-size sets it",
            "ratio": "times that a file above 1 MiB may be larger than in the archive",
        }
        rows = ((_text(meanings[name]), _code(f"{value:,}")) for name, value in attrs.asdict(limits).items())
        return [_table(("What", "Limit"), rows, widths=(75, 20))]


class ApiRoutes(Directive):
    """What can be asked of the status page's API."""

    def run(self) -> list[nodes.Node]:
        """Make the table of the routes."""
        return [_table(("Request", "Meaning", "Parameters"), map(self._row, ROUTER.routes), widths=(34, 36, 40))]

    @staticmethod
    def _row(route: Route) -> Iterator[nodes.Node]:
        yield _code(f"{route.method} {route.path}")
        yield _text(route.function.__doc__ or "")
        given = {name: each.meaning for name, each in route.parameters.items() if name not in route.in_path}
        hints = get_type_hints(route.takes, include_extras=True) if route.takes else {}
        given |= {name: schema_of(hint).get("description", "") for name, hint in hints.items()}
        told = [f"{name}{': ' if meaning else ''}{meaning}" for name, meaning in given.items()]
        yield nodes.line_block("", *(nodes.line(text, text) for text in told))


class Metrics(Directive):
    """The metrics, with their types and meanings."""

    def run(self) -> list[nodes.Node]:
        """Make the table of the metrics."""
        return [_table(("Name", "Type", "Meaning"), map(self._row, FAMILIES), widths=(42, 14, 54))]

    @staticmethod
    def _row(family: Family) -> Iterator[nodes.Node]:
        yield _code(f"{PREFIX}{family.name}" + (f"{{{family.label}}}" if family.label else ""))
        yield _text(family.kind)
        yield _text(family.help)


def _subclasses(error: type[PacificaError]) -> Iterator[type[PacificaError]]:
    # What sits in errors.py is the public part.
    if error.__module__ == PacificaError.__module__:
        yield error
        for each in error.__subclasses__():
            yield from _subclasses(each)


def _text(text: str) -> nodes.Node:
    return nodes.paragraph(text, text)


def _named(text: str) -> nodes.Node:
    """A text in which the names of settings stand in backticks."""
    parts = [
        nodes.literal(part, part) if number % 2 else nodes.Text(part) for number, part in enumerate(text.split("`"))
    ]
    return nodes.paragraph("", "", *parts)


def _code(text: str) -> nodes.Node:
    return nodes.paragraph("", "", nodes.literal(text, text))


def _table(header: Iterable[str], rows: Iterable[Iterable[nodes.Node]], widths: Iterable[int]) -> nodes.table:
    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in widths))
    group += nodes.thead("", _row(_text(cell) for cell in header))
    group += nodes.tbody("", *map(_row, rows))
    group["cols"] = len(group.children) - 2
    return nodes.table("", group, classes=["colwidths-given"])


def _row(cells: Iterable[nodes.Node]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", cell) for cell in cells))


_comments: dict[str, list[str]] = {}


def _keep_comment(_app: Any, what: str, name: str, _value: object, _options: Any, lines: list[str]) -> None:
    """Note the comment on an attribute before napoleon sees it, which takes words before a colon for a type."""
    if what == "attribute":
        _comments[name] = list(lines)


def _restore_comment(_app: Any, _what: str, name: str, _value: object, _options: Any, lines: list[str]) -> None:
    if name in _comments:
        lines[:] = _comments[name]


def _show_defaults(
    _app: Any, _what: str, _name: str, value: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Replace private names among the defaults of a signature by the values that they stand for."""
    if signature and attrs.has(value):
        defaults = {f"attr_dict['{field.name}'].default": repr(field.default) for field in attrs.fields(value)}
        signature = re.sub(r"attr_dict\['\w+'\]\.default", lambda found: defaults[found[0]], signature)
    elif signature:
        scope = getattr(value, "__globals__", {})
        signature = re.sub(r"(?<== )_[A-Z_]+", lambda found: repr(scope.get(found[0], found[0])), signature)
    return signature, returns


def setup(app: Any) -> dict[str, Any]:
    """Tell Sphinx what there is."""
    app.connect("autodoc-process-docstring", _keep_comment, priority=400)
    app.connect("autodoc-process-docstring", _restore_comment, priority=600)
    app.connect("autodoc-process-signature", _show_defaults)
    app.add_directive("command-help", CommandHelp)
    app.add_directive("settings", Settings)
    app.add_directive("exit-statuses", ExitStatuses)
    app.add_directive("archive-limits", Limits)
    app.add_directive("api-routes", ApiRoutes)
    app.add_directive("metrics", Metrics)
    return {"parallel_read_safe": True, "version": "1"}
