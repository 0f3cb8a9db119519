"""The subcommand sandbox upload: uploads files to a sandbox, as an instrument does."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pacifica_notifications_consumer.cloudevents.notification import Notification
from pacifica_notifications_consumer.settings.converters import counted
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.testing.instrument import INSTRUMENT, PROJECT, SUBMITTER, files_below, send_files
from pacifica_notifications_consumer.testing.sandbox.sandbox import read_site, sandbox_environ
from pacifica_notifications_runner.authoring.sandbox import DIRECTORY
from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.settings import Settings
from pacifica_notifications_runner.process.terminal import say

DESCRIPTION = """\
Upload files to a sandbox as one transaction, as an instrument does; folders with all their files. A running sandbox
announces the transaction at once; uploads to a sandbox that is not running are not announced.
"""

EPILOG = """\
Example:
  pacifica-notifications-consumer sandbox upload spectra notes.txt \\
    --project 1234a --key-value Sample=B-17

Exit status: 0 done; 2 wrong command line; 69 the files cannot be uploaded; 73 the sandbox's directory is not usable;
78 wrong settings.
"""


def add_command(subparsers: Any) -> None:
    """Add the subcommand to the command."""
    parser = command_line.add_subcommand(
        subparsers, "sandbox upload", upload, "upload files to a sandbox", DESCRIPTION, EPILOG
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="the files and folders to upload")
    parser.add_argument("--sandbox", type=Path, default=DIRECTORY, metavar="DIR", help=f"(default: {DIRECTORY})")
    parser.add_argument("--submitter", type=int, default=SUBMITTER, metavar="N", help=f"(default: {SUBMITTER})")
    parser.add_argument("--project", default=PROJECT, metavar="ID", help=f"(default: {PROJECT})")
    parser.add_argument("--instrument", type=int, default=INSTRUMENT, metavar="N", help=f"(default: {INSTRUMENT})")
    help_text = "a key-value of the transaction; may be repeated"
    parser.add_argument(
        "--key-value", action="append", default=[], type=_key_value, metavar="KEY=VALUE", help=help_text
    )
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="write its notification to this file, for `run` and `check`"
    )


def _key_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def upload(arguments: argparse.Namespace, _settings: Settings) -> int:
    """Upload a transaction."""
    contents = files_below(arguments.files)
    with sandbox_environ(arguments.sandbox) as environ:
        site = read_site(arguments.sandbox)
        notification = send_files(
            contents,
            services=Services.from_environment(environ),
            submitter=arguments.submitter,
            project=arguments.project,
            project_field=site["project_field"],
            instrument=arguments.instrument,
            key_values=dict(arguments.key_value),
        )
    number = Notification(b"", notification).attributes["_id"]
    say(f"transaction {number}: {counted(len(contents), 'file')}")
    if arguments.save:
        notification["source"] = site["ingest_source"].format(id=number)
        arguments.save.write_text(json.dumps(notification), encoding="utf-8")
        say(f"its notification: {arguments.save}")
    return 0
