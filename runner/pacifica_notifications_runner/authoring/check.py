"""The subcommand check: finds the faults of a consumer before it is started."""

from __future__ import annotations

import argparse
import logging
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs

from pacifica_notifications_consumer.archive.archive import INIT_SCRIPT, REQUIREMENTS, Consumer, consumer_directory
from pacifica_notifications_consumer.archive.checks import check_parts
from pacifica_notifications_consumer.archive.filter_checks import Match, check_loops, check_notification
from pacifica_notifications_consumer.archive.findings import Finding, Level, finding_of
from pacifica_notifications_consumer.archive.import_checks import check_imports
from pacifica_notifications_consumer.archive.packing import unpack
from pacifica_notifications_consumer.errors import ArchiveError, InitScriptError, PacificaError, VenvError
from pacifica_notifications_consumer.settings.converters import counted
from pacifica_notifications_consumer.system.account import Account
from pacifica_notifications_consumer.system.terminal import is_terminal
from pacifica_notifications_runner import steps
from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.settings import RIGHTS, SETUP, Settings, with_flags
from pacifica_notifications_runner.process import terminal
from pacifica_notifications_runner.process.signals import StopSignals
from pacifica_notifications_runner.process.terminal import coloured, say, say_json

DESCRIPTION = """\
Find the faults of a consumer before it is started: in the archive, the syntax of the entry-point, the JSONPath, which
may never match, init.sh, the requirements, and imports that no requirement provides. To check the last three, the
command creates the consumer's environment and runs init.sh in it, unless an unchanged one is in the user's cache.
"""

EPILOG = """\
Examples:
  pacifica-notifications-consumer check count-lines
  pacifica-notifications-consumer check consumer.zip --against notification.json

Exit status: 0 no errors found, though perhaps warnings; 2 wrong command line; 65 errors found; 66 no errors found, but
a notification given with --against does not match; 78 wrong settings; 130 stopped.
"""

_FOUND, _NOT_MATCHED = 65, 66
_COLOURS = {Level.ERROR: terminal.RED, Level.WARNING: terminal.YELLOW, Level.NOTE: terminal.FAINT}


def add_command(subparsers: Any) -> None:
    """Add the subcommand to the command."""
    parser = command_line.add_subcommand(
        subparsers, "check", check, "find faults of a consumer", DESCRIPTION, EPILOG, settings=(*SETUP, *RIGHTS)
    )
    parser.add_argument("consumer", type=Path, metavar="consumer.zip|DIR", help="the consumer")
    help_text = "files with notifications: show whether the JSONPath matches each, and why"
    parser.add_argument("--against", type=Path, nargs="+", default=[], metavar="FILE", help=help_text)
    parser.add_argument(
        "--no-environment", action="store_true", help="do not check init.sh, the requirements and imports"
    )
    steps.add_no_venv_cache(parser)
    command_line.add_output(parser)


def check(arguments: argparse.Namespace, settings: Settings) -> int:
    """Check a consumer."""
    if not settings.verbose and not is_terminal(sys.stderr):
        # The installer's progress is shown only at a terminal.
        logging.getLogger("pacifica_notifications_consumer").setLevel(logging.WARNING)
    run_as = steps.limit_privileges(settings)
    findings: list[Finding] = []
    matches: list[Match] = []
    with ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        unpacked = consumer_directory(lambda to: unpack(arguments.consumer, to, settings.archive_limits), run_as)
        try:
            directory = stack.enter_context(unpacked)
        except ArchiveError as error:
            findings.append(finding_of(error, str(arguments.consumer)))
        else:
            findings += check_parts(directory, settings.python, run_as)
            findings += _check_whole(directory, arguments, settings, signals, run_as, matches, findings)
    _report(arguments, findings, matches)
    if any(finding.level is Level.ERROR for finding in findings):
        return _FOUND
    return 0 if all(match.matches for match in matches) else _NOT_MATCHED


def _check_whole(
    directory: Path,
    arguments: argparse.Namespace,
    settings: Settings,
    signals: StopSignals,
    run_as: Account,
    matches: list[Match],
    found: Sequence[Finding],
) -> Iterator[Finding]:
    """The checks of a consumer whose parts can all be read; adds to ``matches``."""
    try:
        consumer = Consumer.load(directory)
    except PacificaError:
        return  # the findings about its parts give the reason
    yield from check_loops(consumer)
    for path in arguments.against:
        match = check_notification(consumer.filter, path)
        if isinstance(match, Match):
            matches.append(match)
        else:
            yield match
    if arguments.no_environment or any(finding.level is Level.ERROR for finding in found):
        return
    settings = steps.with_venv_cache(arguments, settings, run_as)
    try:
        with steps.venv_builder(consumer, settings, signals.stop, run_as) as venv:
            yield from check_imports(consumer, venv, run_as)
    except VenvError as error:
        position = INIT_SCRIPT if isinstance(error, InitScriptError) else REQUIREMENTS
        yield finding_of(error, str(arguments.consumer) if type(error) is VenvError else position)


def _report(arguments: argparse.Namespace, findings: Sequence[Finding], matches: Sequence[Match]) -> None:
    if arguments.output == "json":
        documents = [
            {
                "level": finding.level.value,
                "place": finding.position,
                "problem": finding.problem,
                "advice": with_flags(finding.advice),
                "details": finding.details,
            }
            for finding in findings
        ]
        notifications = [{**attrs.asdict(match), "path": str(match.path)} for match in matches]
        say_json({"consumer": str(arguments.consumer), "findings": documents, "notifications": notifications})
        return
    for finding in sorted(findings, key=lambda finding: list(Level).index(finding.level)):
        advice = f"; {with_flags(finding.advice)}" if finding.advice else ""
        say(f"{coloured(finding.level.value, _COLOURS[finding.level])}: {finding.position}: {finding.problem}{advice}")
        if finding.details:
            say(textwrap.indent(finding.details, "    "))
    for match in matches:
        say(f"{match.path}: {match.explanation}")
    counts = Counter(finding.level for finding in findings)
    summary = [counted(counts[level], level.value) for level in Level if counts[level]]
    if unmatched := sum(not match.matches for match in matches):
        summary.append(f"{counted(unmatched, 'notification')} not matched")
    say(f"{arguments.consumer}: {', '.join(summary) or 'no faults found'}")
