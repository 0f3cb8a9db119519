"""ingest on the wire: takes a tar, makes a transaction of it, and says how far it is.

Observed on pacifica-ingest 0.4.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import attrs

from .errors import ServiceError
from .services import INGEST_URL
from .session import ServiceClient


class Body(Protocol):
    """A request's body in pieces, whose length in bytes is known beforehand."""

    def __iter__(self) -> Iterator[bytes]: ...

    def __len__(self) -> int: ...


@attrs.frozen(kw_only=True)
class IngestState:
    """How far an upload is.

    Args:
        state: ``OK`` or ``FAILED``.
        task: What ingest is doing or failed at, such as ``Policy Validation``.
        percent: How far that task is, as ingest writes it.
        complete: Whether it has ended, well or not.
        exception: Why it failed; often a whole traceback.
    """

    state: str
    task: str
    percent: str
    complete: bool
    exception: str

    @property
    def ok(self) -> bool:
        """False as soon as it failed."""
        return self.state == "OK"


class Ingest(ServiceClient):
    """Sends uploads and watches them."""

    title = "ingest"
    option = INGEST_URL

    def upload(self, tar: Body) -> int:
        """Send a tar with files below ``data/`` and ``metadata.txt``.

        Returns:
            The job's number, which becomes the transaction's id.

        Raises:
            ServiceError: ingest cannot be reached, refuses, or answers without a number.
        """
        headers = {"Content-Type": "application/octet-stream"}
        answer = self.json(self.request("POST", "/upload", data=tar, headers=headers))
        job_id = answer.get("job_id") if isinstance(answer, dict) else None
        if not isinstance(job_id, int):
            raise ServiceError(f"ingest at {self.url} answered without a job_id", "look into the log of ingest")
        return job_id

    def state(self, job_id: int) -> IngestState:
        """Ask how far an upload is.

        Raises:
            ServiceError: ingest cannot be reached or does not know the number.
        """
        answer: Any = self.json(self.request("GET", f"/get_state?job_id={job_id}"))
        try:
            return IngestState(
                state=answer["state"],
                task=answer["task"],
                percent=str(answer["task_percent"]),
                complete=bool(answer["complete"]),
                exception=str(answer["exception"]),
            )
        except (KeyError, TypeError) as error:
            raise ServiceError(
                f"ingest at {self.url} answered a state of unknown form", "look into the log of ingest"
            ) from error
