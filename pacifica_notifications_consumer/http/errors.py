"""The error with which a request is refused, and the body of a refusal."""

from __future__ import annotations

import json
from http import HTTPStatus

PROBLEM_TYPE = "application/problem+json"


class HTTPError(Exception):
    """A request is refused; the handler answers with the status and the reason."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def problem_document(status: HTTPStatus, detail: str) -> bytes:
    """The body of a refusal as RFC 9457 defines it."""
    document = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    return json.dumps(document).encode("ascii")
