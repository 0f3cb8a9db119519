"""The engine that runs entry-points as processes on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from ..cloudevents.trace import TRACE_VARIABLE
from ..environment.venv import Venv
from ..errors import shown
from ..jobs.directory import JobDirectory
from ..jobs.files import read_note
from ..jobs.job import Ending, Fate
from ..jobs.unsent import describe_unsent
from ..settings.services import CONSUMER_VARIABLE, Services
from ..streams.progress import FAILURE, PROGRESS_VARIABLE
from ..system.account import CURRENT_USER, Account
from ..system.orphans import MARK_VARIABLE, end_marked
from ..system.processes import KILL_AFTER, ColdProcess, Process, ProcessLost, describe_status, without_credentials
from .engine import Attempt, NotStarted, Stop
from .output import Output
from .warm.start import WarmStart

log = logging.getLogger(__name__)

_LONGEST_SENTENCE = 500
#: Seconds in which a passing lack of files should end, and between two tries.
_PATIENCE, _PAUSE = 10.0, 0.1
#: Variables from the runner's supervisor (systemd), which entry-points must not use.
_OF_THE_SUPERVISOR = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


@attrs.define(kw_only=True)
class LocalEngine:
    """Runs ``python entry_point SRC DST`` in the entry-point's directory and in a new session.

    With `warm`, entry-points are forked from a process that has imported their modules: those of the documented
    entry-point, and `preload`. Otherwise, and while this process cannot be used, each starts a new interpreter.
    """

    entry_point: Path
    venv: Venv
    services: Services  #: for ``download()`` and ``upload()`` in the entry-point
    warm: bool = True
    preload: Sequence[str] = ()
    kill_after: float = KILL_AFTER  #: seconds between SIGTERM and SIGKILL when the processes of an attempt are ended
    run_as: Account = CURRENT_USER
    _warm_start: WarmStart | None = attrs.field(default=None, init=False)

    def open(self, mark: str) -> int:
        """See `Engine.open`."""
        ended = end_marked(mark, self.kill_after, self.run_as)
        if self.warm and sys.platform != "linux":
            log.warning("entry-points start cold, since a warm start needs Linux")
        elif self.warm:
            self._warm_start = WarmStart(
                self.venv.python,
                self.entry_point,
                environ=self._environ(Attempt(job_id=0, directory=JobDirectory(Path()), mark=f"{mark}0:warm")),
                preload=self.preload,
                run_as=self.run_as,
            )
            self._warm_start.start()
        return ended

    def close(self) -> None:
        """See `Engine.close`."""
        if self._warm_start is not None:
            self._warm_start.close()

    def run(self, attempt: Attempt, stop: Callable[[], Stop | None]) -> Ending | None:
        """See `Engine.run`."""
        timeout = attempt.terms.timeout
        output = Output(attempt.directory.output, attempt.terms.output_limit, self.run_as)

        def look() -> bool:
            output.trim()
            return bool(stop())

        status = None
        try:
            try:
                with output.open() as file:
                    process = self._start(attempt, file.fileno())
            except OSError as error:
                named = (error.errno, error.strerror, error.filename) if error.errno else error.args
                raise NotStarted(*named) from error
            try:
                status = process.wait(timeout, look)
            finally:
                in_time = status is not None
                if status is None:
                    status = process.end(self.kill_after)
        except ProcessLost as lost:
            return Ending(reason=str(lost), fate=Fate.CRASHED)
        finally:
            self._end_children(attempt)
            tail = output.finish()
        if not in_time and status != 0 and stop():
            return None
        if in_time:
            reason = "" if status == 0 else f"{describe_status(status)}{self._failure(attempt.directory)}"
        else:
            # The entry-point may have succeeded while it was being stopped.
            reason = "" if status == 0 and stop() else f"took longer than {timeout:g} seconds"
        usage = process.usage
        return Ending(
            status=status,
            reason=reason,
            remark="" if status or reason else _remark(attempt.directory),
            cpu_seconds=usage.cpu_seconds if usage else None,
            peak_memory=usage.peak_memory if usage else None,
            output_tail=tail,
        )

    def _end_children(self, attempt: Attempt) -> None:
        """End what has left the process group, which has had the same time to end."""
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            # Too many open files do not make the result of the job another one.
            with contextlib.suppress(OSError):
                end_marked(attempt.mark, 0.0, self.run_as)
                return
            time.sleep(_PAUSE)
        log.error("job %d: processes that it may have left cannot be looked for", attempt.job_id)

    def _failure(self, directory: JobDirectory) -> str:
        """The error of the library that ended an entry-point, after a colon; empty without one."""
        sentence = read_note(directory.progress.with_name(FAILURE))
        if self.services.password:
            sentence = sentence.replace(self.services.password, "***")
        sentence = shown(" ".join(without_credentials(sentence).split()), _LONGEST_SENTENCE)
        return f": {sentence}" if sentence else ""

    def _start(self, attempt: Attempt, output: int) -> Process:
        directory = attempt.directory
        environ = self._environ(attempt) | {PROGRESS_VARIABLE: os.fspath(directory.progress)}
        arguments = [self.venv.python, self.entry_point, directory.source, directory.destination]
        cwd, limits = self.entry_point.parent, attempt.terms.limits
        if self._warm_start is not None:
            resources = limits.resources()
            process = self._warm_start.launch(arguments, environ=environ, cwd=cwd, output=output, limits=resources)
            if process is not None:
                return process
        return ColdProcess(limits.launch(arguments), environ=environ, cwd=cwd, output=output, run_as=self.run_as)

    def _environ(self, attempt: Attempt) -> dict[str, str]:
        # The mark comes first, because a forked child can show only the beginning of its environment (see
        # `child.Appearance`).
        environ = {MARK_VARIABLE: attempt.mark} | self.venv.environ(self.run_as.environ()) | self.services.environ()
        for name in (*_OF_THE_SUPERVISOR, TRACE_VARIABLE, CONSUMER_VARIABLE):
            environ.pop(name, None)
        if attempt.terms.consumer:
            environ[CONSUMER_VARIABLE] = attempt.terms.consumer
        if attempt.traceparent:
            environ[TRACE_VARIABLE] = attempt.traceparent
        # Without a buffer, the last output is in the file even if the process is killed.
        return environ | {"PYTHONUNBUFFERED": "1"}


def _remark(directory: JobDirectory) -> str:
    with contextlib.suppress(OSError):
        return describe_unsent(directory)
    return ""
