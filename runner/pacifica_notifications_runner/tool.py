"""pacifica-notifications-consumer: what authors and operators need besides the start command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pacifica_notifications_consumer.errors import PacificaError
from pacifica_notifications_runner import demo, logs, options, run, sandbox

PROGRAM = "pacifica-notifications-consumer"

DESCRIPTION = """\
Tools for the authors of Pacifica consumers. To deploy a consumer, use start-pacifica-notifications-consumer.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=DESCRIPTION, allow_abbrev=False)
    options.add_version(parser)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (run, sandbox, demo):
        command.add_command(subparsers)
    arguments = parser.parse_args(argv)
    log_format = "text"
    try:
        settings = options.read_options(arguments)
        log_format = settings["log_format"]
        logs.set_up_logging(log_format, verbose=settings["verbose"])
        status: int = arguments.command(arguments, settings)
    except PacificaError as error:
        logs.report(PROGRAM, error, log_format)
        return error.exit_status
    return status


if __name__ == "__main__":
    sys.exit(main())
