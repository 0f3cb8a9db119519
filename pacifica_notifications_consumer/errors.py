"""Every error that a user of the library or of its commands can meet.

A message is one sentence: what happened, to which thing, and after the semicolon what to do about it. It names a
setting as ``run_as``, in backticks; a command shows ``--run-as (PACIFICA_RUN_AS)`` instead.
"""

from __future__ import annotations


class PacificaError(Exception):
    """Root of all errors of this project.

    Args:
        problem: What happened, and to which thing.
        advice: What to do about it, in the imperative; follows the problem after a semicolon.
        output: What another program (an installer, ``init.sh``) printed on the matter, to be shown below.

    Attributes:
        exit_status: What a command ends with when this error ends it, in the numbering of sysexits.h, so that
            it does not collide with the low numbers that entry-points use.
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
    """The consumer archive cannot be opened, or holds something that it must not."""

    exit_status = 65


class FilterError(PacificaError, ValueError):
    """A JSONPath cannot be parsed, or failed on a notification."""

    exit_status = 65


class NotificationError(PacificaError, ValueError):
    """A notification is not JSON, or lacks or distorts what Pacifica's notifications carry."""

    exit_status = 65


class UnknownFormat(NotificationError):  # noqa: N818  (what is the matter is its name)
    """A notification is in a format that is not known here."""


class VenvError(PacificaError):
    """The consumer's virtual environment cannot be made."""

    exit_status = 69


class RequirementError(VenvError):
    """A requirement of the consumer cannot be installed."""


class InitScriptError(VenvError):
    """The consumer's ``init.sh`` failed or did not end."""


class ServiceError(PacificaError):
    """A Pacifica service cannot be reached or refuses.

    Args:
        status: The HTTP status it answered with, None when it did not answer.
        transient: Whether another try may work.
        retry_after: The seconds that the service asks to wait before it, if it does.
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
    """The files of a transaction did not arrive, or are not those that the notification names."""

    exit_status = 69


class BrokenOff(DownloadError):  # noqa: N818  (what happened is its name)
    """A stream of files ended early, even after several tries."""


class UploadError(PacificaError):
    """A new transaction could not be made of the files in ``uploads/``."""

    exit_status = 69


class StateError(PacificaError):
    """The state directory or the ledger in it cannot be used."""

    exit_status = 73


class InUse(StateError):  # noqa: N818  (what is the matter is its name)
    """Another process uses the state directory."""


class LeaseLost(StateError):  # noqa: N818  (what happened is its name)
    """A job's claim does not hold any more, so that its result counts for nothing."""


class EndpointError(PacificaError):
    """The web endpoint cannot listen where it should."""

    exit_status = 71


class Cancelled(PacificaError):  # noqa: N818  (it is no fault: somebody asked for it)
    """Work was stopped because the program is to end."""

    exit_status = 130
