"""What the sandbox's services share on the wire: routes, bodies of either framing, Pacifica's error pages."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl, unquote

from ...http.errors import HTTPError
from ...http.server import Handler

#: Bytes that are moved at a time, so that memory stays flat whatever the size of a file.
PIECE = 1 << 20
_UNEXPECTED = "The server encountered an unexpected condition which prevented it from fulfilling the request."
_LARGEST_DOCUMENT = 256 << 20

AnyHandler = TypeVar("AnyHandler", bound="ServiceHandler")


def error_page(error: Exception) -> dict[str, str]:
    """The document that a Pacifica service answers with when a request fails.

    A `HTTPError` shows its own status and reason. Anything else is a 500 whose reason stands only in the
    traceback, as the real services have it.
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
    """Answers one service's requests through `route`, and its failures with Pacifica's error pages."""

    #: What the error pages are labelled as.
    error_type = "application/json"
    segments: list[str]
    query: dict[str, str]

    def route(self) -> None:
        """Answer the request: ``command``, ``segments`` and ``query`` say which; to be overridden."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answer any method."""
        path, _, query = self.path.partition("?")
        self.segments = [unquote(segment) for segment in path.split("/") if segment]
        self.query = dict(parse_qsl(query, keep_blank_values=True))
        try:
            self.route()
        except (ConnectionError, TimeoutError):
            raise  # the client has gone
        except Exception as error:
            self._refuse(error)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET

    def _refuse(self, error: Exception) -> None:
        if self.streaming:
            # Part of the answer has gone; only the missing end can tell the client now.
            self.close_connection = True
            return
        page = error_page(error)
        self.reply(int(page["status"].split()[0]), self.error_body(page), self.error_type)

    def error_body(self, page: dict[str, str]) -> bytes:
        """Write an error page down."""
        return json.dumps(page).encode("ascii")

    def body(self) -> Iterator[bytes]:
        """Read the request's body piece by piece, whether it has a length or comes in chunks.

        Raises:
            HTTPError: It has neither, is malformed, or ended early.
        """
        self._check_length()
        while piece := self.rfile.read(PIECE):
            yield piece

    def document(self) -> bytes:
        """Read the request's whole body, which is none of the large ones."""
        self._check_length()
        return self.read_body(_LARGEST_DOCUMENT)

    def _check_length(self) -> None:
        if "Content-Length" not in self.headers and "Transfer-Encoding" not in self.headers:
            raise HTTPError(HTTPStatus.LENGTH_REQUIRED, "the request must carry a Content-Length, or come in chunks")

    def content_type(self) -> str:
        """The media type that the request claims, without parameters."""
        return str(self.headers.get("Content-Type", "")).partition(";")[0].strip().lower()


def bind(handler: type[AnyHandler], **state: object) -> type[AnyHandler]:
    """Make a handler class that finds its service's state in class attributes, since http.server instantiates."""
    return cast("type[AnyHandler]", type(handler.__name__, (handler,), state))


def from_json(body: bytes) -> Any:
    """Decode a JSON document.

    Raises:
        ValueError: It is none.
    """
    return json.loads(body.decode("utf-8"))
