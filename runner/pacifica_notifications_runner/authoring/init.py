"""The subcommand init: makes a new consumer from a template."""

from __future__ import annotations

import argparse
import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from pacifica_notifications_consumer.errors import StateError, explained
from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.settings import Settings
from pacifica_notifications_runner.process.terminal import say

DESCRIPTION = """\
Make a new consumer in a directory: a working entry-point, the other files of a consumer, and a test. The template
minimal uploads the names of a transaction's files; uppercase uploads its text files in upper case, as in the
documentation.
"""

EPILOG = """\
Exit status: 0 done; 2 wrong command line; 73 the directory is not empty, or cannot be made; 78 wrong settings.
"""

TEMPLATES = ("minimal", "uppercase")
_NEXT = """\
{directory} is a consumer. Next steps:
  pytest {directory}                                          test it on a sandbox
  pacifica-notifications-consumer check {directory}           find its faults
  pacifica-notifications-consumer pack {directory}            make a consumer.zip of it
Write your work into __main__.py, the filter that selects transactions into jsonpath2.txt, and the packages that
__main__.py imports into requirements.txt."""


def add_command(subparsers: Any) -> None:
    """Add the subcommand to the command."""
    parser = command_line.add_subcommand(
        subparsers, "init", make, "make a new consumer that works", DESCRIPTION, EPILOG
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="the directory; it is created, and must be empty")
    parser.add_argument("--template", choices=TEMPLATES, default="minimal", metavar="NAME", help="(default: minimal)")


def make(arguments: argparse.Namespace, _settings: Settings) -> int:
    """Make a consumer."""
    directory: Path = arguments.directory
    make_empty(directory)
    templates = files("pacifica_notifications_runner") / "templates"
    with (
        explained(StateError, f"cannot write into {directory}", "name another directory"),
        as_file(templates / arguments.template) as template,
    ):
        for path in sorted(template.iterdir()):
            if path.is_file():
                shutil.copyfile(path, directory / path.name)
                if path.name == "init.sh":
                    (directory / path.name).chmod(0o755)
    say(_NEXT.format(directory=directory))
    return 0


def make_empty(directory: Path) -> None:
    """Make a directory; an existing one must be empty."""
    with explained(StateError, f"cannot use the directory {directory}", "name another one"):
        directory.mkdir(parents=True, exist_ok=True)
        used = any(directory.iterdir())
    if used:
        raise StateError(f"the directory {directory} is not empty", "name a new directory")
