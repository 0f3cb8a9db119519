"""The common part of the sandbox's HTTP handlers: routing, request bodies, and Pacifica's error pages."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl, unquote

from ...http.errors import HTTPError
from ...http.request import split_target
from ...http.server import Handler

#: Size in bytes of the pieces in which files are copied.
PIECE = 1 << 20
_UNEXPECTED = "The server encountered an unexpected condition which prevented it from fulfilling the request."
_LARGEST_DOCUMENT = 256 << 20

AnyHandler = TypeVar("AnyHandler", bound="ServiceHandler")


def error_page(error: Exception) -> dict[str, str]:
    """The document with which a Pacifica service answers a request that failed.

    Errors other than `HTTPError` are a 500 with the message only in the traceback, as with the real services.
    """
    status, message = HTTPStatus.INTERNAL_SERVER_ERROR, _UNEXPECTED
    if isinstance(error, HTTPError):
        status, message = error.status, error.reason
    return {
        "status": f"{status.value} {status.phrase}",
        "message": message,
        "traceback": "".join(traceback.format_exception(error)),
        "version": "unknown",
    }


class ServiceHandler(Handler):
    """Answers the requests of a service with `route`, and errors with Pacifica's error pages."""

    #: The media type of error pages.
    error_type = "application/json"
    segments: list[str]
    query: dict[str, str]

    def route(self) -> None:
        """Answer the request, which is described by ``command``, ``segments`` and ``query``; to be overridden."""
        raise NotImplementedError

    def do_any(self) -> None:
        """Answer a request of any method."""
        path, query = split_target(self.path)
        self.segments = [unquote(segment) for segment in path.split("/") if segment]
        self.query = dict(parse_qsl(query, keep_blank_values=True))
        try:
            self.route()
        except (ConnectionError, TimeoutError):
            raise  # the client has gone
        except Exception as error:
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        if self.streaming:
            # A part of the response has been sent: only closing the connection early can tell the client of the error.
            self.close_connection = True
            return
        page = error_page(error)
        self.reply(int(page["status"].split()[0]), self.error_body(page), self.error_type)

    def error_body(self, page: dict[str, str]) -> bytes:
        """Write an error page as JSON."""
        return json.dumps(page).encode("ascii")

    def body(self) -> Iterator[bytes]:
        """Read the request's body in pieces; it must have a length or be chunked."""
        self._check_length()
        while piece := self.rfile.read(PIECE):
            yield piece

    def document(self) -> bytes:
        """Read the request's whole body into memory."""
        self._check_length()
        return self.read_body(_LARGEST_DOCUMENT)

    def _check_length(self) -> None:
        if "Content-Length" not in self.headers and "Transfer-Encoding" not in self.headers:
            raise HTTPError(HTTPStatus.LENGTH_REQUIRED, "the request must have a Content-Length or be chunked")

    def content_type(self) -> str:
        """The media type of the request, without parameters."""
        return str(self.headers.get("Content-Type", "")).partition(";")[0].strip().lower()


def bind(handler: type[AnyHandler], **state: object) -> type[AnyHandler]:
    """Make a handler class with its service as a class attribute, since the server makes the instances."""
    return cast("type[AnyHandler]", type(handler.__name__, (handler,), state))


def from_json(body: bytes) -> Any:
    """Decode a JSON document in UTF-8."""
    return json.loads(body.decode("utf-8"))
