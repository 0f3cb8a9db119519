"""The subcommand manual: the manual pages, made of what ``--help`` says."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from pacifica_notifications_runner.operating.parsers import flags, subcommands, walk
from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.settings import Settings

DESCRIPTION = """\
Print the manual page of a command of this package, in the form that man reads.
"""

EPILOG = """\
Examples:
  pacifica-notifications-consumer manual | man -l -
  pacifica-notifications-consumer manual start-pacifica-notifications-consumer \\
      > /usr/local/share/man/man1/start-pacifica-notifications-consumer.1

Exit status: 0; 2 wrong command line; 78 wrong settings.
"""


def add_command(subparsers: Any) -> None:
    """Add the subcommand to the command."""
    parser = command_line.add_subcommand(subparsers, "manual", "print a manual page", DESCRIPTION, EPILOG)
    names = ("pacifica-notifications-consumer", "start-pacifica-notifications-consumer")
    parser.add_argument(
        "page", nargs="?", choices=names, default=names[0], help=f"of which command (default: {names[0]})"
    )
    parser.set_defaults(command=show)


def show(arguments: argparse.Namespace, _settings: Settings) -> int:
    """Print it."""
    parsers = arguments.parsers()
    other = next(name for name in parsers if name != arguments.page)
    print("\n".join(_page(arguments.page, parsers[arguments.page], other)))  # noqa: T201  (the command's output)
    return 0


def _page(name: str, parser: argparse.ArgumentParser, other: str) -> Iterator[str]:
    yield f'.TH "{name.upper()}" 1 "" "pacifica-notifications-consumer {version("pacifica-notifications-consumer")}"'
    summary = " ".join((parser.description or "").split()).partition(".")[0]
    yield from (".SH NAME", f"{_text(name)} \\- {_text(summary)}", ".SH SYNOPSIS")
    commands = [(" ".join(path), each) for path, each in walk(parser) if not subcommands(each)]
    for path, each in commands:
        yield from _synopsis(f"{name} {path}".strip(), each)
    yield from (".SH DESCRIPTION", *_paragraphs(parser.description))
    for words, each in walk(parser):
        if words:
            yield from (f".SH COMMAND: {_text(' '.join(words))}", *_paragraphs(each.description))
        yield from _arguments(each)
        yield from _epilog(each.epilog)
    yield from (".SH SEE ALSO", f".BR {_text(other)} (1)")


def _synopsis(command: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    positionals = [_shown(action) for action in parser._actions if not action.option_strings]
    yield f".B {_text(command)}"
    yield _text(" ".join(["[OPTIONS]", *positionals]))
    yield ".br"


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction):
            yield from (".TP", f".I {_text(_shown(action))}", _text(_help(parser, action)))
    for action in flags(parser):
        if action.dest == "help":
            continue
        taken = f" \\fI{_text(_shown(action))}\\fR" if action.nargs != 0 else ""
        yield from (".TP", f"\\fB{_text(', '.join(action.option_strings))}\\fR{taken}", _text(_help(parser, action)))


def _epilog(epilog: str | None) -> Iterator[str]:
    for paragraph in (epilog or "").strip().split("\n\n"):
        if paragraph.startswith("Examples:") or "\n  " in paragraph:
            yield from (".PP", ".nf", *(_text(line) for line in paragraph.splitlines()), ".fi")
        else:
            yield from _paragraphs(paragraph)


def _paragraphs(text: str | None) -> Iterator[str]:
    for paragraph in (text or "").strip().split("\n\n"):
        if paragraph:
            yield from (".PP", _text(" ".join(paragraph.split())))


def _shown(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    return "|".join(map(str, action.choices)) if action.choices else action.dest.upper()


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return (action.help or "") % {"prog": parser.prog, "default": action.default}


def _text(text: str) -> str:
    """A text that man takes for nothing else."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    # A line that begins with one of these would be a request.
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
