"""Workers: threads that take jobs from the ledger under a lease (see `leases`), and let an engine run them."""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from ..clients.retry import growing_pause
from ..cloudevents.trace import child_of, trace_id
from ..engines.engine import Attempt, Engine, NotStarted, RemoteEngine, Stop, Terms
from ..errors import ConfigurationError, LeaseLost, PacificaError, StateError, explained
from ..jobs.directory import StateDirectory
from ..jobs.files import read_note
from ..jobs.job import Ending, Fate, Job, JobState, RemoteLocation
from ..jobs.readers import Readers
from ..ledger.ledger import Ledger
from ..streams.progress import describe_progress, parse_progress
from ..system.log_context import concerning
from .histograms import Histograms
from .leases import LEASE

log = logging.getLogger(__name__)

#: What the machine lacks for a moment: open files, processes or memory.
_LACKS = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)

#: The exit status of an entry-point that wants to be tried again later (EX_TEMPFAIL of sysexits.h).
TRY_AGAIN = 75
_LONGEST_DELAY = 600.0
#: Seconds that a worker waits after the ledger failed.
_PAUSE_AFTER_FAULT = 5.0
#: Seconds between two reads of a job's progress, and between two log lines about it.
_PROGRESS_SECONDS, _PROGRESS_LOG_SECONDS = 1.0, 60.0
#: The maximum number of seconds between two queries for jobs: not every job that becomes due calls `Workers.wake`.
_LONGEST_IDLE = 5.0


@attrs.frozen(kw_only=True)
class RetryRules:
    """The number and the times of a job's attempts; see `JobRunner`."""

    attempts: int = 1
    #: Maximum number of attempts that may ask to be tried again later; None for any number.
    deferrals: int | None = None
    #: Seconds before the second attempt; doubled for each further one, and shortened at random.
    delay: float = 10.0
    crash_limit: int = 3

    def pause(self, failures: int) -> float:
        """Seconds before the next attempt after a number of failures."""
        return growing_pause(failures, self.delay, _LONGEST_DELAY)


@attrs.define(kw_only=True, eq=False, slots=False)
class Workers:
    """The threads that run jobs; ``on_end`` is called when a job has changed its state."""

    _count: int
    _ledger: Ledger
    _state: StateDirectory
    _engine: Engine
    _terms: Terms
    _readers: Readers
    _rules: RetryRules
    _histograms: Histograms
    _on_end: Callable[[], None]

    def __attrs_post_init__(self) -> None:
        self._remote = self._engine if isinstance(self._engine, RemoteEngine) else None
        self._news = threading.Condition()
        self._told = 0
        self._closing = False
        self._halt = threading.Event()
        self._running: dict[int, Job] = {}
        self._cancelled: dict[int, str] = {}
        self._threads = [threading.Thread(target=self._work, name=f"worker {n + 1}") for n in range(self._count)]

    def start(self) -> None:
        """Start to take jobs."""
        advice = "set `workers` to fewer, or raise the system's limit of tasks"
        with explained(ConfigurationError, "not all workers can be started", advice, cause=(RuntimeError,)):
            for thread in self._threads:
                thread.start()

    def wake(self, jobs: int = 1) -> None:
        """Wake threads for a number of new jobs."""
        with self._news:
            self._told += jobs
            self._news.notify(jobs)

    def halt(self) -> None:
        """End the running jobs. May be called from a signal handler."""
        self._halt.set()

    def stop(self, grace: float) -> None:
        """Take no further jobs, give the running ones some seconds, and return the rest to the queue."""
        with self._news:
            self._closing = True
            self._news.notify_all()
        # Jobs on other machines go on there.
        deadline = time.monotonic() + (0.0 if self._remote else grace)
        for thread in self._threads:
            while thread.is_alive() and time.monotonic() < deadline and not self._halt.is_set():
                thread.join(0.05)
        self._halt.set()
        for thread in filter(threading.Thread.is_alive, self._threads):
            thread.join()

    @property
    def alive(self) -> bool:
        """Whether all threads are running."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def running(self) -> list[Job]:
        """The running jobs, as they were claimed."""
        return list(self._running.values())

    def cancel(self, job_id: int, reason: str) -> bool:
        """End a running job for good; returns whether it is running here."""
        if job_id not in self._running:
            return False
        self._cancelled[job_id] = reason
        return True

    def _work(self) -> None:
        while not self._closing:
            try:
                if job := self._next_job():
                    self._take(job)
            except StateError as error:
                log.critical("%s", error)
                self._halt.wait(_PAUSE_AFTER_FAULT)
            except Exception:
                # A bug must not end the thread.
                log.exception("a bug interrupted a job; it is run again when its lease has expired")
            self._on_end()

    def _next_job(self) -> Job | None:
        """Wait for a job that is due; None when the threads stop."""
        while not self._closing:
            told = self._told
            if job := self._ledger.claim(LEASE, to_hand_out=self._remote is not None):
                return job
            due = self._ledger.next_due()
            idle = _LONGEST_IDLE if due is None else min(max(0.0, due - time.time()), _LONGEST_IDLE)
            with self._news:
                # Do not wait if `wake` was called since the query.
                if not self._closing and told == self._told:
                    self._news.wait(idle)
        return None

    def _take(self, job: Job) -> None:
        self._running[job.id] = job
        traceparent = child_of(job.traceparent)
        with concerning(job=job.id, notification=job.id, event=job.title, trace=trace_id(traceparent)):
            try:
                self._run(job, traceparent)
            except LeaseLost as error:
                log.warning("job %d: its result is discarded: %s", job.id, error)
            finally:
                del self._running[job.id]
                self._cancelled.pop(job.id, None)

    def _run(self, job: Job, traceparent: str) -> None:
        directory = self._state.job(job.id)
        if not self._remote:
            log.info("job %d: started for %s in %s", job.id, job.title, directory.path)
        started = time.monotonic()
        if not job.attempts + job.deferrals + job.crashes + _was_out(job) and job.started_at is not None:
            self._histograms.waits.observe(max(0.0, job.started_at - job.received_at))
        watch = _ProgressWatch(job, directory.progress, self._ledger)

        def stop() -> Stop | None:
            watch.look()
            if job.id in self._cancelled:
                return Stop.CANCEL
            return Stop.HALT if self._halt.is_set() else None

        ending: Ending | None
        handed_over = False
        try:
            if self._remote:
                directory.make()
            else:
                directory.prepare(job.body, self._readers.folders(job.body))
            attempt = Attempt(
                job_id=job.id,
                directory=directory,
                mark=f"{self._state.mark}{job.id}:{job.token}",
                terms=self._terms,
                traceparent=traceparent,
                body=job.body,
                task=job.task,
                handed_out=_was_out(job),
                placed=lambda place: self._placed(job, place),
            )
            handed_over = True
            ending = self._engine.run(attempt, stop)
        except (PacificaError, OSError, ValueError, RecursionError) as error:
            # What an engine has begun may have had effects: that counts as an attempt.
            begun = handed_over and not isinstance(error, NotStarted)
            lacking = any(getattr(each, "errno", None) in _LACKS for each in (error, error.__cause__))
            fate = Fate.PUT_OFF if lacking and not begun else Fate.ENDED
            ending = Ending(reason=f"could not be started: {error}", fate=fate)
        watch.take_over()
        self._histograms.attempts.observe(time.monotonic() - started)
        self._ended(job, ending, stop(), time.monotonic() - started)
        if self._remote and ending is not None:
            # After the result is in the ledger: if the runner died in between, the job would be run again.
            self._remote.forget(job.task)

    def _placed(self, job: Job, place: RemoteLocation) -> None:
        if place == job.place:
            return
        log.info("job %d: started for %s on %s in %s", job.id, job.title, place.worker, place.directory)
        try:
            self._ledger.note_place(job, place)
        except StateError as error:
            log.warning("job %d: the place where it runs cannot be recorded: %s", job.id, error)

    def _ended(self, job: Job, ending: Ending | None, stop: Stop | None, seconds: float) -> None:
        if ending is None or (ending.fate is Fate.CRASHED and stop):
            self._interrupted(job, ended=ending is not None)
        elif ending.fate is Fate.CRASHED:
            self._crashed(job, ending.reason)
        elif ending.fate is Fate.RETURNED:
            self._returned(job, ending.reason)
        elif ending.status == 0 and not ending.reason:
            self._record(job, JobState.SUCCEEDED, ending)
            log.info("job %d: succeeded after %.1f s", job.id, seconds)
            if ending.remark:
                log.warning("job %d: %s", job.id, ending.remark)
        else:
            self._failed(job, ending, self._state.job(job.id).output)

    def _interrupted(self, job: Job, *, ended: bool) -> None:
        if reason := self._cancelled.get(job.id):
            self._record(job, JobState.CANCELLED, Ending(reason=reason))
            log.warning("job %d: cancelled", job.id)
        elif self._remote and not ended:
            self._ledger.hand_back(job)
            log.info("job %d: goes on running on its machine; the next start waits for it", job.id)
        else:
            self._returned(job, "")

    def _returned(self, job: Job, reason: str) -> None:
        self._ledger.hand_back(job, ended=True)
        self.wake()
        log.warning("job %d: stopped, and returned to the queue%s", job.id, f": {reason}" if reason else "")

    def _crashed(self, job: Job, reason: str) -> None:
        state = self._ledger.crash(job, self._rules.crash_limit, reason)
        if state is JobState.DEAD:
            log.error("job %d: dead after too many crashes: %s", job.id, reason)
        else:
            log.warning("job %d: %s; it is run again", job.id, reason)

    def _failed(self, job: Job, ending: Ending, output: Path) -> None:
        asks = ending.status == TRY_AGAIN
        if asks and self._rules.deferrals is not None and job.deferrals >= self._rules.deferrals:
            reason = f"asks to be tried again later, with exit status {TRY_AGAIN}"
            self._record(job, JobState.DEAD, attrs.evolve(ending, reason=reason))
            log.error("job %d: dead: %s", job.id, reason)
            return
        if asks or ending.fate is Fate.PUT_OFF:
            delay = self._rules.pause(job.deferrals + 1)
            self._record(job, JobState.QUEUED, ending, delay)
            why = ending.reason if ending.fate is Fate.PUT_OFF else "asks to be tried again later"
            log.warning("job %d: %s; again in %.0f s", job.id, why, delay)
            return
        attempt = job.attempts + 1
        log.warning("job %d: attempt %d of %d failed: %s", job.id, attempt, self._rules.attempts, ending.reason)
        if attempt < self._rules.attempts:
            delay = self._rules.pause(attempt)
            self._record(job, JobState.FAILED, ending, delay)
            log.info("job %d: again in %.0f s", job.id, delay)
        else:
            self._record(job, JobState.DEAD, ending)
            log.error("job %d: dead; its output is in %s", job.id, output)

    def _record(self, job: Job, state: JobState, ending: Ending, delay: float = 0.0) -> None:
        """Record the result of an attempt, and try until that succeeds: without its result the job would run again."""
        while True:
            try:
                return self._ledger.end_attempt(job, state, ending, delay=delay)
            except LeaseLost:
                raise
            except StateError as error:
                log.critical("job %d: its result cannot be written: %s", job.id, error)
                if self._halt.wait(_PAUSE_AFTER_FAULT):
                    raise


def _was_out(job: Job) -> bool:
    """Whether a job was handed to other machines under an earlier claim."""
    return bool(job.task) and not job.task.endswith(f".{job.token}")


@attrs.define(eq=False)
class _ProgressWatch:
    """Copies the progress of a job's downloads and uploads into the ledger, and once a minute into the log."""

    _job: Job
    _noted: Path
    _ledger: Ledger
    _seen: int = 0
    _next_look: float = 0.0
    _next_log: float = attrs.field(factory=lambda: time.monotonic() + _PROGRESS_LOG_SECONDS)

    def look(self) -> None:
        """Read the progress, if the last read was some time ago."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _PROGRESS_SECONDS
        try:
            changed = self._noted.lstat().st_mtime_ns
            if changed == self._seen or not (progress := parse_progress(noted := read_note(self._noted))):
                return
            self._ledger.note_progress(self._job, noted)
        except (OSError, StateError):
            # The file does not exist yet, or the ledger cannot be written; the job goes on nevertheless.
            return
        self._seen = changed
        if now >= self._next_log:
            self._next_log = now + _PROGRESS_LOG_SECONDS
            log.info("job %d: %s", self._job.id, describe_progress(progress))

    def take_over(self) -> None:
        """Read the progress for the last time, and remove its file."""
        self._next_look = 0.0
        self.look()
        with contextlib.suppress(OSError):
            if not self._noted.parent.is_symlink():
                self._noted.unlink(missing_ok=True)
                self._noted.parent.rmdir()
