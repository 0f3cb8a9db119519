"""JobRunner: runs an entry-point for each matching notification, from a durable queue."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Self

import attrs

from ..cloudevents.announcement import Identity
from ..cloudevents.notification import MAX_DEPTH
from ..cloudevents.trace import read_traceparent, trace_id
from ..engines.engine import Engine, Terms
from ..engines.executor import ExecutorEngine
from ..engines.local import LocalEngine
from ..environment.venv import Venv
from ..errors import ConfigurationError, NotificationError, StateError
from ..filter.filter import Filter
from ..jobs.directory import StateDirectory
from ..jobs.job import Job, Origin, Receipt
from ..jobs.limits import JobLimits
from ..jobs.readers import Readers
from ..jobs.retention import Keep
from ..jobs.triage import Decision, Triage, TriagedTransaction
from ..ledger.ledger import Ledger
from ..settings import converters as read
from ..settings.converters import check
from ..settings.services import Services
from ..subscription.incident import Incident
from ..system.account import CURRENT_USER, Account
from ..system.log_context import concerning
from .histograms import Histograms
from .job_book import TRIAGE, JobBook
from .maintenance import Maintenance
from .recovery import abandon_cancelled, recover
from .workers import RetryRules, Workers

log = logging.getLogger(__name__)


class JobRunner(JobBook):
    """Takes notifications, and runs the entry-point for each matching one.

    It is a context manager: entering opens the queue and continues with the jobs that an earlier run left in it, see
    `recovery`; leaving gives the running jobs a grace period, returns unfinished jobs to the queue, and closes it.

    Args:
        entry_point: The script; it is run as ``python entry_point SRC DST`` in its own directory.
        state_dir: The directory of the queue and the jobs' directories; only one runner at a time may use it.
        name: The consumer's name. Uploads of the consumer carry it, and their notifications are ignored.
        filter: The filter that notifications must match, or its JSONPath; None matches all.
        venv: The environment of the entry-point, or its path; by default that of the running interpreter.
        services: The Pacifica services and the user name for ``download()`` and ``upload()`` in the entry-point; by
            default they are read from the environment variables.
        workers: The maximum number of jobs at the same time, up to 1,000.
        timeout: Seconds that an attempt may take; None for no limit.
        attempts: The number of failed attempts that make a job dead. Exit status 75 means "try again later" and does
            not count.
        deferrals: The number of a job's attempts that may end with exit status 75; the next one makes it dead. None for
            any number.
        crash_limit: The number of crashes of the runner or the machine that a job may survive.
        retry_delay: Seconds before the second attempt; doubled for each further one, up to ten minutes, and shortened
            by up to a half at random so that jobs are not retried all at the same time.
        grace: Seconds that running jobs are given when the context is left.
        output_limit: Bytes of an entry-point's output that are kept, half from its beginning, half from its end; None
            for all.
        limits: The limits of each process of a job; by default none.
        warm: Whether entry-points are forked by a process that has already imported their modules, which takes a
            fraction of the time of starting an interpreter. They start without it until it is ready, or if it fails.
        preload: Modules that this process imports, besides this library, requests, jsonpath2 and promise.
        keep: The rule that selects the finished jobs to keep, with their directories; None keeps all.
        strict: Whether to set aside notifications without the attributes that CloudEvents requires.
        max_depth: The maximum nesting of a notification; deeper ones are set aside.
        engine: By default, attempts run as processes of this machine. An executor starts them, without ``warm``, in its
            processes, and stays open. A `RemoteEngine` ignores ``entry_point``, ``venv``, ``services`` and ``warm``.
        run_as: The user as which entry-points run, without ``engine``; by default that of this process.

    Raises:
        ConfigurationError: An argument is wrong, or the system cannot start ``workers`` threads or ``run_as`` reach the
            state directory (when entering).
        StateError: The state directory cannot be used (when entering), or its jobs are still on the machines of
            another engine.
    """

    def __init__(
        self,
        entry_point: str | os.PathLike[str],
        state_dir: str | os.PathLike[str],
        *,
        name: str,
        filter: Filter | str | None = None,
        venv: Venv | str | os.PathLike[str] | None = None,
        services: Services | None = None,
        workers: int = 2,
        timeout: float | None = None,
        attempts: int = 1,
        deferrals: int | None = None,
        crash_limit: int = 3,
        retry_delay: float = 10.0,
        grace: float = 30.0,
        output_limit: int | None = 16 << 20,
        limits: JobLimits | None = None,
        warm: bool = True,
        preload: Sequence[str] = (),
        keep: Keep | None = None,
        strict: bool = False,
        max_depth: int = MAX_DEPTH,
        engine: Engine | Executor | None = None,
        run_as: Account | str | None = None,
    ) -> None:
        super().__init__(state_dir)
        check(read.header_text, name=name)
        check(read.concurrency, workers=workers)
        check(read.count, attempts=attempts, max_depth=max_depth)
        check(read.whole, crash_limit=crash_limit)
        check(read.whole, none=True, deferrals=deferrals)
        check(read.limit, none=True, timeout=timeout)
        check(read.seconds, retry_delay=retry_delay, grace=grace)
        check(read.size, none=True, output_limit=output_limit)
        for argument, value, kind in (
            ("services", services, Services),
            ("limits", limits, JobLimits),
            ("keep", keep, Keep),
        ):
            if not isinstance(value, kind | None):
                raise ConfigurationError(f"`{argument}` cannot be {value!r:.200}", f"it must be a {kind.__name__}")
        matching = filter if filter is None or isinstance(filter, Filter) else Filter(filter)
        self._run_as = Account.of(run_as)
        if engine and self._run_as is not CURRENT_USER:
            raise ConfigurationError("`run_as` cannot be used with another engine", "give it to the engine itself")
        self._name = name
        self._triage = Triage(name=name, filter=matching, strict=strict, max_depth=max_depth)
        if engine is None or isinstance(engine, Executor):
            check(read.existing_file, entry_point=entry_point)
            local = LocalEngine(
                entry_point=Path(entry_point).resolve(),
                venv=Venv.of(venv),
                services=services or Services.from_environment(),
                warm=warm and engine is None,
                preload=[preload] if isinstance(preload, str) else preload,
                run_as=self._run_as,
            )
            engine = ExecutorEngine(executor=engine, engine=local) if engine else local
        self._engine: Engine = engine
        #: The durations of commits, waits and attempts.
        self.histograms = Histograms()
        self._worker_count = workers
        self._terms = Terms(consumer=name, timeout=timeout, output_limit=output_limit, limits=limits or JobLimits())
        self._rules = RetryRules(attempts=attempts, deferrals=deferrals, delay=retry_delay, crash_limit=crash_limit)
        self._grace = grace
        self._keep = keep
        self._changed = threading.Condition()
        self._closed = False
        self._workers: Workers | None = None

    def __enter__(self) -> Self:
        if self._closed:
            raise StateError("this JobRunner has been closed", "create a new one")
        with contextlib.ExitStack() as stack:
            self._state = stack.enter_context(
                contextlib.closing(StateDirectory(self.state_dir, self._name, self._run_as))
            )
            self.ledger = stack.enter_context(contextlib.closing(Ledger(self._state.ledger)))
            stack.callback(self._engine.close)
            crash_limit = self._rules.crash_limit
            recover(self.ledger, self._engine, self._state.mark, last_engine=self.engine_name, crash_limit=crash_limit)
            # Commands that read the ledger use these settings, without the consumer's archive.
            self.coverage.put_fact(TRIAGE, self._triage.settings())
            self._readers = stack.enter_context(contextlib.closing(Readers(self._triage)))
            self._workers = Workers(
                count=self._worker_count,
                ledger=self.ledger,
                state=self._state,
                engine=self._engine,
                terms=self._terms,
                readers=self._readers,
                rules=self._rules,
                histograms=self.histograms,
                on_end=self._tell,
            )
            self._maintenance = Maintenance(self.ledger, self._state, self._workers, crash_limit, self._keep)
            # Stopped after the workers: it renews the leases of jobs that are still running.
            stack.enter_context(self._maintenance)
            stack.callback(self._workers.stop, self._grace)
            self._workers.start()
            self._opened = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._opened.close()

    def halt(self) -> None:
        """Cut the grace period short. May be called from a signal handler."""
        if self._workers is not None:
            self._workers.halt()

    @property
    def alive(self) -> bool:
        """Whether all its threads are running."""
        return self._workers is not None and self._workers.alive and self._maintenance.alive

    @property
    def trouble(self) -> str:
        """See `JobBook.trouble`."""
        return str(getattr(self._engine, "trouble", ""))

    def accept(self, body: bytes) -> Receipt:
        """Commit a notification to disk, and queue a job for it if it matches.

        Args:
            body: The notification, byte for byte as received; invalid ones are set aside with a reason in the receipt.

        Raises:
            StateError: It cannot be written to disk; nothing is kept.
        """
        return self.accept_all([body])[0]

    def accept_all(self, bodies: Sequence[bytes], traceparents: Sequence[str] = ()) -> list[Receipt]:
        """Commit several notifications, which takes hardly longer than one.

        Args:
            bodies: See `accept`.
            traceparents: The ``traceparent`` of each one's request, empty without one, or an empty sequence; a
                ``traceparent`` in the notification takes precedence.

        Returns:
            Their receipts, in the same order.

        Raises:
            StateError: They cannot be written to disk; none is kept.
        """
        decisions = [self._readers.decide(body) for body in bodies]
        if any(traceparents):
            for number, traceparent in enumerate(map(read_traceparent, traceparents)):
                if traceparent and not decisions[number].traceparent:
                    decisions[number] = attrs.evolve(decisions[number], traceparent=traceparent)
        return self._take(list(zip(decisions, bodies, strict=True)), Origin.DELIVERED)

    def triage_transaction(self, answer: bytes, identity: Identity) -> TriagedTransaction | None:
        """Decide about a transaction as if its notification had arrived.

        Args:
            answer: The answer of policy for the transaction.
            identity: The attributes that all notifications of the site share.

        Returns:
            Its notification and the decision; None if the transaction does not exist.

        Raises:
            NotificationError: The answer of policy is an error, or is incomplete.
        """
        return self._readers.transaction(answer, identity)

    def recover(self, announced: TriagedTransaction) -> Receipt:
        """Commit the notification of a transaction that was not announced; queue a job for it if it matches.

        Raises:
            StateError: It cannot be written to disk; nothing is kept.
        """
        return self._take([(announced.decision, announced.body)], Origin.RECOVERED)[0]

    def _take(self, notifications: Sequence[tuple[Decision, bytes]], origin: Origin) -> list[Receipt]:
        began = time.perf_counter()
        receipts = self.ledger.accept(notifications, origin)
        self.histograms.commits.observe(time.perf_counter() - began)
        if self._workers is not None:
            # Wake the workers before logging, so that jobs start without delay.
            self._workers.wake(sum(receipt.job_id is not None for receipt in receipts))
        for (decision, _), receipt in zip(notifications, receipts, strict=True):
            level = _level(receipt)
            # Most notifications do not match, and are logged only at level DEBUG.
            if log.isEnabledFor(level):
                _report(level, decision, receipt, origin)
        return receipts

    def wait(self, job: int | Receipt, timeout: float | None = None) -> Job:
        """Wait until a job is in a final state, and return it.

        Args:
            job: Its number, or the receipt of its notification.
            timeout: The maximum number of seconds to wait; None to wait without limit.

        Raises:
            KeyError: The job does not exist.
            NotificationError: The receipt's notification has no job; the message contains the verdict.
            TimeoutError: The job has not ended in time.
        """
        job_id = _job_of(job) if isinstance(job, Receipt) else job
        with self._changed:
            ended = self._changed.wait_for(lambda: self.job(job_id).state.final, timeout)
        if not ended:
            raise TimeoutError(f"job {job_id} has not ended after {timeout} seconds")
        return self.job(job_id)

    def cancel(self, job_id: int, reason: str = "cancelled") -> bool:
        """See `JobBook.cancel`."""
        running = self._workers is not None and self._workers.cancel(job_id, reason)
        cancelled = running or super().cancel(job_id, reason)
        if cancelled and not running:
            abandon_cancelled(self.ledger, self._engine)
        self._tell()
        return cancelled

    def _requeue(self, job_ids: Sequence[int]) -> list[int]:
        queued = super()._requeue(job_ids)
        if queued and self._workers is not None:
            self._workers.wake(len(queued))
        return queued

    def note_incident(self, incident: Incident) -> None:
        """Record an incident of the subscription in the ledger.

        Raises:
            StateError: It cannot be written to disk.
        """
        self.ledger.note_incident(incident)

    def _tell(self) -> None:
        with self._changed:
            # Each caller of `wait` checks its own job, so all must be woken.
            self._changed.notify_all()


def _job_of(receipt: Receipt) -> int:
    if receipt.job_id is None:
        because = f"{receipt.verdict.value}: {receipt.reason}" if receipt.reason else receipt.verdict.value
        raise NotificationError(
            f"notification {receipt.notification_id} has no job, because it is {because}",
            "wait only for receipts with a job_id",
        )
    return receipt.job_id


def _level(receipt: Receipt) -> int:
    if receipt.job_id is not None:
        return logging.INFO
    return logging.WARNING if receipt.reason else logging.DEBUG


def _report(level: int, decision: Decision, receipt: Receipt, origin: Origin) -> None:
    number, title = receipt.notification_id, decision.title
    trace = trace_id(decision.traceparent)
    with concerning(job=receipt.job_id, notification=number, event=title, trace=trace):
        if receipt.job_id is not None:
            how = "matched" if origin is Origin.DELIVERED else "recovered"
            log.log(level, "notification %s: %s, job %d", title, how, receipt.job_id)
        elif receipt.reason:
            log.log(level, "notification %d (%s) is set aside: %s", number, title, receipt.reason)
        else:
            log.log(level, "notification %s: %s", title, receipt.verdict.value)
