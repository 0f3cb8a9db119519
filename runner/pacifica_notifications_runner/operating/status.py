"""The subcommand status: how a consumer is, and where its status page is."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from pacifica_notifications_runner.operating.client import as_json, asking, state_dir_of
from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.settings import NAMED, Settings, with_flags
from pacifica_notifications_runner.process.formats import count, duration
from pacifica_notifications_runner.status.address import StatusAddress

DESCRIPTION = """\
Say how a consumer is: whether it runs and its subscription is well, how many jobs wait, run, or are dead; and print the
address of its status page with the token that lets in. Keep that address to yourself.
"""

EPILOG = """\
Exit status: 0 it runs, and its subscription is well; 1 it is stopped, or something is the matter; 2 wrong command line;
69 it cannot be reached; 73 its state directory is not usable; 78 wrong settings, or no such consumer.
"""


def add_command(subparsers: Any) -> None:
    """Add the subcommand to the command."""
    parser = command_line.add_subcommand(
        subparsers, "status", "say how a consumer is, and where its status page is", DESCRIPTION, EPILOG, settings=NAMED
    )
    parser.add_argument(
        "--output", choices=("text", "json"), default="text", help="text for people, json as the API has it"
    )
    parser.set_defaults(command=show)


def show(arguments: argparse.Namespace, settings: Settings) -> int:
    """Say how the consumer is."""
    with asking(settings) as consumer:
        status = consumer.ask("GET", "/api/status")
    subscription = status["subscription"]
    well = subscription is not None and subscription["well"]
    if arguments.output == "json":
        _say(as_json(status))
        return 0 if well else 1
    _say(f"{status['name']}: {with_flags(_condition(status))}")
    jobs = status["jobs"]
    waiting = jobs["queued"] + jobs["failed"]
    waited = status["waiting_seconds"]
    age = f", the first for {duration(waited)}" if waiting and waited else ""
    _say(f"  {count(jobs['running'], 'job')} running, {waiting:,} waiting{age}, {jobs['dead']:,} dead")
    _say(f"  its state: {status['state_dir']}")
    if status["running"]:
        _say(f"  its page:  {StatusAddress.find(state_dir_of(settings)).link}")
    return 0 if well else 1


def _condition(status: Mapping[str, Any]) -> str:
    if not status["running"]:
        return "stopped"
    subscription = status["subscription"]
    if subscription is None:
        return "starting or stopping"
    return "running, its subscription is well" if subscription["well"] else f"running, but {subscription['trouble']}"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (the command's output)
