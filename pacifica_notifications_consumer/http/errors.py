"""The error with which a request is refused."""

from __future__ import annotations

from http import HTTPStatus


class HTTPError(Exception):
    """A request is refused; the handler answers with the status and the reason."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
