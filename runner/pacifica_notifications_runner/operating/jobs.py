"""The subcommand jobs: lists and shows a consumer's jobs, runs them again, or cancels them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from pacifica_notifications_consumer import Filter
from pacifica_notifications_consumer.errors import Cancelled, ConfigurationError
from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.settings import converters as read
from pacifica_notifications_consumer.settings.converters import counted
from pacifica_notifications_consumer.system.terminal import is_terminal
from pacifica_notifications_runner.operating.client import ConsumerClient, asking
from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.command_line import argument
from pacifica_notifications_runner.options.settings import NAMED, Settings
from pacifica_notifications_runner.process import terminal
from pacifica_notifications_runner.process.formats import job_facts, job_row, size
from pacifica_notifications_runner.process.terminal import coloured, say, say_json, write_bytes
from pacifica_notifications_runner.status.api.api import MOST_LISTED

DESCRIPTION = """\
List or show the jobs of a consumer, run some again, or cancel them. A running consumer is asked to do it; for a stopped
one, the command changes the state directory, and queued jobs run at the next start.
"""

EPILOG = """\
Examples:
  pacifica-notifications-consumer jobs list --name sums --state dead
  pacifica-notifications-consumer jobs log --name sums -f 17
  pacifica-notifications-consumer jobs replay --dead --since 2026-11-24T18:00

--name and --state-dir can be left out where this user has only one consumer.

Exit status: 0 done; 2 wrong command line; 69 the consumer cannot be reached; 73 the consumer refuses, or its state
directory is not usable; 78 wrong settings, or no such consumer; 130 interrupted, or not confirmed.
"""

_MOST_NUMBERS = 20
_COLOURS = {
    "succeeded": terminal.GREEN,
    "dead": terminal.RED,
    "failed": terminal.RED,
    "running": terminal.CYAN,
    "queued": terminal.FAINT,
    "cancelled": terminal.FAINT,
}


def add_command(subparsers: Any) -> None:
    """Add the subcommand to the command."""
    parser = command_line.add_subcommand(
        subparsers, "jobs", None, "list, show, run again or cancel jobs", DESCRIPTION, EPILOG, settings=None
    )
    actions = parser.add_subparsers(prog=parser.prog, metavar="ACTION", required=True)

    listing = _add_action(actions, "list", "list the newest jobs", _list)
    states = [state.value for state in JobState]
    help_text = f"only jobs in this state ({', '.join(states)})"
    listing.add_argument("--state", choices=states, metavar="STATE", help=help_text)
    number = argument(lambda text: read.whole_number(text, 1, MOST_LISTED))
    listing.add_argument("--limit", type=number, default=20, metavar="N", help="the most jobs to list (default: 20)")
    listing.add_argument("--before", type=int, metavar="ID", help="only jobs with lower numbers")

    _add_action(actions, "show", "show everything about a job", _show).add_argument("id", type=int, metavar="ID")

    log = _add_action(actions, "log", "show the output of the entry-point", _log)
    log.add_argument("id", type=int, metavar="ID")
    log.add_argument("-f", "--follow", action="store_true", help="continue until the job ends")

    retry = _add_action(
        actions, "retry", "queue jobs again that have ended or failed", partial(_each, "retry", "queued again")
    )
    retry.add_argument("ids", type=int, metavar="ID", nargs="+")

    cancel = _add_action(actions, "cancel", "cancel jobs that wait or run", partial(_each, "cancel", "cancelled"))
    cancel.add_argument("ids", type=int, metavar="ID", nargs="+")
    cancel.add_argument("--reason", metavar="TEXT", help="the reason, which is shown with the job")

    replay = _add_action(actions, "replay", "queue all jobs again that match", _replay)
    states = [state.value for state in JobState if state.final or state is JobState.FAILED]
    replay.add_argument("--dead", dest="states", action="append_const", const="dead", help="the same as --state dead")
    help_text = f"only jobs in this state ({', '.join(states)}); may be repeated"
    replay.add_argument("--state", dest="states", action="append", choices=states, metavar="STATE", help=help_text)
    replay.add_argument(
        "--since",
        metavar="TIME",
        type=argument(_time),
        help="only notifications of this time (2026-11-24T18:00) or later",
    )
    replay.add_argument(
        "--until", metavar="TIME", type=argument(_time), help="only notifications of this time or earlier"
    )
    replay.add_argument(
        "--match",
        metavar="JSONPATH",
        type=argument(lambda text: Filter(text).jsonpath),
        help="only notifications that match this JSONPath",
    )
    replay.add_argument("--dry-run", action="store_true", help="only list the jobs")
    replay.add_argument("--yes", action="store_true", help="do not ask for confirmation")


def _time(text: str) -> str:
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError("it must be a time such as 2026-11-24T18:00") from None


def _add_action(
    actions: Any, name: str, help_text: str, act: Callable[[ConsumerClient, argparse.Namespace], None]
) -> argparse.ArgumentParser:
    def command(arguments: argparse.Namespace, settings: Settings) -> int:
        with asking(settings) as consumer:
            act(consumer, arguments)
        return 0

    description = f"{help_text[0].upper()}{help_text[1:]}."
    parser = command_line.add_subcommand(actions, name, command, help_text, description, EPILOG, settings=NAMED)
    command_line.add_output(parser)
    return parser


def _list(consumer: ConsumerClient, arguments: argparse.Namespace) -> None:
    query = {"limit": str(arguments.limit)}
    query |= {name: str(value) for name in ("state", "before") if (value := getattr(arguments, name)) is not None}
    listed = consumer.ask("GET", "/api/jobs", query)
    if arguments.output == "json":
        say_json(listed)
        return
    rows = [job_row(job) for job in listed["jobs"]]
    _table(("ID", "STATE", "STARTED", "TOOK", "MEMORY", "EVENT", "REMARKS"), rows)
    if not rows:
        say("no jobs found")
    elif listed["next"] is not None:
        say(f"older ones: --before {listed['next']}")


def _show(consumer: ConsumerClient, arguments: argparse.Namespace) -> None:
    job = consumer.ask("GET", f"/api/jobs/{arguments.id}")
    found = consumer.ask("GET", f"/api/jobs/{arguments.id}/files")
    if arguments.output == "json":
        say_json({**job, "files": found["files"]})
        return
    facts = {**job_facts(job), "state": coloured(job["state"], _COLOURS[job["state"]])}
    say(f"job {job['id']}")
    for name, fact in facts.items():
        if fact not in (None, ""):
            say(f"  {name + ':':<16}{fact}")
    for file in found["files"]:
        say(f"    {file['path']}  {size(file['size'])}")
    if found["more"]:
        say("    … and more")
    if job["output_tail"]:
        say("  last output:")
        for line in job["output_tail"].splitlines():
            say(f"    {line}")


def _log(consumer: ConsumerClient, arguments: argparse.Namespace) -> None:
    query = {"follow": "yes"} if arguments.follow else {}
    for piece in consumer.stream(f"/api/jobs/{arguments.id}/log", query):
        write_bytes(piece)


def _each(action: str, done: str, consumer: ConsumerClient, arguments: argparse.Namespace) -> None:
    """Apply an action of the API to each of some jobs."""
    document = {"reason": arguments.reason} if action == "cancel" and arguments.reason else {}
    # All numbers are checked first, so that a mistyped one changes nothing.
    for number in arguments.ids:
        consumer.ask("GET", f"/api/jobs/{number}")
    jobs = []
    for number in dict.fromkeys(arguments.ids):
        jobs.append(consumer.ask("POST", f"/api/jobs/{number}/{action}", document=document))
        if arguments.output == "text":
            say(f"job {number}: {done}")
    if arguments.output == "json":
        say_json({"jobs": jobs})


def _replay(consumer: ConsumerClient, arguments: argparse.Namespace) -> None:
    selection = {name: getattr(arguments, name) for name in ("since", "until", "match", "states")}
    selection = {name: value for name, value in selection.items() if value}
    if arguments.dry_run or not arguments.yes:
        found = consumer.ask("POST", "/api/replay", document={**selection, "dry_run": True})
        if arguments.output == "text" or not arguments.dry_run:
            numbers = ", ".join(map(str, found["jobs"][:_MOST_NUMBERS])) + ", …" * (found["count"] > _MOST_NUMBERS)
            say(f"{counted(found['count'], 'job')}{': ' if numbers else ''}{numbers}")
        if arguments.dry_run or not found["count"]:
            if arguments.output == "json":
                say_json(found)
            return
        _confirm(f"Run {counted(found['count'], 'job')} again? [y/N] ")
    done = consumer.ask("POST", "/api/replay", document=selection)
    if arguments.output == "json":
        say_json(done)
    else:
        say(f"{counted(done['count'], 'job')} queued again")


def _confirm(question: str) -> None:
    """Ask for confirmation; without it, the command ends."""
    if not is_terminal(sys.stdin):
        raise ConfigurationError("standard input is not a terminal to ask for confirmation", "pass --yes or --dry-run")
    if input(question).strip().lower() not in ("y", "yes"):
        raise Cancelled("nothing was done")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for line in (header, *rows) if rows else ():
        padded = [text.ljust(width) for text, width in zip(line, widths, strict=True)]
        if line is not header:
            padded[1] = padded[1].replace(line[1], coloured(line[1], _COLOURS[line[1]]))
        say("  ".join(padded).rstrip())
