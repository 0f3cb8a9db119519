"""The one error of a request."""

from __future__ import annotations

from http import HTTPStatus


class HTTPError(Exception):
    """A request cannot be taken; the handler answers with the status and the reason."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
