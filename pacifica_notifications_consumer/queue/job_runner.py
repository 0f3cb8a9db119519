"""JobRunner: runs an entry-point once for each matching notification, from a durable queue."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
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
from ..engines.engine import Engine, RemoteEngine, Terms
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
from ..settings.services import Services
from ..subscription.incident import Incident
from ..system.account import CURRENT_USER, Account
from ..system.log_context import concerning
from .histograms import Histograms
from .job_book import PLACE, TRIAGE, JobBook
from .maintenance import Maintenance, report_recovered
from .workers import RetryRules, Workers

log = logging.getLogger(__name__)


class JobRunner(JobBook):
    """Takes notifications and runs the entry-point for those that match, some at a time.

    It is a context manager: entering opens the queue and starts to work on what an earlier run left in it; leaving
    gives the running jobs a grace period, returns unfinished ones to the queue, and closes it.

    Args:
        entry_point: The script; it is run as ``python entry_point SRC DST`` in its own directory.
        state_dir: Where the queue and the jobs' directories live; one runner at a time may use it.
        name: The consumer's name; its own uploads carry it, and are left alone when they are announced.
        filter: Which notifications to run for; None means all.
        venv: The environment to run in; by default that of the running interpreter.
        services: Where Pacifica is and who asks it, for ``download()`` and ``upload()`` in the entry-point; by default
            what the environment says.
        workers: How many jobs run at the same time.
        timeout: Seconds that an attempt may take; None for no limit.
        attempts: How many times a job is tried before it is dead. Exit status 75 means "try again later" and does not
            count.
        crash_limit: How many times a job is run again that was running when the runner or the machine died.
        retry_delay: Seconds before the second attempt; doubled for each further one, up to ten minutes, and shortened
            by up to a half at random so that jobs do not come back all at once.
        grace: Seconds that running jobs are given when the context is left.
        output_limit: Bytes of an entry-point's output that are kept, half from its beginning, half from its end; None
            for all.
        limits: What each process of a job may use; by default as much as it wants.
        warm: Whether a process that has imported what entry-points need forks them, which takes a fraction of the time
            that an interpreter of their own needs. It is used as soon as it is ready, and where it can be made.
        preload: Modules that it imports, beside this library, requests, jsonpath2 and promise.
        keep: Which finished jobs are kept, with their directories; None means all.
        strict: Whether a notification without the attributes that CloudEvents requires is set aside.
        max_depth: How deep a notification may be nested; one that is deeper is set aside.
        engine: What runs the attempts: by default processes of this machine; or an executor, in whose processes
            entry-points are then started, cold, and which stays open; or a `RemoteEngine`, to which the entry-point,
            the environment, the services and the ways to start mean nothing.
        run_as: The user as whom entry-points run, if that is not this process's; only of processes of this machine.

    Raises:
        ConfigurationError: ``run_as`` cannot reach the state directory (when entering), or is given with an engine.
        StateError: The state directory cannot be used (when entering), or jobs of it are still with the machines that
            another engine handed them to.
    """

    def __init__(
        self,
        entry_point: str | os.PathLike[str],
        state_dir: str | os.PathLike[str],
        *,
        name: str,
        filter: Filter | None = None,
        venv: Venv | None = None,
        services: Services | None = None,
        workers: int = 2,
        timeout: float | None = None,
        attempts: int = 1,
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
        run_as: Account | None = None,
    ) -> None:
        super().__init__(state_dir)
        self._run_as = run_as or CURRENT_USER
        if engine and self._run_as is not CURRENT_USER:
            raise ConfigurationError("run_as is of no meaning to another engine", "tell the user to the engine itself")
        self._name = name
        self._triage = Triage(name=name, filter=filter, strict=strict, max_depth=max_depth)
        if engine is None or isinstance(engine, Executor):
            local = LocalEngine(
                entry_point=Path(entry_point).resolve(),
                venv=venv or Venv(Path(sys.prefix)),
                services=services or Services.from_environment(),
                warm=warm and engine is None,
                preload=preload,
                run_as=self._run_as,
            )
            engine = ExecutorEngine(executor=engine, engine=local) if engine else local
        self._engine: Engine = engine
        #: How long things take.
        self.histograms = Histograms()
        self._worker_count = workers
        self._terms = Terms(consumer=name, timeout=timeout, output_limit=output_limit, limits=limits or JobLimits())
        self._rules = RetryRules(attempts=attempts, delay=retry_delay, crash_limit=crash_limit)
        self._crash_limit = crash_limit
        self._grace = grace
        self._keep = keep
        self._changed = threading.Condition()
        self._closed = False
        self._workers: Workers | None = None

    def __enter__(self) -> Self:
        if self._closed:
            raise StateError("this JobRunner has been closed", "make a new one")
        with contextlib.ExitStack() as stack:
            self._state = stack.enter_context(
                contextlib.closing(StateDirectory(self.state_dir, self._name, self._run_as))
            )
            self.ledger = stack.enter_context(contextlib.closing(Ledger(self._state.ledger)))
            stack.callback(self._engine.close)
            self._recover()
            # For who looks at the ledger later, without the archive at hand.
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
            self._maintenance = Maintenance(
                ledger=self.ledger,
                state=self._state,
                workers=self._workers,
                crash_limit=self._crash_limit,
                keep=self._keep,
            )
            self._opened = stack.pop_all()
        self._workers.start()
        self._maintenance.start()
        return self

    def _recover(self) -> None:
        """Take over from a runner that died; the lock of the state directory says that there is no other one."""
        place = self._engine.place if isinstance(self._engine, RemoteEngine) else ""
        self._check_handed_out(place)
        if left := self._engine.open(self._state.mark):
            log.warning("processes of jobs that outlived the last runner, and were ended: %d", left)
        report_recovered(self.ledger.recover(self._crash_limit))
        self.ledger.remove_orphans()
        self.coverage.put_fact(PLACE, {"place": place})
        self._abandon_cancelled()

    def _check_handed_out(self, place: str) -> None:
        """Insist that jobs that are out can be waited for: who forgets them, has them run twice.

        Raises:
            StateError: They are with other machines than the engine's.
        """
        out = [handed_out for handed_out in self.ledger.handed_out() if not handed_out.state.final]
        if out and self.place != place:
            raise StateError(
                f"jobs of this consumer are still with {self.place or 'other machines'}: {len(out)}",
                "start it there once more and let them end, or cancel them with: pacifica-notifications-consumer jobs",
            )

    def _abandon_cancelled(self) -> None:
        """End jobs elsewhere that were cancelled when nobody waited for them."""
        for handed_out in self.ledger.handed_out():
            if handed_out.state.final:
                if isinstance(self._engine, RemoteEngine):
                    self._engine.abandon(handed_out.task)
                self.ledger.take_in(handed_out)

    def __exit__(self, *_: object) -> None:
        self._closed = True
        if self._workers is not None:
            self._workers.stop(self._grace)
            # Not before: it renews the leases of those that are still running.
            self._maintenance.stop()
        self._opened.close()

    def halt(self) -> None:
        """Cut the grace period short. May be called from a signal handler."""
        if self._workers is not None:
            self._workers.halt()

    @property
    def alive(self) -> bool:
        """Whether all its threads are at work."""
        return self._workers is not None and self._workers.alive and self._maintenance.alive

    @property
    def trouble(self) -> str:
        """See `JobBook.trouble`."""
        return str(getattr(self._engine, "trouble", ""))

    def accept(self, body: bytes) -> Receipt:
        """Commit a notification to disk, and queue a job for it if it matches.

        Args:
            body: The notification as it was received. What is none is kept aside, and the receipt says why.

        Raises:
            StateError: The disk does not take it; nothing is kept.
        """
        return self.accept_all([body])[0]

    def accept_all(self, bodies: Sequence[bytes], traceparents: Sequence[str] = ()) -> list[Receipt]:
        """Commit notifications that came at the same time, which takes hardly longer than one.

        Args:
            bodies: As of `accept`.
            traceparents: What the requests that brought them said of the trace that they belong to, one for each or
                none at all; for those that do not say it themselves.

        Returns:
            Their receipts, in the same order.

        Raises:
            StateError: The disk does not take them; none is kept.
        """
        decisions = [self._readers.decide(body) for body in bodies]
        if any(traceparents):
            for number, said in enumerate(map(read_traceparent, traceparents)):
                if said and not decisions[number].traceparent:
                    decisions[number] = attrs.evolve(decisions[number], traceparent=said)
        return self._take(list(zip(decisions, bodies, strict=True)), Origin.DELIVERED)

    def triage_transaction(self, answer: bytes, identity: Identity) -> TriagedTransaction | None:
        """Judge a transaction as if it had been announced.

        Args:
            answer: What policy tells of it.
            identity: What the site's notifications carry.

        Returns:
            Its notification and what is to become of that; None if there is no such transaction.

        Raises:
            NotificationError: policy could not tell, or not all.
        """
        return self._readers.transaction(answer, identity)

    def recover(self, announced: TriagedTransaction) -> Receipt:
        """Commit a notification to disk that nobody sent, and queue a job for it if it matches.

        Raises:
            StateError: The disk does not take it; nothing is kept.
        """
        return self._take([(announced.decision, announced.body)], Origin.RECOVERED)[0]

    def _take(self, notifications: Sequence[tuple[Decision, bytes]], origin: Origin) -> list[Receipt]:
        began = time.perf_counter()
        receipts = self.ledger.accept(notifications, origin)
        self.histograms.commits.observe(time.perf_counter() - began)
        if self._workers is not None:
            # Before anything is said about them: they have waited long enough.
            self._workers.wake(sum(receipt.job_id is not None for receipt in receipts))
        for (decision, _), receipt in zip(notifications, receipts, strict=True):
            level = _level(receipt)
            # Of most there is nothing to be said.
            if log.isEnabledFor(level):
                _report(level, decision, receipt, origin)
        return receipts

    def wait(self, job: int | Receipt, timeout: float | None = None) -> Job:
        """Wait until a job has ended for good, and return it.

        Args:
            job: Its number, or the receipt of its notification.
            timeout: How many seconds to wait; None for as long as it takes.

        Raises:
            KeyError: There is no job of this number.
            NotificationError: The receipt's notification has no job; the message has its verdict.
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
            self._abandon_cancelled()
        self._tell()
        return cancelled

    def _requeue(self, job_ids: Sequence[int]) -> list[int]:
        queued = super()._requeue(job_ids)
        if queued and self._workers is not None:
            self._workers.wake(len(queued))
        return queued

    def note_incident(self, incident: Incident) -> None:
        """Keep what happened to the subscription in the ledger.

        Raises:
            StateError: The disk does not take it.
        """
        self.ledger.note_incident(incident)

    def _tell(self) -> None:
        with self._changed:
            # Those who wait for a job's end wait here: one alone might be the wrong one.
            self._changed.notify_all()


def _job_of(receipt: Receipt) -> int:
    if receipt.job_id is None:
        because = f"{receipt.verdict.value}: {receipt.reason}" if receipt.reason else receipt.verdict.value
        raise NotificationError(
            f"there is no job for notification {receipt.notification_id}, which is {because}",
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
