"""pacifica-notifications-consumer: the commands for authors and operators, besides the start command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pacifica_notifications_runner.authoring import check, demo, init, pack, run, sandbox, sandbox_upload
from pacifica_notifications_runner.operating import catch_up, completion, environments, jobs, worker
from pacifica_notifications_runner.operating import status as status_command
from pacifica_notifications_runner.options import command_line, start_command
from pacifica_notifications_runner.process import command, terminal

_FOR_AUTHORS = (init, check, pack, run, sandbox, sandbox_upload, demo)
_FOR_OPERATORS = (status_command, jobs, catch_up, environments, worker, completion)
PROGRAM = "pacifica-notifications-consumer"

_TWO_WORDS = ["sandbox", "upload"]

DESCRIPTION = """\
Tools for the authors and operators of Pacifica consumers. To deploy one, use start-pacifica-notifications-consumer.
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = command_line.Parser(prog=PROGRAM, description=DESCRIPTION)
    command_line.add_version(parser)
    # The completion scripts are made from the parsers of all commands.
    parser.set_defaults(parsers=all_parsers)
    subparsers = parser.add_subparsers(prog=PROGRAM, metavar="COMMAND", required=True)
    for subcommand in (*_FOR_AUTHORS, *_FOR_OPERATORS):
        subcommand.add_command(subparsers)
    return parser


def all_parsers() -> dict[str, argparse.ArgumentParser]:
    """The parsers of both commands, by name."""
    return {start_command.PROGRAM: start_command.make_parser(), PROGRAM: make_parser()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    terminal.escape_unprintable()
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:2] == _TWO_WORDS:
        # `sandbox` itself takes a directory, which therefore cannot be called upload.
        argv[:2] = [" ".join(_TWO_WORDS)]
    arguments = make_parser().parse_args(argv)
    return command.execute(PROGRAM, arguments, lambda settings: int(arguments.command(arguments, settings)))


if __name__ == "__main__":
    sys.exit(main())
