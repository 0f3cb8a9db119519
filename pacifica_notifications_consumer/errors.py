"""All errors that the library and the commands raise.

A message is one sentence: the problem, with the thing that it concerns, and after a semicolon the advice. It names a
setting as ``run_as``, in backticks; a command shows ``--run-as (PACIFICA_RUN_AS)`` instead.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator


class PacificaError(Exception):
    """Base class of all errors of this project.

    Args:
        problem: What happened, and to which thing.
        advice: What to do about it, in the imperative; follows the problem after a semicolon.
        output: The output of a failed program, such as an installer or ``init.sh``; shown below the message.

    Attributes:
        exit_status: The exit status of a command that this error ends. The numbers are those of sysexits.h, which
            differ from the low numbers that entry-points use.
    """

    exit_status = 70

    def __init__(self, problem: str, advice: str = "", *, output: str = "") -> None:
        super().__init__(problem, advice)
        self.problem = problem
        self.advice = advice
        self.output = output

    def __str__(self) -> str:
        return f"{self.problem}; {self.advice}" if self.advice else self.problem


class ConfigurationError(PacificaError):
    """A setting is missing, unknown or wrong."""

    exit_status = 78


class ArchiveError(PacificaError):
    """The consumer archive cannot be opened, or contains forbidden entries."""

    exit_status = 65


class FilterError(PacificaError, ValueError):
    """A JSONPath cannot be parsed, or fails on a notification."""

    exit_status = 65


class NotificationError(PacificaError, ValueError):
    """A notification is not JSON, or a part of it is missing or malformed."""

    exit_status = 65


class UnknownFormat(NotificationError):  # noqa: N818  (the name says what is wrong)
    """A notification has a format that is not supported."""


class VenvError(PacificaError):
    """The consumer's virtual environment cannot be created."""

    exit_status = 69


class RequirementError(VenvError):
    """A requirement of the consumer cannot be installed."""


class InitScriptError(VenvError):
    """The consumer's ``init.sh`` failed or did not end in time."""


class ServiceError(PacificaError):
    """A Pacifica service cannot be reached, or refuses a request.

    Args:
        problem: See `PacificaError`.
        advice: See `PacificaError`.
        status: The HTTP status of the answer; None if there was no answer.
        transient: Whether another try may work.
        retry_after: The seconds that the service asks to wait before another try; None if it does not.
    """

    exit_status = 69

    def __init__(
        self,
        problem: str,
        advice: str = "",
        *,
        status: int | None = None,
        transient: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(problem, advice)
        self.status = status
        self.transient = transient
        self.retry_after = retry_after


class DownloadError(PacificaError):
    """The files of a transaction did not arrive, or differ from those in the notification."""

    exit_status = 69


class BrokenOff(DownloadError):  # noqa: N818  (the name says what happened)
    """A stream of files ended early, even after several tries."""


class UploadError(PacificaError):
    """The files in ``uploads/`` could not be uploaded as a new transaction."""

    exit_status = 69


class PromiseError(PacificaError, RuntimeError):
    """A callback of a promise does nothing, or a promise is awaited that nothing can settle."""


class StateError(PacificaError):
    """The state directory or the ledger in it cannot be used."""

    exit_status = 73


class InUse(StateError):  # noqa: N818  (the name says what is wrong)
    """Another process uses the state directory."""


class LeaseLost(StateError):  # noqa: N818  (the name says what happened)
    """The lease of a job has expired, so that the result of this attempt is discarded."""


class EndpointError(PacificaError):
    """An HTTP server cannot listen on its address or port."""

    exit_status = 71


class Cancelled(PacificaError):  # noqa: N818  (not an error: the work was stopped on request)
    """Work was stopped because the program is ending."""

    exit_status = 130


def shown(text: str, longest: int = 300) -> str:
    """Shorten a foreign text for a message, and escape all characters that a terminal may obey instead of showing."""
    safe = escaped(text[: longest + 1])
    return safe if len(safe) <= longest else f"{safe[:longest]}…"


def escaped(text: str, but: str = "") -> str:
    """Escape the unprintable characters of a text, but for some."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in but else ascii(each)[1:-1] for each in text)


@contextlib.contextmanager
def explained(
    kind: type[PacificaError], problem: str, advice: str, *, cause: tuple[type[Exception], ...] = (OSError,)
) -> Iterator[None]:
    """Turn an error of the system within the context into one that says what could not be done.

    Args:
        kind: The error that is raised instead.
        problem: What cannot be done, and to which thing; the system's reason is added after a colon.
        advice: What to do about it.
        cause: The errors that are turned into it.
    """
    try:
        yield
    except cause as error:
        if getattr(error, "errno", None) == errno.ENAMETOOLONG:
            advice = "use a shorter name"
        raise kind(f"{problem}: {getattr(error, 'strerror', None) or error}", advice) from error
