"""The engine that runs entry-points as processes of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import attrs

from .engine import Attempt
from .job import Ending
from .output import Output
from .processes import KILL_AFTER, Process, describe_status
from .progress import PROGRESS_VARIABLE
from .services import Services
from .survivors import MARK_VARIABLE, end_marked
from .venv_builder import Venv

#: What supervisors tell the runner is not meant for entry-points.
_OF_THE_SUPERVISOR = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


@attrs.frozen(kw_only=True)
class LocalEngine:
    """Runs ``python entry_point SRC DST`` in the entry-point's directory, in a session of its own.

    Args:
        entry_point: The script.
        venv: The environment to run in.
        services: Where Pacifica is and who asks it, for ``download()`` and ``upload()`` in the entry-point.
        timeout: Seconds that an attempt may take; None for no limit.
        output_limit: Bytes of its output that are kept; None for all.
        kill_after: Seconds between asking its processes to end and ending them.
    """

    entry_point: Path
    venv: Venv
    services: Services
    timeout: float | None = None
    output_limit: int | None = None
    kill_after: float = KILL_AFTER

    def run(self, attempt: Attempt, stop: Callable[[], bool]) -> Ending | None:
        """See `Engine.run`."""
        output = Output(attempt.directory.output, self.output_limit)
        with output.open() as file:
            process = self._start(attempt, file.fileno())

        def look() -> bool:
            output.trim()
            return stop()

        status = None
        try:
            status = process.wait(self.timeout, look)
        finally:
            in_time = status is not None
            if status is None:
                status = process.end(self.kill_after)
            # Some of its children may have left its group. They had their time, too.
            end_marked(attempt.mark, 0.0)
            tail = output.finish()
        if not in_time and status != 0 and stop():
            return None
        if in_time:
            reason = "" if status == 0 else describe_status(status)
        else:
            # It may have come to its end while it was asked to.
            reason = "" if status == 0 and stop() else f"took longer than {self.timeout:g} seconds"
        usage = process.usage
        return Ending(
            status=status,
            reason=reason,
            cpu_seconds=usage.cpu_seconds if usage else None,
            peak_memory=usage.peak_memory if usage else None,
            output_tail=tail,
        )

    def recover(self, mark: str) -> int:
        """See `Engine.recover`."""
        return end_marked(mark, self.kill_after)

    def _start(self, attempt: Attempt, output: int) -> Process:
        directory = attempt.directory
        environ = self.venv.environ() | self.services.environ()
        for name in _OF_THE_SUPERVISOR:
            environ.pop(name, None)
        environ[MARK_VARIABLE] = attempt.mark
        environ[PROGRESS_VARIABLE] = os.fspath(directory.progress)
        # So that what it printed last is in the file even if it is killed.
        environ["PYTHONUNBUFFERED"] = "1"
        arguments = [self.venv.python, self.entry_point, directory.source, directory.destination]
        return Process(arguments, environ=environ, cwd=self.entry_point.parent, output=output)
