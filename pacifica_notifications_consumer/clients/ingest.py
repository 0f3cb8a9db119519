"""The HTTP API of ingest, which makes a transaction of a tar in the background.

Observed on pacifica-ingest 0.4.1.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Protocol

import attrs
import requests

from ..errors import ServiceError, shown
from ..settings.services import Services
from .base import PATIENT_TRIES, ServiceClient, ends_of, summarize


class UploadBody(Protocol):
    """A request's body in pieces; its length is its size in bytes."""

    def __iter__(self) -> Iterator[bytes | memoryview]: ...

    def __len__(self) -> int: ...


@attrs.frozen(kw_only=True)
class IngestState:
    """The progress of an upload in ingest."""

    state: str  #: ``OK`` or ``FAILED``
    task: str  #: the current or failed step, such as ``Policy Validation``
    percent: str  #: the progress of that step, as ingest writes it
    complete: bool  #: whether ingest has ended the upload, with success or not
    exception: str  #: why the upload failed; often a whole traceback
    created: float | None = None  #: the upload's arrival in seconds since 1970 by ingest's clock, if it is sent

    @property
    def ok(self) -> bool:
        """Whether the upload has not failed."""
        return self.state == "OK"

    @property
    def reason(self) -> str:
        """Why the upload failed, in one line."""
        text = ends_of(self.exception)
        # ingest writes the answer of metadata as the repr of a dictionary.
        if text.startswith("{'status'") and len(text) < 64 << 10:  # parsed, it takes 500 times as much memory
            with contextlib.suppress(ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError):
                answer = ast.literal_eval(text)
                text = f"{answer['message']} ({answer['traceback']})"
        if text.startswith(_NO_REASON) and (raised := _RAISED.findall(text)):
            # The last exception of the traceback is the one that reached the user.
            return summarize(raised[-1])
        return summarize(text)


#: CherryPy's message for an unhandled exception.
_NO_REASON = "The server encountered an unexpected condition"
_RAISED = re.compile(r"^(?:\w+\.)*(\w+: \S.*)$", re.MULTILINE)


class Ingest(ServiceClient):
    """Sends uploads and polls their progress."""

    title = "ingest"
    setting = "ingest_url"

    def __init__(self, services: Services, session: requests.Session) -> None:
        super().__init__(services.ingest_url, session)
        self._status_url = services.ingest_status_url or f"{services.ingest_url}/get_state"
        self.upload_url = services.ingest_upload_url or f"{services.ingest_url}/upload"

    def upload(self, tar: UploadBody) -> int:
        """Send a tar with ``metadata.txt`` and the files below ``data/``; returns the number of ingest's job.

        It becomes the transaction's id.
        """
        headers = {"Content-Type": "application/octet-stream"}
        answer = self.json(self.request("POST", self.upload_url, data=tar, headers=headers))
        job_id = answer.get("job_id") if isinstance(answer, dict) else None
        if type(job_id) is not int:
            raise ServiceError(f"ingest at {self.url} answered without a job_id", "look into the log of ingest")
        return job_id

    def state(self, job_id: int) -> IngestState | None:
        """Query the progress of an upload; None if ingest does not know the number."""
        url = f"{self._status_url}?job_id={job_id}"
        response = self.request("GET", url, expect=(HTTPStatus.OK, HTTPStatus.NOT_FOUND), tries=PATIENT_TRIES)
        if response.status_code == HTTPStatus.NOT_FOUND:
            return None
        answer: Any = self.json(response)
        try:
            return IngestState(
                state=answer["state"],
                task=shown(str(answer["task"])),
                percent=shown(str(answer["task_percent"])),
                complete=bool(answer["complete"]),
                exception=str(answer["exception"]),
                created=_seconds(answer.get("created")),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise self.unusable("with a malformed state") from error


def _seconds(text: object) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
