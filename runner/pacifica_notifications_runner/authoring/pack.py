"""The subcommand pack: makes a consumer.zip of a directory."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pacifica_notifications_consumer.archive import packing
from pacifica_notifications_consumer.archive.archive import Consumer, misnamed_parts
from pacifica_notifications_consumer.errors import PacificaError
from pacifica_notifications_consumer.settings.converters import counted
from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.settings import Settings
from pacifica_notifications_runner.process.formats import size
from pacifica_notifications_runner.process.terminal import YELLOW, coloured, say

DESCRIPTION = """\
Pack the directory of a consumer into an archive that can be deployed. The same files always give the same bytes. Hidden
files, compiled code, tests, virtual environments and other archives are left out, unless the entry-point, the modules
that it imports, init.sh or requirements.txt import them or name them.
"""

EPILOG = """\
Exit status: 0 done; 2 wrong command line; 65 the directory is not a usable consumer; 78 wrong settings.
"""


def add_command(subparsers: Any) -> None:
    """Add the subcommand to the command."""
    parser = command_line.add_subcommand(
        subparsers, "pack", pack, "make a consumer.zip of a directory", DESCRIPTION, EPILOG
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="the directory with the consumer's __main__.py")
    parser.add_argument(
        "-o", "--output", type=Path, default="consumer.zip", metavar="FILE", help="the archive (default: consumer.zip)"
    )
    help_text = "a file or folder of DIR, by its path in DIR, to be packed in any case; repeatable"
    parser.add_argument("--include", action="append", default=[], metavar="PATH", help=help_text)


def pack(arguments: argparse.Namespace, _settings: Settings) -> int:
    """Pack a consumer."""
    packed = packing.pack(arguments.directory, arguments.output, arguments.include)
    for name in packed.files:
        say(f"  {name}")
    for name, reason in packed.left_out:
        say(f"  left out: {name} ({reason})")
    warnings = [f"{name}: {problem}; {advice}" for name, problem, advice in misnamed_parts(packed.files)]
    try:
        Consumer.load(arguments.directory)
    except PacificaError as error:
        warnings.append(str(error))
    for warning in warnings:
        say(f"  {coloured('warning', YELLOW)}: {warning}")
    files = sum(not name.endswith("/") for name in packed.files)
    say(f"{arguments.output}: {counted(files, 'file')}, {size(arguments.output.stat().st_size)}")
    return 0
