"""pacifica-notifications-consumer: what authors and operators need besides the start command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pacifica_notifications_runner import (
    catch_up,
    command,
    demo,
    environments,
    jobs,
    options,
    run,
    sandbox,
    status_command,
)

PROGRAM = "pacifica-notifications-consumer"

DESCRIPTION = """\
Tools for the authors and operators of Pacifica consumers. To deploy one, use start-pacifica-notifications-consumer.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=DESCRIPTION, allow_abbrev=False)
    options.add_version(parser)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for subcommand in (run, sandbox, demo, status_command, jobs, catch_up, environments):
        subcommand.add_command(subparsers)
    arguments = parser.parse_args(argv)
    return command.execute(PROGRAM, arguments, lambda settings: int(arguments.command(arguments, settings)))


if __name__ == "__main__":
    sys.exit(main())
