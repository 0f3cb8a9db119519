"""What runs a job: the protocol between the queue and whatever starts entry-points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs

from .job import Ending
from .state_directory import JobDirectory


@attrs.frozen(kw_only=True)
class Attempt:
    """One run of an entry-point that is to be made.

    Args:
        job_id: The job's number.
        directory: Its directory, with all that the entry-point expects.
        mark: By what its processes are found again, whatever becomes of the runner.
        traceparent: Names the trace that it belongs to, as a piece of work of its own; empty if there is none.
    """

    job_id: int
    directory: JobDirectory
    mark: str
    traceparent: str = ""


class Engine(Protocol):
    """Runs attempts, several at the same time, each on the thread that asks for it."""

    def open(self, mark: str) -> int:
        """Get ready, and end what is left of the attempts of a runner that died.

        Args:
            mark: What the marks of all attempts begin with, those of that runner's included.

        Returns:
            How many processes there were.
        """
        ...

    def close(self) -> None:
        """Let go of everything; nothing is running any more."""
        ...

    def run(self, attempt: Attempt, stop: Callable[[], bool]) -> Ending | None:
        """Run an attempt, and return when its last process has gone.

        Args:
            attempt: What is to be run.
            stop: Asked several times a second; when it says so, the attempt is ended.

        Returns:
            How it ended; None if ``stop`` ended it.

        Raises:
            OSError: The entry-point cannot be started.
        """
        ...
