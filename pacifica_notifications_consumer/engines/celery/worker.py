"""RemoteWorker: receives attempts from a broker, and runs them on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Self

import attrs
from celery.exceptions import Reject
from celery.worker import WorkController
from celery.worker import state as celery_state

from ...cloudevents.notification import Notification
from ...cloudevents.trace import trace_id
from ...errors import PacificaError, ServiceError
from ...jobs.directory import StateDirectory
from ...jobs.job import Ending, Fate, RemoteLocation
from ...jobs.retention import Keep
from ...settings.converters import checked, concurrency, seconds
from ...system.account import Account
from ...system.log_context import concerning
from ...system.temporary import remove_tree
from ..engine import Attempt, Engine, NotStarted, Stop
from .app import count_waiting, make_app
from .broker import Broker
from .message import TASK, Message
from .records import AttemptRecords, Claim, RecordsError
from .reporter import ReportedAttempt, Reporter
from .watchdog import Watchdog

log = logging.getLogger(__name__)

#: The form of an attempt's name: the job's number and a random token.
_NAME = re.compile(r"\d{1,20}\.[0-9a-f]{8,64}")
#: Seconds between two tries to claim an attempt while Redis cannot be reached.
_PAUSE = 1.0
#: Seconds that a worker pauses after it could not start an attempt.
_AFTER_TROUBLE = 5.0
#: Seconds that a stopping worker tries to report the results of its attempts.
_LAST_WORDS = 10.0


def _resolved(path: str | os.PathLike[str]) -> Path:
    return Path(path).resolve()


@attrs.define(eq=False, slots=False)
class RemoteWorker:
    """Runs the attempts that a runner hands out.

    It is a context manager: entering starts to take attempts. Leaving takes no more, gives the running attempts a
    grace period, and returns unfinished attempts to the runner, which hands them out again.

    Args:
        broker: The broker that the runner uses.
        engine: The engine that runs the attempts on this machine.
        archive: The digest of the consumer; attempts of other consumers are refused.
        state_dir: The directory of the attempts' directories; only one worker at a time may use it.
        concurrency: The maximum number of attempts at the same time, up to 1,000.
        grace: Seconds that running attempts are given when the context is left.
        keep: The rule that selects the attempts' directories to keep; None keeps all.
        run_as: The user as which the engine runs entry-points; by default the user of this process.
        on_end: Called when the worker stops taking attempts because of an error.

    Raises:
        ConfigurationError: An argument is wrong.
        ServiceError: The broker or the Redis with the records cannot be reached, or refuses (when entering).
        StateError: The state directory cannot be used (when entering).
    """

    _broker: Broker
    _engine: Engine
    _archive: str
    #: The directory of the attempts' directories.
    state_dir: Path = attrs.field(converter=_resolved)
    _concurrency: int = attrs.field(default=2, kw_only=True, validator=checked(concurrency))
    _grace: float = attrs.field(default=30.0, kw_only=True, validator=checked(seconds))
    _keep: Keep | None = attrs.field(default=None, kw_only=True)
    _run_as: Account | str | None = attrs.field(default=None, kw_only=True)
    _on_end: Callable[[], object] | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        self._user = Account.of(self._run_as)
        self._halt = threading.Event()
        self._closing = threading.Event()
        self._running: set[str] = set()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._records = stack.enter_context(contextlib.closing(AttemptRecords(self._broker.records_url)))
            self._app = stack.enter_context(contextlib.closing(make_app(self._broker)))
            self._check_reachable()
            self._state = stack.enter_context(
                contextlib.closing(StateDirectory(self.state_dir, f"a worker of {self._broker.queue}", self._user))
            )
            stack.callback(self._engine.close)
            if left := self._engine.open(self._state.mark):
                log.warning("processes that the previous run left behind were ended: %d", left)
            self._watchdog = stack.enter_context(
                contextlib.closing(Watchdog(self._state.mark, self._broker.lost_after, self._user))
            )
            self._reporter = Reporter(self._records, self._broker.lost_after, self._watchdog.keep_alive)
            self._reporter.start()
            stack.callback(self._reporter.stop)
            self._start()
            self._stack = stack.pop_all()
        return self

    def _check_reachable(self) -> None:
        try:
            self._records.ping()
            count_waiting(self._app, self._broker)
        except Exception as error:
            raise ServiceError(
                f"{self._broker.name} cannot be used: {error}", "check `broker_url` and `result_backend`"
            ) from error

    def _start(self) -> None:
        def take(celery_task: Any, **document: Any) -> None:
            self._take(str(celery_task.request.id), document)

        self._app.task(take, name=TASK, bind=True, acks_late=True, ignore_result=True, typing=False)
        celery_state.should_stop = celery_state.should_terminate = None
        self._controller = WorkController(
            app=self._app,
            hostname=f"{self._broker.queue}-{os.getpid()}@{socket.gethostname()}",
            pool="threads",
            concurrency=self._concurrency,
            without_mingle=True,
            without_gossip=True,
        )
        self._thread = threading.Thread(target=self._serve, name="celery")
        self._thread.start()

    def _serve(self) -> None:
        try:
            self._controller.start()
        finally:
            if not self._closing.is_set():
                log.critical("the worker takes no more jobs: its thread for the broker has ended because of an error")
                if self._on_end:
                    self._on_end()

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        # Celery's loop reads this variable; it cannot be stopped from another thread in another way.
        celery_state.should_stop = 0
        deadline = time.monotonic() + self._grace
        while self._running and time.monotonic() < deadline and not self._halt.is_set():
            time.sleep(_PAUSE / 20)
        self._halt.set()
        self._thread.join()
        self._stack.close()

    def halt(self) -> None:
        """Cut the grace period short. May be called from a signal handler."""
        self._halt.set()

    @property
    def alive(self) -> bool:
        """Whether all its threads and processes are running."""
        return self._thread.is_alive() and self._reporter.alive and self._watchdog.alive

    @property
    def running(self) -> int:
        """The number of running attempts."""
        return len(self._running)

    def _take(self, task: str, document: dict[str, Any]) -> None:
        """Handle a message; called on the threads of Celery's pool."""
        if self._closing.is_set():
            raise Reject(requeue=True)
        if not _NAME.fullmatch(task):
            # The name becomes the name of a directory.
            log.error("a message is ignored: %.80r is not an attempt's name", task)
            return
        try:
            message = Message.read(document)
        except (ValueError, PacificaError) as error:
            log.error("a message is refused: %s", error)  # noqa: TRY400
            self._refuse(task, f"worker {socket.gethostname()} cannot read it: {error}")
            return
        if message.archive != self._archive:
            versions = f"{self._archive[:12]}, and not {message.archive[:12]}"
            reason = f"worker {socket.gethostname()} runs another version of the consumer ({versions})"
            log.error("job %d is refused: %s", message.job_id, reason)
            self._refuse(task, reason)
            return
        directory = self._state.job(task)
        place = RemoteLocation(worker=socket.gethostname(), directory=str(directory.path))
        asked_at = time.monotonic()
        if self._claim(task, place, secrets.token_hex(8)) is Claim.OURS:
            # After a long outage, the watchdog would end the attempt before the first heartbeat.
            self._watchdog.keep_alive()
            self._run(task, message, self._reporter.begin(task, directory, asked_at))

    def _claim(self, task: str, place: RemoteLocation, delivery: str) -> Claim:
        while True:
            try:
                return self._records.claim(task, place, delivery)
            except RecordsError as error:
                log.warning("attempt %s waits: it cannot be claimed: %s", task, error)
                if self._closing.wait(_PAUSE):
                    raise Reject(requeue=True) from error

    def _refuse(self, task: str, reason: str) -> None:
        try:
            self._records.refuse(task, reason)
        except RecordsError as error:
            # Return the message to the queue.
            self._closing.wait(_PAUSE)
            raise Reject(requeue=True) from error

    def _run(self, task: str, message: Message, report: ReportedAttempt) -> None:
        self._running.add(task)
        try:
            with concerning(job=message.job_id, trace=trace_id(message.traceparent)):
                log.info("job %d: started in %s", message.job_id, report.directory.path)
                ending = self._attempt(task, message, report)
                log.info("job %d: %s", message.job_id, ending.reason or "succeeded")
                self._tell(report, ending)
        finally:
            self._running.discard(task)
        if self._keep:
            remove_old(self.state_dir / "jobs", self._keep, list(self._running))

    def _attempt(self, task: str, message: Message, report: ReportedAttempt) -> Ending:
        def stop() -> Stop | None:
            return report.stop or (Stop.HALT if self._halt.is_set() else None)

        begun = False
        try:
            report.directory.prepare(message.body, Notification.parse(message.body).folders)
            attempt = Attempt(
                job_id=message.job_id,
                directory=report.directory,
                mark=f"{self._state.mark}{task}",
                terms=message.terms,
                traceparent=message.traceparent,
                body=message.body,
            )
            begun = True
            ending = self._engine.run(attempt, stop)
        except (PacificaError, ValueError) as error:
            return Ending(reason=f"could not be started: {error}")
        except OSError as error:
            if begun and not isinstance(error, NotStarted):
                return Ending(reason=f"worker {socket.gethostname()} could not follow it: {error}")
            # Another machine may be able to run it. The pause keeps this machine from failing the whole queue.
            self._closing.wait(_AFTER_TROUBLE)
            return Ending(reason=f"worker {socket.gethostname()} could not start it: {error}", fate=Fate.PUT_OFF)
        except Exception as error:
            log.exception("job %d: a bug in the worker", message.job_id)
            return Ending(reason=f"a bug in the worker: {error!r}", fate=Fate.CRASHED)
        if ending is None:
            why = "its end was requested" if report.stop else "its worker was stopped"
            return Ending(reason=why, fate=Fate.RETURNED)
        if (ending.fate is Fate.CRASHED or (ending.status or 0) < 0) and self._reporter.was_cut_off(report):
            # The watchdog killed it or the warm process, so the attempt did not fail.
            return Ending(reason="its worker lost the connection to Redis", fate=Fate.RETURNED)
        return ending

    def _tell(self, report: ReportedAttempt, ending: Ending) -> None:
        last_words = time.monotonic() + _LAST_WORDS

        def gone() -> bool:
            return self._halt.is_set() and time.monotonic() > last_words

        if not self._reporter.end(report, ending, gone):
            log.error("attempt %s: its result cannot be reported, so it counts as lost", report.task)


def remove_old(jobs: Path, keep: Keep, running: Collection[str]) -> None:
    """Remove the directories of attempts that are not to be kept, except those in use."""
    ended: list[tuple[float, Path]] = []
    for path in jobs.iterdir():
        # Another thread may remove the same directory.
        with contextlib.suppress(OSError):
            if path.name not in running:
                ended.append((path.stat().st_mtime, path))
    oldest = time.time() - keep.age if keep.age is not None else 0.0
    for number, (changed_at, path) in enumerate(sorted(ended, reverse=True)):
        if changed_at < oldest or (keep.count is not None and number >= keep.count):
            remove_tree(path)
