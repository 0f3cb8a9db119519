"""The subcommand status: the state of a consumer, and the address of its status page."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from pacifica_notifications_consumer.settings.converters import counted
from pacifica_notifications_runner.operating.client import asking, state_dir_of
from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.settings import NAMED, Settings, with_flags
from pacifica_notifications_runner.process.formats import duration
from pacifica_notifications_runner.process.terminal import say, say_json
from pacifica_notifications_runner.status.address import StatusAddress

DESCRIPTION = """\
Show the state of a consumer: whether it runs and its subscription is healthy, how many jobs wait, run or are dead, and
the address of its status page with the token that opens it. Do not pass this address on.
"""

EPILOG = """\
Exit status: 0 it runs, and its subscription is healthy; 1 it is stopped, or its subscription is not healthy; 2 wrong
command line; 69 it cannot be reached; 73 its state directory is not usable; 78 wrong settings, or no such consumer.
"""


def add_command(subparsers: Any) -> None:
    """Add the subcommand to the command."""
    parser = command_line.add_subcommand(
        subparsers, "status", show, "show the state of a consumer, and its page", DESCRIPTION, EPILOG, settings=NAMED
    )
    command_line.add_output(parser)


def show(arguments: argparse.Namespace, settings: Settings) -> int:
    """Show the state of the consumer."""
    with asking(settings) as consumer:
        status = consumer.ask("GET", "/api/status")
    subscription = status["subscription"]
    exit_status = 0 if subscription and subscription["well"] else 1
    if arguments.output == "json":
        say_json(status)
        return exit_status
    say(f"{status['name']}: {with_flags(_condition(status))}")
    jobs = status["jobs"]
    waiting = jobs["queued"] + jobs["failed"]
    waited = status["waiting_seconds"]
    age = f", the first for {duration(waited)}" if waiting and waited else ""
    say(f"  {counted(jobs['running'], 'job')} running, {waiting:,} waiting{age}, {jobs['dead']:,} dead")
    say(f"  its state: {status['state_dir']}")
    if status["running"]:
        say(f"  its page:  {StatusAddress.find(state_dir_of(settings)).link}")
    return exit_status


def _condition(status: Mapping[str, Any]) -> str:
    if not status["running"]:
        return "stopped"
    subscription = status["subscription"]
    if subscription is None:
        return "starting or stopping"
    return "running, subscription healthy" if subscription["well"] else f"running, but {subscription['trouble']}"
