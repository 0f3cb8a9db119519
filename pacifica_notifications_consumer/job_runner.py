"""JobRunner: runs an entry-point once for each matching notification, from a durable queue."""

from __future__ import annotations

import contextlib
import logging
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import attrs

from .errors import FilterError, PacificaError, StateError
from .filter import Filter
from .job import Job, JobState, Receipt, Verdict
from .ledger import Ledger
from .notification import Notification
from .processes import Process, describe_status
from .progress import PROGRESS_VARIABLE, describe_progress, parse_progress
from .services import Services
from .state_directory import JobDirectory, StateDirectory
from .venv_builder import Venv

log = logging.getLogger(__name__)

_LONGEST_RETRY_DELAY = 600.0
#: Seconds that a worker waits after the ledger failed.
_PAUSE_AFTER_FAULT = 5.0
#: Seconds between two looks at how far a job is, and between two lines about it in the log.
_PROGRESS_SECONDS, _PROGRESS_LOG_SECONDS = 1.0, 60.0


class JobRunner:
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
        attempts: How many times a job is tried before it is dead.
        retry_delay: Seconds before the second attempt; doubled for each further one, up to ten minutes, and shortened
            by up to a half at random so that jobs do not come back all at once.
        grace: Seconds that running jobs are given when the context is left.

    Raises:
        StateError: The state directory cannot be used (when entering).
    """

    def __init__(
        self,
        entry_point: Path,
        state_dir: Path,
        *,
        name: str,
        filter: Filter | None = None,
        venv: Venv | None = None,
        services: Services | None = None,
        workers: int = 2,
        timeout: float | None = None,
        attempts: int = 1,
        retry_delay: float = 10.0,
        grace: float = 30.0,
    ) -> None:
        self._entry_point = entry_point.resolve()
        #: Where the queue and the jobs' directories live.
        self.state_dir = state_dir.resolve()
        self._name = name
        self._filter = filter
        self._venv = venv or Venv(Path(sys.prefix))
        self._services = attrs.evolve(services or Services.from_environment(), consumer=name)
        self._workers = workers
        self._timeout = timeout
        self._attempts = attempts
        self._retry_delay = retry_delay
        self._grace = grace
        self._changed = threading.Condition()
        self._closing = False
        self._halt = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        if self._closing:
            raise StateError("this JobRunner has been closed", "make a new one")
        with contextlib.ExitStack() as stack:
            self._state = stack.enter_context(contextlib.closing(StateDirectory(self.state_dir, self._name)))
            self._ledger = stack.enter_context(contextlib.closing(Ledger(self._state.ledger)))
            if left := self._ledger.hand_back_all():
                log.warning("jobs that were running when the last runner died, and are run again: %d", left)
            self._opened = stack.pop_all()
        for number in range(self._workers):
            thread = threading.Thread(target=self._work, name=f"worker {number + 1}")
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        deadline = time.monotonic() + self._grace
        while any(thread.is_alive() for thread in self._threads) and time.monotonic() < deadline:
            if self._halt.wait(0.05):
                break
        self._halt.set()
        for thread in self._threads:
            thread.join()
        self._opened.close()

    def halt(self) -> None:
        """Cut the grace period short. May be called from a signal handler."""
        self._halt.set()

    def accept(self, body: bytes) -> Receipt:
        """Commit a notification to disk, and queue a job for it if it matches.

        Args:
            body: The notification as it was received.

        Raises:
            NotificationError: It is not a JSON object; nothing is kept.
            StateError: The disk does not take it; nothing is kept.
        """
        notification = Notification.parse(body)
        verdict, reason = self._judge(notification)
        receipt = self._ledger.accept(notification, verdict, reason)
        log.info("notification %s: %s", notification.title, receipt.verdict.value)
        if reason:
            log.warning("notification %s: %s", notification.title, reason)
        with self._changed:
            # Those who wait for a job's end wait here, too: one alone might be the wrong one.
            self._changed.notify_all()
        return receipt

    def wait(self, job_id: int, timeout: float | None = None) -> Job:
        """Wait until a job has ended for good, and return it.

        Raises:
            KeyError: There is no such job.
            TimeoutError: It has not ended after so many seconds.
        """
        with self._changed:
            ended = self._changed.wait_for(lambda: self.job(job_id).state.final, timeout)
        if not ended:
            raise TimeoutError(f"job {job_id} has not ended after {timeout} seconds")
        return self.job(job_id)

    def job(self, job_id: int) -> Job:
        """Look up a job.

        Raises:
            KeyError: There is no such job.
        """
        return self._ledger.job(job_id)

    def directory(self, job_id: int) -> JobDirectory:
        """Where a job's ``SRC``, ``DST`` and output are."""
        return self._state.job(job_id)

    def count_jobs(self) -> dict[JobState, int]:
        """Count the jobs in each state."""
        return self._ledger.count_jobs()

    def count_verdicts(self) -> dict[Verdict, int]:
        """Count the notifications of each verdict."""
        return self._ledger.count_verdicts()

    def _judge(self, notification: Notification) -> tuple[Verdict, str]:
        if self._name in notification.consumers:
            return Verdict.OWN, ""
        try:
            matches = self._filter is None or self._filter.matches(notification.event)
        except FilterError as error:
            return Verdict.UNDECIDABLE, str(error)
        return (Verdict.MATCHED if matches else Verdict.UNMATCHED), ""

    def _work(self) -> None:
        while not self._closing:
            try:
                if job := self._next_job():
                    self._run(job)
            except StateError as error:
                # A job that it happened to stays marked as running, and is run again at the next start.
                log.critical("%s", error)
                self._halt.wait(_PAUSE_AFTER_FAULT)
            except Exception:
                # A fault of ours must cost one job, not the worker.
                log.exception("a job could not be run to its end; it is run again at the next start")
            with self._changed:
                self._changed.notify_all()

    def _next_job(self) -> Job | None:
        """Wait for a job that is due; None when the runner is closing."""
        with self._changed:
            while not self._closing:
                if job := self._ledger.claim():
                    return job
                due = self._ledger.next_due()
                self._changed.wait(None if due is None else max(0.0, due - time.time()))
        return None

    def _run(self, job: Job) -> None:
        directory = self.directory(job.id)
        log.info("job %d: started for %s in %s", job.id, job.title, directory.path)
        started = time.monotonic()
        try:
            directory.prepare(Notification.parse(job.body))
            status, reason = self._attempt(job, directory)
        except (PacificaError, OSError, ValueError) as error:
            status, reason = None, f"could not be started: {error}"
        else:
            if status is None:
                self._ledger.hand_back(job)
                log.warning("job %d: stopped, and returned to the queue", job.id)
                return
        seconds = time.monotonic() - started
        if status == 0 and not reason:
            self._record(job, JobState.SUCCEEDED, exit_status=status)
            log.info("job %d: succeeded after %.1f s", job.id, seconds)
        else:
            self._fail(job, directory, status, reason or describe_status(status or 0))

    def _attempt(self, job: Job, directory: JobDirectory) -> tuple[int | None, str]:
        """Run the entry-point once; returns its status (None: the runner is closing) and what else went wrong."""
        arguments = [self._venv.python, self._entry_point, directory.source, directory.destination]
        environ = self._venv.environ() | self._services.environ()
        # So that what it printed last is in the file even if it is killed.
        environ["PYTHONUNBUFFERED"] = "1"
        environ[PROGRESS_VARIABLE] = str(directory.progress)
        watch = _ProgressWatch(job, directory.progress, self._ledger)

        def stop() -> bool:
            watch.look()
            return self._halt.is_set()

        with directory.output.open("ab") as output:
            process = Process(arguments, environ=environ, cwd=self._entry_point.parent, output=output)
        status = process.wait(self._timeout, stop)
        ended = status is not None
        if status is None:
            status = process.end()
        watch.take_over()
        if ended:
            return status, ""
        if self._halt.is_set():
            # It may have come to its end while it was asked to.
            return (0 if status == 0 else None), ""
        return status, f"took longer than {self._timeout:g} seconds"

    def _record(self, job: Job, state: JobState, **facts: Any) -> None:
        """Write down how an attempt ended, for as long as it takes: a lost result would run the job once more."""
        while True:
            try:
                return self._ledger.end_attempt(job, state, **facts)
            except StateError as error:
                log.critical("job %d: its result cannot be written: %s", job.id, error)
                if self._halt.wait(_PAUSE_AFTER_FAULT):
                    raise

    def _fail(self, job: Job, directory: JobDirectory, status: int | None, reason: str) -> None:
        attempt = job.attempts + 1
        log.warning("job %d: attempt %d of %d failed: %s", job.id, attempt, self._attempts, reason)
        if attempt < self._attempts:
            delay = min(self._retry_delay * 2.0 ** (attempt - 1), _LONGEST_RETRY_DELAY) * random.uniform(0.5, 1.0)  # noqa: S311
            self._record(job, JobState.QUEUED, exit_status=status, reason=reason, delay=delay)
            log.info("job %d: again in %.0f s", job.id, delay)
        else:
            self._record(job, JobState.DEAD, exit_status=status, reason=reason)
            log.error("job %d: dead; its output is in %s", job.id, directory.output)


class _ProgressWatch:
    """Takes what a job notes of its downloads and uploads into its record, and now and then into the log."""

    def __init__(self, job: Job, noted: Path, ledger: Ledger) -> None:
        self._job = job
        self._noted = noted
        self._ledger = ledger
        self._seen = 0
        self._next_look = 0.0
        self._next_log = time.monotonic() + _PROGRESS_LOG_SECONDS

    def look(self) -> None:
        """Look, if the last look was some time ago."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _PROGRESS_SECONDS
        try:
            changed = self._noted.stat().st_mtime_ns
            if changed == self._seen or not (progress := parse_progress(noted := self._noted.read_text())):
                return
            self._ledger.note_progress(self._job.id, noted)
        except (OSError, ValueError, StateError):
            # It is not there yet, or the ledger has other worries: the job goes on all the same.
            return
        self._seen = changed
        if now >= self._next_log:
            self._next_log = now + _PROGRESS_LOG_SECONDS
            log.info("job %d: %s", self._job.id, describe_progress(progress))

    def take_over(self) -> None:
        """Look for the last time, and remove the note."""
        self._next_look = 0.0
        self.look()
        with contextlib.suppress(OSError):
            self._noted.unlink()
