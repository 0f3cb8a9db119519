"""Catch-up: find the transactions whose notifications never arrived, and process them as if they had.

The producer posts a notification once. If that fails (subscription off, consumer or producer down), it never posts it
again, but policy still knows the transaction. Pacifica numbers transactions upwards, so they are checked by number::

    ─101──102──103──104──105─┃─106──107──108──109─┃─110──111──112─┄┄┄─90001─▶
      A    A   gap   R    A  ┃ next          last ┃           ▲         ▲
      checked                ┃ follower           ┃         newest    stray

A: announced; the ledger has the notification, so policy is not asked. R: recovered; it matches and has a job now.
Gap: policy does not know the number (left out, or not there yet); it is asked again, ever less often, until
`patience` is over. Span: a range to check, from `next` to `last`, 64 numbers at a time. The follower is the span that
moves up with the newest number; a regular look moves its end only to the newest number of the look before (109),
since 110 to 112 may still be announced; at the start, and after a repair of the subscription, it moves to 112.
Operators add further spans (`catch-up`). Stray: a number that an uploader chose, more than 10,000 above the rest;
asked for at once, and not followed.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import attrs

from ..clients.base import make_session
from ..clients.policy import Policy
from ..clients.retry import growing_pause
from ..cloudevents.announcement import Identity
from ..errors import Cancelled, ConfigurationError, ServiceError, StateError
from ..ledger.coverage import FOLLOWER, Coverage, Gap, Span
from ..settings.converters import rate, seconds, transaction_or_time
from ..settings.option import documented, setting
from ..settings.services import Services
from ..system.periodic import Periodic
from .newest import find_newest
from .seeker import CatchUpStore, Seeker, SeekResult, Throttle, TransactionOutcome

log = logging.getLogger(__name__)

#: The name under which the ledger keeps the URL of policy and the user name of the last run.
ASKER = "asker"
#: The number of transactions that are checked per commit, and the number of requests to policy at the same time.
_WINDOW, _ASKERS = 64, 4
#: The number of delivered notifications that show the site's attributes and the last announced transaction.
_SAMPLE = 1000
#: Seconds between two queries of the ledger for new incidents, and for ranges that a command has added.
_LOOK = 1.0
#: The minimum and the maximum of seconds before policy is asked again for an unknown transaction.
_SOONEST, _LATEST = 5.0, 3600.0
#: A date before all transactions, so that a request up to it costs policy and metadata little.
_LONG_AGO = "1970-01-01"
#: Seconds before a failing policy is asked again: the first pause, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0


@documented
@attrs.frozen(kw_only=True)
class CatchUpRules:
    """The rules of the search for missed transactions; times are aware of their zones."""

    start: int | datetime | None = setting(
        "look for missed transactions from this one on: a number, or a time such as 2026-11-24T18:00; done once, "
        "however often the consumer is started with it; by default from the end of the last search, or the last "
        "announced transaction; on a new state directory, from the newest one on",
        transaction_or_time,
        name="catch_up_from",
    )
    interval: float = setting(
        "seconds between two searches for transactions that were not announced, if `policy_url` is set; 0 for no "
        "searches but those at the start and after repairs of the subscription",
        seconds,
        name="catch_up_interval",
        default=600.0,
    )
    patience: float = setting(
        "seconds to go on asking policy for a number that has no transaction yet: a number is given to an upload "
        "when it starts, and some are never used",
        seconds,
        name="catch_up_patience",
        default=86_400.0,
    )
    rate: float = setting(
        "maximum number of requests to policy per second in a search for missed transactions",
        rate,
        name="catch_up_rate",
        default=20.0,
    )


@attrs.define(eq=False, slots=False)
class CatchUp:
    """Searches for missed transactions that the user may see, until ``stop`` is set.

    All methods raise `ServiceError` when policy, or metadata behind it, cannot be asked, `StateError` when the ledger
    cannot be written, and `Cancelled` when they are stopped. Results up to then are kept; the next call continues.
    """

    _store: CatchUpStore
    _policy: Policy
    _username: str
    _rules: CatchUpRules
    _stop: threading.Event

    def __attrs_post_init__(self) -> None:
        self._coverage = self._store.coverage
        self._pace = Throttle(self._rules.rate, self._stop)
        self._learn()

    def _learn(self) -> None:
        """Learn the site's attributes from recently delivered notifications, or reuse those learnt before."""
        if learnt := Identity.learn(self._coverage.last_delivered(_SAMPLE)):
            self._coverage.put_fact("identity", attrs.asdict(learnt))
        self._identity = Identity(**(self._coverage.fact("identity") or {}))

    def look(self, *, all_of_it: bool) -> None:
        """Ask policy for the newest transaction, and move the end of the follower there if ``all_of_it``.

        Otherwise it is moved to the newest of the look before, because later transactions may still be announced.
        """
        self._learn()
        seen = self._coverage.newest
        newest = find_newest(self._policy, seen, self._pace.wait)
        follower = self._coverage.span(FOLLOWER) or self._begin(newest.number)
        if newest.anew:
            before, first = newest.anew
            log.warning("the numbers of transactions have jumped from %d to %d; continuing there", before, first)
            if left := range(follower.next, before + 1):
                self._coverage.add_span(left)
            follower = attrs.evolve(follower, next=first, last=first - 1)
        horizon = newest.number if all_of_it or seen is None else seen[0]
        follower = attrs.evolve(follower, last=max(follower.last, horizon))
        # Before `follow`: the next look may not see the strays any more.
        self._settle(newest.strays, {})
        self._coverage.follow(follower, (newest.number, newest.changed))
        self._start_where_told(follower)

    def work(self) -> bool:
        """Check the next window of each span, and the gaps that are due; returns whether there may be more to check.

        A long span is checked in windows, so that other spans need not wait.
        """
        spans = self._coverage.spans()
        for span in spans:
            self._scan_window(span)
        gaps = self._coverage.due_gaps(_WINDOW)
        self._settle([gap.transaction_id for gap in gaps], {gap.transaction_id: gap.since for gap in gaps})
        return bool(spans or gaps)

    def scan(self, span: Span, tell: Callable[[int, Sequence[SeekResult]], None]) -> None:
        """Check a span upwards; ``tell`` is called with the number of checked transactions and a window's results."""
        first = span.next
        while span.next <= span.last:
            span, findings = self._scan_window(span)
            tell(span.next - first, findings)

    def _scan_window(self, span: Span) -> tuple[Span, list[SeekResult]]:
        numbers = next(windows(range(span.next, span.last + 1)))
        known, findings = self.examine(numbers)
        now = time.time()
        gaps = [self._gap(finding, now, now) for finding in self._open(findings, known)]
        self._coverage.advance(span, numbers.stop, gaps, self._log(findings))
        return attrs.evolve(span, next=numbers.stop), findings

    def examine(self, numbers: Sequence[int]) -> tuple[dict[int, float | None], list[SeekResult]]:
        """Check transactions, and take the missed ones, without recording in the ledger that they were checked.

        Returns the arrival of each one's notification, None if it did not arrive; and the results for those.
        """
        known = dict(zip(numbers, self._coverage.known(map(self._identity.of, numbers)), strict=True))
        return known, self._seek([number for number in numbers if known[number] is None])

    def numbers(self, first: int | datetime | None, last: int | datetime | None) -> range:
        """Find the transactions between two numbers or times with zones.

        The range starts by default at the follower's position, and ends at the newest transaction.
        """
        start = self._policy.first_since(_metadata_time(first)) if isinstance(first, datetime) else first
        if first is None and (follower := self._coverage.span(FOLLOWER)):
            start = follower.next
        if isinstance(last, int):
            # An explicit number may be a stray.
            end = min(last, max(self._policy.transactions().times, default=0))
        else:
            end = find_newest(self._policy, self._coverage.newest, self._pace.wait).number
        if isinstance(last, datetime):
            end = min(end, max(self._policy.transactions(until=_metadata_time(last)).times, default=0))
        return range(end + 1 if start is None else max(1, start), end + 1)

    def _begin(self, newest: int) -> Span:
        """The start of the follower on a ledger without one."""
        announced = (self._identity.number(*pair) for pair in self._coverage.last_delivered(_SAMPLE))
        last = max((number for number in announced if number is not None), default=newest)
        return Span(id=FOLLOWER, next=last + 1, last=last)

    def _start_where_told(self, follower: Span) -> None:
        """Add a span for `CatchUpRules.start`, once for each value of the setting."""
        told = str(self._rules.start)
        if self._rules.start is None or self._coverage.fact("start") == told:
            return
        numbers = self.numbers(self._rules.start, follower.next - 1)
        log.info("checking %d earlier transactions, from %s on", len(numbers), told)
        if numbers:
            self._coverage.add_span(numbers)
        self._coverage.put_fact("start", told)

    def _seek(self, numbers: Sequence[int]) -> list[SeekResult]:
        if not numbers:
            return []
        seeker = Seeker(self._store, self._policy, self._username, self._identity, self._pace)
        with ThreadPoolExecutor(min(_ASKERS, len(numbers)), thread_name_prefix="catch-up") as pool:
            findings = list(pool.map(seeker.seek, numbers))
        if unreadable := [finding for finding in findings if finding.fate is TransactionOutcome.UNREADABLE]:
            # Raises an error if policy fails for all requests, not only for single transactions.
            self._policy.transactions(until=_LONG_AGO)
            example = f"{unreadable[0].transaction_id}: {unreadable[0].problem}"
            log.warning("transactions that policy cannot describe: %d, such as %s", len(unreadable), example)
        return findings

    def _log(self, findings: Sequence[SeekResult]) -> int:
        """Log the results; returns the number of refused transactions."""
        recovered = [finding.transaction_id for finding in findings if finding.fate is TransactionOutcome.RECOVERED]
        refused = sum(finding.fate is TransactionOutcome.REFUSED for finding in findings)
        if recovered or refused:
            log.info(
                "transactions that were not announced: %d recovered%s, %d match but are not for %s",
                len(recovered),
                f" (from {min(recovered)} to {max(recovered)})" if recovered else "",
                refused,
                self._username,
            )
        return refused

    def _open(self, findings: Sequence[SeekResult], known: dict[int, float | None]) -> Iterator[SeekResult]:
        """The transactions to be asked for again; numbers that were left out before an old transaction are not."""
        newest = self._coverage.newest
        too_old = False
        found = {finding.transaction_id: finding for finding in findings}
        for number in sorted(known, reverse=True):
            finding = found.get(number)
            if finding is None:
                # A transaction with a higher number was started later.
                too_old = too_old or time.time() - (known[number] or 0.0) > self._rules.patience
            elif finding.created:
                too_old = too_old or _seconds_between(finding.created, newest) > self._rules.patience
            elif finding.fate is TransactionOutcome.UNREADABLE or not too_old:
                yield finding

    def _settle(self, numbers: Sequence[int], since: Mapping[int, float]) -> None:
        """Check single transactions; those without a result become gaps. ``since``: the first requests for old gaps."""
        if not numbers:
            return
        now = time.time()
        _, findings = self.examine(numbers)
        stay = []
        for finding in findings:
            asked = since.get(finding.transaction_id, now)
            unknown = finding.fate is TransactionOutcome.UNKNOWN and now - asked < self._rules.patience
            if unknown or finding.fate is TransactionOutcome.UNREADABLE:
                stay.append(self._gap(finding, asked, now))
        closed = set(numbers) - {gap.transaction_id for gap in stay}
        self._coverage.settle(closed, stay, self._log(findings))

    def _gap(self, finding: SeekResult, since: float, now: float) -> Gap:
        # The longer it has been open, the less likely is a change.
        ask_at = now + min(max(now - since, _SOONEST), _LATEST)
        return Gap(transaction_id=finding.transaction_id, since=since, ask_at=ask_at, problem=finding.problem)


def windows(numbers: range) -> Iterator[range]:
    """Split a range into windows that are checked together."""
    return (numbers[start : start + _WINDOW] for start in range(0, len(numbers), _WINDOW))


@contextlib.contextmanager
def catching_up(store: CatchUpStore, services: Services, rules: CatchUpRules | None = None) -> Iterator[None]:
    """Search for missed transactions on a separate thread for as long as the context lasts.

    Args:
        store: Takes them; a `JobRunner` that has been entered.
        services: The URL of policy, and the user name.
        rules: The rules of the search.

    Raises:
        ConfigurationError: The URL of policy or the user name is missing.
    """
    if services.policy_url is None or services.username is None:
        missing = "username" if services.policy_url else "policy_url"
        raise ConfigurationError(f"cannot look for missed transactions: {missing} is not set", f"set `{missing}`")
    store.coverage.put_fact(ASKER, {"policy_url": services.policy_url, "username": services.username})
    rules = rules or CatchUpRules()
    stop = threading.Event()
    with make_session(services) as session:
        catch_up = CatchUp(store, Policy(services.policy_url, session), services.username, rules, stop)
        follower = _Follower(catch_up, store.coverage, rules.interval)
        with Periodic(follower.turn, name="catch-up", interval=_LONGEST_PAUSE, stopping=stop):
            yield


@attrs.define(eq=False)
class _Follower:
    """Starts a search at the start, after each incident and at each interval, and continues it until it is done."""

    _catch_up: CatchUp
    _coverage: Coverage
    _interval: float
    _incident: int = -1
    _next_look: float = 0.0
    _failures: int = 0

    def turn(self) -> float | None:
        """Do what is due; returns the seconds until the next turn."""
        try:
            more = self._take()
        except Cancelled:
            return None
        except (ServiceError, StateError) as error:
            self._failures += 1
            # While policy was down, the producer could not ask it either, so notifications may have been missed.
            self._incident = -1
            level = logging.WARNING if self._failures == 1 else logging.DEBUG
            log.log(level, "cannot look for missed transactions: %s", error)
            return growing_pause(self._failures, _FIRST_PAUSE, _LONGEST_PAUSE)
        if self._failures:
            log.info("policy can be asked again; looking for transactions that were missed meanwhile")
        self._failures = 0
        return 0.0 if more else _LOOK

    def _take(self) -> bool:
        """Do what is due; returns whether there is more to do at once."""
        incident = self._coverage.last_incident()
        mended = incident != self._incident
        if mended or (self._interval and time.monotonic() >= self._next_look):
            self._catch_up.look(all_of_it=mended)
            self._incident = incident
            self._next_look = time.monotonic() + self._interval
        next_gap = self._coverage.next_gap()
        due = self._coverage.spans() or (next_gap is not None and next_gap <= time.time())
        return self._catch_up.work() if due else False


def _metadata_time(time_: datetime) -> str:
    """Format a time as metadata does."""
    return time_.astimezone(UTC).replace(tzinfo=None, microsecond=0).isoformat()


def _seconds_between(earlier: str, newest: tuple[int, str] | None) -> float:
    """The seconds from one of metadata's times to that of the newest transaction; 0 if one is not a time."""
    with contextlib.suppress(ValueError, TypeError):
        if newest:
            return (datetime.fromisoformat(newest[1]) - datetime.fromisoformat(earlier)) / timedelta(seconds=1)
    return 0.0
