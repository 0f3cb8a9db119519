"""What runs a job: the protocol between the queue and whatever starts entry-points."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import attrs

from ..jobs.directory import JobDirectory
from ..jobs.job import Ending, RemoteLocation
from ..jobs.limits import JobLimits


class Stop(enum.Enum):
    """Why an attempt is to be ended before its end."""

    #: The runner is to stop; the job is to be run another time.
    HALT = "halt"
    #: The job is not wanted any more.
    CANCEL = "cancel"


@attrs.frozen(kw_only=True)
class Terms:
    """What holds for all attempts of a consumer, wherever they are run.

    Args:
        consumer: The consumer's name, which its uploads carry.
        timeout: Seconds that an attempt may take; None for no limit.
        output_limit: Bytes of its output that are kept; None for all.
        limits: What each of its processes may use.
    """

    consumer: str = ""
    timeout: float | None = None
    output_limit: int | None = None
    limits: JobLimits = attrs.field(factory=JobLimits)


def place_ignored(_: RemoteLocation) -> None:
    """What an attempt calls of which nobody wants to know where it is run."""


@attrs.frozen(kw_only=True)
class Attempt:
    """One run of an entry-point that is to be made.

    Args:
        job_id: The job's number.
        directory: Its directory, with all that the entry-point expects; for a `RemoteEngine`, an empty one.
        mark: By what its processes are found again, whatever becomes of the runner.
        terms: What holds for it.
        traceparent: Names the trace that it belongs to, as a piece of work of its own; empty if there is none.
        body: The notification, byte for byte as received.
        task: What it is called among other machines; empty where there are none.
        handed_out: Whether it was handed to them earlier, perhaps.
        placed: To be called when one of them has taken it.
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

    def run(self, attempt: Attempt, stop: Callable[[], Stop | None]) -> Ending | None:
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


@runtime_checkable
class RemoteEngine(Engine, Protocol):
    """Has attempts run elsewhere, where they outlive the runner: a later one waits for those that it finds.

    When `Engine.run` is asked to halt, it returns None and leaves the attempt alone. One that was handed out before is
    never handed out again as long as it may be running.
    """

    @property
    def place(self) -> str:
        """Where attempts are handed to; they are found again only there."""
        ...

    def forget(self, task: str) -> None:
        """Let go of an attempt whose result has been written down."""
        ...

    def abandon(self, task: str) -> None:
        """End an attempt that nobody waits for any more."""
        ...
