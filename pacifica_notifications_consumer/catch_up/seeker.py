"""A transaction that nobody announced to us: what policy says of it, and what becomes of it."""

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
    """Takes what was missed; `JobRunner` is one, for a consumer that runs."""

    @property
    def coverage(self) -> Coverage:
        """Which transactions have been looked at, announced or not."""
        ...

    def triage_transaction(self, answer: bytes, identity: Identity) -> TriagedTransaction | None:
        """Triage a transaction as if it had been announced; see `JobRunner.triage_transaction`."""
        ...

    def recover(self, announced: TriagedTransaction) -> Receipt:
        """Take a notification that nobody sent; see `JobRunner.recover`."""
        ...


@attrs.frozen
class LedgerStore:
    """Takes what was missed by a consumer that does not run; its jobs run when it is started.

    Args:
        ledger: The consumer's.
        readers: Judge as it does.
        take: Otherwise nothing is taken, but judged all the same.
    """

    ledger: Ledger
    readers: Readers
    take: bool = True

    @property
    def coverage(self) -> Coverage:
        """Which transactions have been looked at, announced or not."""
        return self.ledger.coverage

    def triage_transaction(self, answer: bytes, identity: Identity) -> TriagedTransaction | None:
        """Triage a transaction as if it had been announced; see `JobRunner.triage_transaction`."""
        return self.readers.transaction(answer, identity)

    def recover(self, announced: TriagedTransaction) -> Receipt:
        """Take a notification that nobody sent; see `JobRunner.recover`."""
        if not self.take:
            return Receipt(notification_id=0, verdict=announced.decision.verdict)
        return self.ledger.accept([(announced.decision, announced.body)], Origin.RECOVERED)[0]


class TransactionOutcome(enum.Enum):
    """What becomes of a transaction."""

    #: It was taken as if it had been announced.
    RECOVERED = "recovered"
    #: It matches, but the user may not see it.
    REFUSED = "refused"
    #: It does not match, or that cannot be decided, or it is the consumer's own, or has been announced meanwhile.
    LEFT_ALONE = "left alone"
    #: policy does not know it.
    UNKNOWN = "unknown"
    #: policy could not tell.
    UNREADABLE = "unreadable"


@attrs.frozen(kw_only=True)
class SeekResult:
    """What was found out about a transaction.

    Args:
        transaction_id: Its number.
        fate: What becomes of it.
        created: When it was made: ISO 8601 in UTC, without zone; empty if that was not told.
        problem: Why policy could not tell, in words.
    """

    transaction_id: int
    fate: TransactionOutcome
    created: str = ""
    problem: str = ""


class Throttle:
    """Keeps questions from coming faster than so many a second.

    Args:
        rate: So many.
        stop: Ends it all when set.
    """

    def __init__(self, rate: float, stop: threading.Event) -> None:
        self._pause = 1.0 / rate
        self._stop = stop
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Wait for one's turn.

        Raises:
            Cancelled: There are to be no more.
        """
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._pause
        if self._stop.wait(turn - time.monotonic()):
            raise Cancelled("stopped while looking for missed transactions")


@attrs.frozen
class Seeker:
    """Finds out about transactions, and has those taken that were missed; may be used by several threads.

    Args:
        store: Judges and takes them.
        policy: Knows them.
        username: Who must be allowed to see what is taken.
        identity: What the site's notifications carry.
        pace: Keeps policy from being overrun.
    """

    _store: CatchUpStore
    _policy: Policy
    _username: str
    _identity: Identity
    _pace: Throttle

    def seek(self, transaction_id: int) -> SeekResult:
        """Find out about a transaction.

        Raises:
            StateError: The disk does not take its notification.
            Cancelled: There are to be no more questions.
        """
        created = ""
        try:
            self._pace.wait()
            announced = self._store.triage_transaction(self._policy.answer(transaction_id), self._identity)
            if announced is None:
                return SeekResult(transaction_id=transaction_id, fate=TransactionOutcome.UNKNOWN)
            created = announced.created
            fate = self._decide(announced)
        except (ServiceError, NotificationError) as error:
            return SeekResult(transaction_id=transaction_id, fate=TransactionOutcome.UNREADABLE, problem=str(error))
        return SeekResult(transaction_id=transaction_id, fate=fate, created=created)

    def _decide(self, announced: TriagedTransaction) -> TransactionOutcome:
        # What could not be decided is set aside, as if it had been announced.
        if announced.decision.verdict not in (Verdict.MATCHED, Verdict.UNDECIDABLE):
            return TransactionOutcome.LEFT_ALONE
        self._pace.wait()
        if not self._policy.may_see(self._username, announced.body):
            return TransactionOutcome.REFUSED
        receipt = self._store.recover(announced)
        return TransactionOutcome.RECOVERED if receipt.verdict is Verdict.MATCHED else TransactionOutcome.LEFT_ALONE
