"""The subcommand catch-up: searches a range of transactions for unannounced ones."""

from __future__ import annotations

import argparse
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from pacifica_notifications_consumer.catch_up.catch_up import ASKER, CatchUp, windows
from pacifica_notifications_consumer.catch_up.seeker import LedgerStore, SeekResult, TransactionOutcome
from pacifica_notifications_consumer.clients.base import make_session
from pacifica_notifications_consumer.clients.policy import Policy
from pacifica_notifications_consumer.errors import ConfigurationError, InUse
from pacifica_notifications_consumer.jobs.directory import LEDGER, StateDirectory
from pacifica_notifications_consumer.jobs.readers import Readers
from pacifica_notifications_consumer.jobs.triage import Triage
from pacifica_notifications_consumer.ledger.coverage import Coverage
from pacifica_notifications_consumer.ledger.ledger import Ledger
from pacifica_notifications_consumer.queue.job_book import TRIAGE
from pacifica_notifications_consumer.settings.converters import transaction_or_time
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.system.terminal import show_progress
from pacifica_notifications_runner.operating.client import state_dir_of
from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.command_line import argument
from pacifica_notifications_runner.options.settings import ASKING, NAMED, Settings
from pacifica_notifications_runner.process.terminal import say

DESCRIPTION = """\
Search a range of transactions for those that were not announced to a consumer, and queue a job for each that its
JSONPath matches and its user may see. A running consumer does the search itself, while the command waits; for a stopped
one the command does it, and the jobs run at the next start. The consumer must have been started once: its JSONPath and
the address of policy are read from its state directory.
"""

EPILOG = """\
Examples:
  pacifica-notifications-consumer catch-up --from 2026-11-24T18:00 --dry-run
  pacifica-notifications-consumer catch-up --name sums --from 1200 --to 1350

Exit status: 0 done; 2 wrong command line; 69 policy cannot be asked; 73 the state directory is not usable; 78 wrong
settings, or no such consumer; 130 interrupted: the consumer continues the search, now or at its next start.
"""

#: Seconds between two checks of the running consumer's progress, and without progress until a message.
_POLL, _SILENCE = 0.2, 30.0


def add_command(subparsers: Any) -> None:
    """Add the subcommand to the command."""
    settings = (*NAMED, *ASKING, "catch_up_patience", "catch_up_rate")
    parser = command_line.add_subcommand(
        subparsers, "catch-up", catch_up, "look for unannounced transactions", DESCRIPTION, EPILOG, settings=settings
    )
    parser.add_argument(
        "--from",
        dest="first",
        metavar="ID|TIME",
        type=argument(transaction_or_time),
        help="the first transaction: its number, or a time, by default in this machine's time zone "
        "(default: the first that the consumer has not looked at)",
    )
    parser.add_argument(
        "--to",
        dest="last",
        metavar="ID|TIME",
        type=argument(transaction_or_time),
        help="the last one (default: the newest)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only list the jobs that would be run")


def catch_up(arguments: argparse.Namespace, settings: Settings) -> int:
    """Search a range of transactions."""
    state_dir = state_dir_of(settings)
    with contextlib.ExitStack() as stack:
        # First, since only the holder of the state directory may add to the ledger.
        stopped = not arguments.dry_run and _hold(state_dir, stack)
        ledger = stack.enter_context(contextlib.closing(Ledger(state_dir / LEDGER)))
        store = _store(ledger, state_dir, take=stopped)
        stack.callback(store.readers.close)
        services = _services(settings, ledger.coverage, state_dir)
        policy = Policy(str(services.policy_url), stack.enter_context(make_session(services)))
        catch_up = CatchUp(store, policy, str(services.username), settings.catch_up, threading.Event())
        numbers = catch_up.numbers(arguments.first, arguments.last)
        report = _Summary(numbers, str(services.username), arguments.dry_run)
        if not numbers:
            say("this range has no transactions")
        elif arguments.dry_run:
            for window in windows(numbers):
                report.add(window.stop - numbers.start, catch_up.examine(window)[1])
            report.close()
        elif stopped:
            catch_up.scan(ledger.coverage.add_span(numbers), report.add)
            report.close()
        else:
            _wait_for_consumer(ledger.coverage, numbers)
    return 0


def _hold(state_dir: Path, stack: contextlib.ExitStack) -> bool:
    """Prevent the start of the consumer meanwhile; False if it runs."""
    try:
        stack.enter_context(contextlib.closing(StateDirectory(state_dir, "catch-up")))
    except InUse:
        return False
    return True


def _store(ledger: Ledger, state_dir: Path, *, take: bool) -> LedgerStore:
    triage = ledger.coverage.fact(TRIAGE)
    if triage is None:
        raise ConfigurationError(
            f"the consumer of the state directory {state_dir} was never started", "start the consumer once"
        )
    return LedgerStore(ledger, Readers(Triage.from_settings(triage)), take)


def _services(settings: Settings, coverage: Coverage, state_dir: Path) -> Services:
    """The services and the user: from the settings, else those of the consumer's last start."""
    services = settings.services
    asker = coverage.fact(ASKER) or {}
    services = attrs.evolve(
        services,
        policy_url=services.policy_url or asker.get("policy_url"),
        username=services.username or asker.get("username"),
    )
    for name in ("policy_url", "username"):
        if getattr(services, name) is None:
            raise ConfigurationError(f"the consumer of {state_dir} was not started with `{name}`", "set it here")
    return services


@attrs.frozen
class _Summary:
    """Prints the findings line by line, and a summary."""

    _numbers: range
    _username: str
    _dry: bool
    _counts: Counter[TransactionOutcome] = attrs.field(factory=Counter, init=False)

    def add(self, done: int, findings: Sequence[SeekResult]) -> None:
        show_progress("")
        for finding in findings:
            self._counts[finding.fate] += 1
            if finding.fate is TransactionOutcome.RECOVERED:
                result = "would be run" if self._dry else "queued"
                say(f"transaction {finding.transaction_id}, made {finding.created} UTC: {result}")
            elif finding.fate is TransactionOutcome.UNREADABLE:
                say(f"transaction {finding.transaction_id}: {finding.problem}")
        show_progress(f"{done} of {len(self._numbers)}")

    def close(self) -> None:
        show_progress("")
        counts = self._counts
        result = "would be run" if self._dry else "queued, to run when the consumer is started"
        unknown = counts[TransactionOutcome.UNKNOWN] + counts[TransactionOutcome.UNREADABLE]
        say(
            f"of the {len(self._numbers)} numbers from {self._numbers[0]} to {self._numbers[-1]}, "
            f"{counts[TransactionOutcome.RECOVERED]} {result}; {counts[TransactionOutcome.REFUSED]} match, but are not "
            f"for {self._username}; {unknown} not known to policy yet"
        )


def _wait_for_consumer(coverage: Coverage, numbers: range) -> None:
    before = coverage.counts()
    span = coverage.add_span(numbers)
    say(f"the running consumer looks at the numbers from {numbers[0]} to {numbers[-1]}")
    next_, moved_at = span.next, time.monotonic()
    while left := coverage.span(span.id):
        if left.next != next_:
            next_, moved_at = left.next, time.monotonic()
            show_progress(f"{next_ - span.next} of {len(numbers)}")
        elif time.monotonic() - moved_at > _SILENCE:
            moved_at = float("inf")
            say("no progress: policy may be down, or the consumer was started without --policy-url; see its log")
        time.sleep(_POLL)
    show_progress("")
    counts = coverage.counts()
    say(
        f"{counts.recovered - before.recovered} recovered; {counts.refused - before.refused} match, but are not for "
        f"its user; {counts.unknown} in all are not known to policy yet, and are asked for again"
    )
