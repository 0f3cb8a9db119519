"""Seeker: checks a transaction that was not announced, and takes it if it matches and the user may see it."""

from __future__ import annotations

import enum
import threading
import time
from typing import Protocol

import attrs

from ..clients.policy import Policy
from ..cloudevents.announcement import Identity
from ..errors import Cancelled, NotificationError, ServiceError
from ..jobs.job import Origin, Receipt, Verdict
from ..jobs.readers import Readers
from ..jobs.triage import TriagedTransaction
from ..ledger.coverage import Coverage
from ..ledger.ledger import Ledger


class CatchUpStore(Protocol):
    """Takes missed transactions; `JobRunner` is the store of a running consumer."""

    @property
    def coverage(self) -> Coverage:
        """The transactions that have been examined, whether or not they were announced."""

    def triage_transaction(self, answer: bytes, identity: Identity) -> TriagedTransaction | None:
        """Triage a transaction as if it had been announced; see `JobRunner.triage_transaction`."""

    def recover(self, announced: TriagedTransaction) -> Receipt:
        """Take the notification of a transaction that was not announced; see `JobRunner.recover`."""


@attrs.frozen
class LedgerStore:
    """The store of a stopped consumer; the jobs run when the consumer is started.

    Args:
        ledger: The ledger of the consumer.
        readers: The processes that decide about transactions.
        take: Whether to take missed transactions; otherwise they are only decided about.
    """

    ledger: Ledger
    readers: Readers
    take: bool = True

    @property
    def coverage(self) -> Coverage:
        """See `CatchUpStore`."""
        return self.ledger.coverage

    def triage_transaction(self, answer: bytes, identity: Identity) -> TriagedTransaction | None:
        """See `CatchUpStore`."""
        return self.readers.transaction(answer, identity)

    def recover(self, announced: TriagedTransaction) -> Receipt:
        """See `CatchUpStore`."""
        if not self.take:
            return Receipt(notification_id=0, verdict=announced.decision.verdict)
        return self.ledger.accept([(announced.decision, announced.body)], Origin.RECOVERED)[0]


class TransactionOutcome(enum.Enum):
    """The outcome of checking a transaction."""

    #: It was taken as if it had been announced.
    RECOVERED = "recovered"
    #: It matches, but the user may not see it.
    REFUSED = "refused"
    #: It does not match, or that cannot be decided, or it is the consumer's own, or has been announced meanwhile.
    LEFT_ALONE = "left alone"
    #: policy does not know it.
    UNKNOWN = "unknown"
    #: The answer of policy was an error, or incomplete.
    UNREADABLE = "unreadable"


@attrs.frozen(kw_only=True)
class SeekResult:
    """The result of checking a transaction."""

    transaction_id: int
    fate: TransactionOutcome
    #: The time of its creation in UTC, in ISO 8601 without zone; empty if unknown.
    created: str = ""
    #: The error of an unreadable transaction.
    problem: str = ""


class Throttle:
    """Limits the number of requests per second; ``stop`` ends all waiting."""

    def __init__(self, rate: float, stop: threading.Event) -> None:
        self._pause = 1.0 / rate
        self._stop = stop
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Wait until the next request may be sent; raises `Cancelled` when ``stop`` is set."""
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._pause
        if self._stop.wait(turn - time.monotonic()):
            raise Cancelled("stopped while looking for missed transactions")


@attrs.frozen
class Seeker:
    """Checks transactions, and takes the missed ones that the user may see; may be used by several threads."""

    _store: CatchUpStore
    _policy: Policy
    _username: str
    _identity: Identity
    _pace: Throttle

    def seek(self, transaction_id: int) -> SeekResult:
        """Check a transaction; raises `StateError` if its notification cannot be written, `Cancelled` when stopped."""
        try:
            self._pace.wait()
            announced = self._store.triage_transaction(self._policy.answer(transaction_id), self._identity)
            if announced is None:
                return SeekResult(transaction_id=transaction_id, fate=TransactionOutcome.UNKNOWN)
            fate = self._decide(announced)
        except (ServiceError, NotificationError) as error:
            return SeekResult(transaction_id=transaction_id, fate=TransactionOutcome.UNREADABLE, problem=str(error))
        return SeekResult(transaction_id=transaction_id, fate=fate, created=announced.created)

    def _decide(self, announced: TriagedTransaction) -> TransactionOutcome:
        # Undecidable notifications are taken, too, and set aside like announced ones.
        if announced.decision.verdict not in (Verdict.MATCHED, Verdict.UNDECIDABLE):
            return TransactionOutcome.LEFT_ALONE
        self._pace.wait()
        if not self._policy.may_see(self._username, announced.body):
            return TransactionOutcome.REFUSED
        receipt = self._store.recover(announced)
        return TransactionOutcome.RECOVERED if receipt.verdict is Verdict.MATCHED else TransactionOutcome.LEFT_ALONE
