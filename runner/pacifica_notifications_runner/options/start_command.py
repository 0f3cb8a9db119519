"""The command line of start-pacifica-notifications-consumer."""

from __future__ import annotations

import argparse
from pathlib import Path

from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.settings import OPTIONS, SANDBOX

PROGRAM = "start-pacifica-notifications-consumer"

DESCRIPTION = """\
Deploy a Pacifica consumer: extract consumer.zip, create its virtual environment, run its init.sh and install its
requirements, open its job queue and its web endpoint, and subscribe the endpoint to the producer. From then on the
entry-point runs once for each notification that the consumer's JSONPath matches. SIGINT, SIGTERM or SIGHUP stops it
and undoes all of that; the jobs' directories stay. A second signal does not wait for running jobs.
"""

USAGE = """\
%(prog)s consumer.zip [--SETTING VALUE ...]
  %(prog)s --help | --help-all | --version"""

EPILOG = """\
Each option can also be set by the environment variable named in brackets, or in an INI file given with --config; the
command line comes first, then the environment, then the file. A password is never taken from the command line: put it
into a file (--password-file), into PACIFICA_PASSWORD, or into the INI file.

Exit status: 0 stopped by a signal; 2 wrong command line; 65 the archive or its JSONPath is not usable; 69 a service or
an installer refused; 71 the endpoint cannot listen; 73 the state directory is not usable; 78 wrong settings, or this
system is not Linux; 130 stopped before it was ready.
"""

#: The settings that come first in the help.
_MOST_NEEDED = ("username", "producer_url", "cartd_url", "ingest_url", "policy_url", "address", "name", "state_dir")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = command_line.Parser(prog=PROGRAM, usage=USAGE, description=DESCRIPTION, epilog=EPILOG, everything=True)
    parser.set_defaults(needs_linux=True)
    parser.add_argument("archive", type=Path, metavar="consumer.zip", help="the consumer to deploy")
    names = [name for name, option in OPTIONS.items() if option.group != SANDBOX and name != "concurrency"]
    command_line.add_version(parser)
    command_line.add_settings(parser, names, first=_MOST_NEEDED)
    return parser
