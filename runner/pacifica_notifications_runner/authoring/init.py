"""The subcommand init: a new consumer that works, to be changed."""

from __future__ import annotations

import argparse
import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from pacifica_notifications_consumer.errors import StateError
from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.settings import Settings

DESCRIPTION = """\
Make a new consumer in a directory: an entry-point that works, what else it consists of, and a test. Of the templates,
minimal sends the names of a transaction's files back, and uppercase its text files in upper case, as in the
documentation.
"""

EPILOG = """\
Exit status: 0; 2 wrong command line; 73 the directory is not empty, or cannot be made; 78 wrong settings.
"""

TEMPLATES = ("minimal", "uppercase")
_NEXT = """\
{directory} is a consumer. What to do next:
  pytest {directory}                                          test it on a sandbox
  pacifica-notifications-consumer check {directory}           see what would go wrong
  pacifica-notifications-consumer pack {directory}            make a consumer.zip of it
Change __main__.py to do your work, jsonpath2.txt to say for which transactions, and requirements.txt to have what
__main__.py imports installed."""


def add_command(subparsers: Any) -> None:
    """Add the subcommand to the command."""
    parser = command_line.add_subcommand(subparsers, "init", "make a new consumer that works", DESCRIPTION, EPILOG)
    parser.add_argument("directory", type=Path, metavar="DIR", help="where to make it; is created, and must be empty")
    parser.add_argument("--template", choices=TEMPLATES, default="minimal", help="what to make (default: minimal)")
    parser.set_defaults(command=make)


def make(arguments: argparse.Namespace, _settings: Settings) -> int:
    """Make a consumer.

    Raises:
        StateError: The directory cannot be made, or has something in it.
    """
    directory: Path = arguments.directory
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise StateError(f"the directory {directory} is not empty", "name a new one")
        with as_file(files("pacifica_notifications_runner") / "templates" / arguments.template) as template:
            for path in sorted(template.iterdir()):
                if path.is_file():
                    shutil.copyfile(path, directory / path.name)
    except OSError as error:
        raise StateError(
            f"cannot make a consumer in {directory}: {error.strerror}", "name another directory"
        ) from error
    script = directory / "init.sh"
    if script.exists():
        script.chmod(0o755)
    print(_NEXT.format(directory=directory))  # noqa: T201  (the command's output)
    return 0
