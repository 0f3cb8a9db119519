"""The subcommand jobs: what has become of a consumer's jobs, and what can still be done about them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pacifica_notifications_consumer.errors import Cancelled, ConfigurationError
from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_runner.operating.client import ConsumerClient, as_json, asking
from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.settings import NAMED, Settings
from pacifica_notifications_runner.process.formats import clock, count, duration, progress, remarks, since, size
from pacifica_notifications_runner.process.logs import wants_colour

DESCRIPTION = """\
List the jobs of a consumer, look into one of them, run some again, or cancel them. A consumer that runs does it itself;
with one that is stopped, it is done in its state directory, and what is queued runs at its next start.
"""

EPILOG = """\
Examples:
  pacifica-notifications-consumer jobs list --name sums --state dead
  pacifica-notifications-consumer jobs log --name sums -f 17
  pacifica-notifications-consumer jobs replay --name sums --dead --since 2026-11-24T18:00

Without --name or --state-dir the only consumer of this user is meant, if it is the only one.

Exit status: 0; 2 wrong command line; 69 the consumer cannot be reached; 73 it does not do that, or its state directory
is not usable; 78 wrong settings, or no such consumer; 130 stopped, or
not meant.
"""

Document = Mapping[str, Any]

_COLOURS = {"succeeded": "32", "dead": "31", "failed": "31", "running": "36", "queued": "2", "cancelled": "2"}


def add_command(subparsers: Any) -> None:
    """Add the subcommand to the command."""
    parser = command_line.add_subcommand(
        subparsers, "jobs", "list, look into, run again or cancel a consumer's jobs", DESCRIPTION, EPILOG, settings=None
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    listing = _add_action(actions, "list", "list the newest jobs", _list)
    listing.add_argument("--state", choices=[state.value for state in JobState], help="only those in this state")
    listing.add_argument("--limit", type=int, default=20, metavar="N", help="how many at most (default: 20)")
    listing.add_argument("--before", type=int, metavar="ID", help="only those with numbers below this one")

    _add_action(actions, "show", "show all that is known of a job", _show).add_argument("id", type=int, metavar="ID")

    log = _add_action(actions, "log", "show what the entry-point has printed", _log)
    log.add_argument("id", type=int, metavar="ID")
    log.add_argument("-f", "--follow", action="store_true", help="go on until the job ends")

    retry = _add_action(actions, "retry", "queue jobs anew that have ended or failed", _retry)
    retry.add_argument("ids", type=int, metavar="ID", nargs="+")

    cancel = _add_action(actions, "cancel", "cancel jobs that wait or are running", _cancel)
    cancel.add_argument("ids", type=int, metavar="ID", nargs="+")
    cancel.add_argument("--reason", metavar="TEXT", help="why, for those who look at the job later")

    replay = _add_action(actions, "replay", "queue all jobs anew that these hold for", _replay)
    states = [state.value for state in JobState if state.final or state is JobState.FAILED]
    replay.add_argument("--dead", dest="states", action="append_const", const="dead", help="as --state dead")
    replay.add_argument(
        "--state", dest="states", action="append", choices=states, help="those in this state; may be repeated"
    )
    replay.add_argument(
        "--since", metavar="TIME", help="those whose notifications came at this time (2026-11-24T18:00) or later"
    )
    replay.add_argument("--until", metavar="TIME", help="and at this time or before")
    replay.add_argument("--match", metavar="JSONPATH", help="those whose notifications match this JSONPath")
    replay.add_argument("--dry-run", action="store_true", help="only say which they are")
    replay.add_argument("--yes", action="store_true", help="do not ask whether it is meant")


def _add_action(
    actions: Any, name: str, help_text: str, act: Callable[[ConsumerClient, argparse.Namespace], int]
) -> argparse.ArgumentParser:
    description = f"{help_text[0].upper()}{help_text[1:]}."
    parser: argparse.ArgumentParser = command_line.add_subcommand(
        actions, name, help_text, description, EPILOG, settings=NAMED
    )
    parser.add_argument(
        "--output", choices=("text", "json"), default="text", help="text for people, json as the API has it"
    )

    def command(arguments: argparse.Namespace, settings: Settings) -> int:
        with asking(settings) as consumer:
            return act(consumer, arguments)

    parser.set_defaults(command=command)
    return parser


def _list(consumer: ConsumerClient, arguments: argparse.Namespace) -> int:
    query = {"limit": str(arguments.limit)}
    query |= {name: str(value) for name in ("state", "before") if (value := getattr(arguments, name)) is not None}
    listed = consumer.ask("GET", "/api/jobs", query)
    if arguments.output == "json":
        _say(as_json(listed))
        return 0
    rows = [_row(job) for job in listed["jobs"]]
    _table(("ID", "STATE", "STARTED", "TOOK", "MEMORY", "EVENT", "REMARKS"), rows)
    if not rows:
        _say("there is no such job")
    elif listed["next"] is not None:
        _say(f"older ones: --before {listed['next']}")
    return 0


def _row(job: Document) -> list[str]:
    running = job["state"] == "running"
    took = duration(since(job["started_at"]) if running else job["seconds"])
    return [
        str(job["id"]),
        job["state"],
        clock(job["started_at"]),
        took,
        size(job["peak_memory"]),
        job["title"],
        remarks(job),
    ]


def _show(consumer: ConsumerClient, arguments: argparse.Namespace) -> int:
    job = consumer.ask("GET", f"/api/jobs/{arguments.id}")
    found = consumer.ask("GET", f"/api/jobs/{arguments.id}/files")
    if arguments.output == "json":
        _say(as_json({**job, "files": found["files"]}))
        return 0
    facts = (
        ("state", _coloured(job["state"])),
        ("remarks", remarks(job)),
        ("notification", f"{job['title']} ({job['origin']})"),
        ("received", clock(job["received_at"])),
        ("started", clock(job["started_at"])),
        ("ended", clock(job["ended_at"])),
        ("took", duration(job["seconds"])),
        ("processor time", duration(job["cpu_seconds"])),
        ("memory", size(job["peak_memory"])),
        ("exit status", job["exit_status"]),
        ("attempts", job["attempts"] or ""),
        ("put off", job["deferrals"] or ""),
        ("crashes", job["crashes"] or ""),
        ("progress", progress(job["progress"])),
        ("trace", job["trace"]),
        ("directory", job["directory"]),
        ("worker", job["worker"]),
        ("there in", job["worker_directory"]),
    )
    _say(f"job {job['id']}")
    for name, fact in facts:
        if fact not in (None, ""):
            _say(f"  {name + ':':<16}{fact}")
    for file in found["files"]:
        _say(f"    {file['path']}  {size(file['size'])}")
    if found["more"]:
        _say("    … and more")
    if job["output_tail"]:
        _say("  the last it printed:")
        for line in job["output_tail"].splitlines():
            _say(f"    {line}")
    return 0


def _log(consumer: ConsumerClient, arguments: argparse.Namespace) -> int:
    query = {"follow": "yes"} if arguments.follow else {}
    for piece in consumer.stream(f"/api/jobs/{arguments.id}/log", query):
        # The entry-point's own bytes, whatever they are.
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    return 0


def _retry(consumer: ConsumerClient, arguments: argparse.Namespace) -> int:
    return _each(consumer, arguments, "retry", "queued anew", {})


def _cancel(consumer: ConsumerClient, arguments: argparse.Namespace) -> int:
    document = {"reason": arguments.reason} if arguments.reason else {}
    return _each(consumer, arguments, "cancel", "cancelled", document)


def _each(consumer: ConsumerClient, arguments: argparse.Namespace, action: str, done: str, document: Document) -> int:
    # A slip in one number must not leave the others half done.
    for number in arguments.ids:
        consumer.ask("GET", f"/api/jobs/{number}")
    jobs = []
    for number in dict.fromkeys(arguments.ids):
        jobs.append(consumer.ask("POST", f"/api/jobs/{number}/{action}", document=document))
        if arguments.output == "text":
            _say(f"job {number}: {done}")
    if arguments.output == "json":
        _say(as_json({"jobs": jobs}))
    return 0


def _replay(consumer: ConsumerClient, arguments: argparse.Namespace) -> int:
    selection = {name: getattr(arguments, name) for name in ("since", "until", "match", "states")}
    selection = {name: value for name, value in selection.items() if value}
    if arguments.dry_run or not arguments.yes:
        found = consumer.ask("POST", "/api/replay", document={**selection, "dry_run": True})
        if arguments.output == "text" or not arguments.dry_run:
            _say(f"{count(found['count'], 'job')}{': ' if found['jobs'] else ''}{_numbers(found)}")
        if arguments.dry_run or not found["count"]:
            if arguments.output == "json":
                _say(as_json(found))
            return 0
        _insist(f"Run {count(found['count'], 'job')} again? [y/N] ")
    done = consumer.ask("POST", "/api/replay", document=selection)
    _say(as_json(done) if arguments.output == "json" else f"{count(done['count'], 'job')} queued anew")
    return 0


def _numbers(found: Document) -> str:
    shown = ", ".join(map(str, found["jobs"][:20]))
    return f"{shown}, …" if found["count"] > len(found["jobs"][:20]) else shown


def _insist(question: str) -> None:
    """Ask a person whether something is meant.

    Raises:
        Cancelled: It is not.
        ConfigurationError: Nobody is there to be asked.
    """
    if not (sys.stdin is not None and sys.stdin.isatty()):
        raise ConfigurationError("nobody is there to be asked whether that is meant", "say --yes, or --dry-run")
    if input(question).strip().lower() not in ("y", "yes"):
        raise Cancelled("nothing was done")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for number, line in enumerate(lines):
        padded = [text.ljust(width) for text, width in zip(line, widths, strict=True)]
        if number:
            padded[1] = _coloured(line[1]) + padded[1][len(line[1]) :]
        _say("  ".join(padded).rstrip())


def _coloured(state: str) -> str:
    return f"\033[{_COLOURS[state]}m{state}\033[0m" if wants_colour(sys.stdout) else state


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (the command's output)
