"""The command lines of the commands, as trees that can be walked; shells and manual pages are told of them so."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping


def subcommands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """The subcommands of a command, by their names."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def walk(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """A command and all its subcommands, with the words that lead to each."""
    yield path, parser
    for name, subparser in subcommands(parser).items():
        yield from walk(subparser, (*path, *name.split()))


def flags(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The flags of a command."""
    return (action for action in parser._actions if action.option_strings and action.help is not argparse.SUPPRESS)


def words_of(action: argparse.Action) -> list[str]:
    """What may follow a flag, as far as that is known."""
    if action.choices:
        return [str(choice) for choice in action.choices]
    words = (action.metavar if isinstance(action.metavar, str) else "") or ""
    return words.split("|") if "|" in words and words.islower() else []
