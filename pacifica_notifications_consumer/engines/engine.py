"""The protocol between the queue and the engines that run entry-points."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import attrs

from ..jobs.directory import JobDirectory
from ..jobs.job import Ending, RemoteLocation
from ..jobs.limits import JobLimits


class Stop(enum.Enum):
    """The reason for stopping an attempt early."""

    #: The runner stops; the job will run again later.
    HALT = "halt"
    #: The job was cancelled.
    CANCEL = "cancel"


@attrs.frozen(kw_only=True)
class Terms:
    """The conditions of all attempts of a consumer, on whichever machine they run.

    Args:
        consumer: The consumer's name, which its uploads carry.
        timeout: Seconds that an attempt may take; None for no limit.
        output_limit: Bytes of output that are kept for each job; None for no limit.
        limits: The resource limits of each process.
    """

    consumer: str = ""
    timeout: float | None = None
    output_limit: int | None = None
    limits: JobLimits = attrs.field(factory=JobLimits)


def place_ignored(_: RemoteLocation) -> None:
    """The default of `Attempt.placed`, which ignores the place."""


@attrs.frozen(kw_only=True)
class Attempt:
    """A run of an entry-point for a job.

    Args:
        job_id: The number of the job.
        directory: The directory of the job, which `JobDirectory.prepare` has filled; empty for a `RemoteEngine`.
        mark: Identifies the attempt's processes, so that they are found even if the runner dies.
        terms: The conditions of the attempt.
        traceparent: The ``traceparent`` of the attempt, a child span of the notification's trace; empty without one.
        body: The notification, byte for byte as received.
        task: The name of the attempt on other machines; empty if it runs on this machine.
        handed_out: Whether it may have been handed out to other machines before.
        placed: Called with the machine that has taken it.
    """

    job_id: int
    directory: JobDirectory
    mark: str
    terms: Terms = Terms()
    traceparent: str = ""
    body: bytes = attrs.field(default=b"", repr=False)
    task: str = ""
    handed_out: bool = False
    placed: Callable[[RemoteLocation], object] = place_ignored


class NotStarted(OSError):  # noqa: N818  (the name says what happened)
    """No process of an attempt could be started, so nothing of it has run."""


class Engine(Protocol):
    """Runs attempts, several at the same time, each on the thread of its caller."""

    def open(self, mark: str) -> int:
        """Prepare the engine, and end the processes that a dead runner left behind.

        Args:
            mark: The prefix of the marks of all attempts, including those of the dead runner.

        Returns:
            The number of ended processes.
        """

    def close(self) -> None:
        """Release all resources; no attempt may be running."""

    def run(self, attempt: Attempt, stop: Callable[[], Stop | None]) -> Ending | None:
        """Run an attempt, and return when its last process has ended.

        Args:
            attempt: The attempt.
            stop: Called several times a second; the attempt is stopped as soon as it returns a reason.

        Returns:
            The result of the attempt; None if it was stopped.

        Raises:
            OSError: The entry-point cannot be started.
        """


@runtime_checkable
class RemoteEngine(Engine, Protocol):
    """Runs attempts on other machines, where they outlive the runner; a later runner waits for those that still run.

    When ``stop`` asks `Engine.run` to halt, it returns None and lets the attempt go on. An attempt that was handed out
    is not handed out again while it may be running.
    """

    @property
    def name(self) -> str:
        """Says to which broker attempts are handed out; only a runner with an engine of this name finds them there."""

    def forget(self, task: str) -> None:
        """Release the records of an attempt whose result is in the ledger."""

    def abandon(self, task: str) -> None:
        """Stop an attempt whose result is not needed any more."""
