"""A handler of `http.server` that sends each response in one write."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol, Self, cast

import attrs

from .body import Body, ChunkedBody, SizedBody
from .connection import Connection
from .errors import PROBLEM_TYPE, HTTPError, problem_document
from .request import Head, Headers

_GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


class Handler(BaseHTTPRequestHandler):
    """Answers one request, in one write.

    A response in two writes waits about 40 ms for the client's delayed acknowledgement.

    Attributes:
        connection: The client's socket.
        rfile: The request's body; a method need not read it.
        body_left: Whether a part of the body has not been read.
        quick: Whether the methods take so little time that requests can be answered on the poller's thread.
        streaming: Whether the beginning of a response of unknown length has been sent.
        deferred: Set by a method that leaves the response to `answer_together`.
    """

    quick = False
    protocol_version = "HTTP/1.1"
    connection: socket.socket
    headers: Headers  # type: ignore[assignment]
    rfile: Body  # type: ignore[assignment]

    def setup(self) -> None:
        """Set the attributes for the connection; called by `http.server`."""
        self._client = cast("Connection", self.request)
        self.connection = self._client.socket
        self.wfile = _Writer(self._client)  # type: ignore[assignment]
        self.close_connection = True
        self.body_left = self.deferred = self.streaming = False

    @classmethod
    def answer_together(cls, handlers: Sequence[Self]) -> None:
        """Answer the `deferred` requests, one or more, that arrived at the same time.

        With a thread for each request instead, which share commits in the ledger, a notification costs the endpoint 2.6
        times the processor time with 8 clients and 3.0 times with 64, and the rate falls to 0.66.
        """
        raise NotImplementedError

    @classmethod
    def allowance(cls, head: Head) -> int | None:  # noqa: ARG003  (subclasses use it)
        """Decide by the head of a request how long its client is waited for; called on the poller's thread.

        Returns:
            None to wait for the body, if it is large on a thread, and for the client to take the response. A number of
            bytes if the client may be any: a body of that size is waited for without a thread; with a larger one, or
            one in chunks, the request is answered at once, and its body must not be read.
        """
        return None

    @classmethod
    def is_certain(cls, head: Head) -> bool:  # noqa: ARG003  (subclasses use it)
        """Whether the sender of a body that is waited for is known; all others take at most half of the threads."""
        return True

    def handle(self) -> None:
        """Answer the request."""
        self.guard(self._answer)

    def guard(self, send: Callable[..., None], *arguments: Any) -> None:
        """Call a function that sends something; a client that disconnects meanwhile is not an error."""
        try:
            send(*arguments)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def finish(self) -> None:
        """Do nothing: the connection stays open for further requests."""

    def _answer(self) -> None:
        self.command, self.request_version, self.requestline = "", self.protocol_version, ""
        try:
            head = self._read_head()
            self.rfile = self._open_body(head)
        except HTTPError as error:
            self.body_left = True
            self.send_error(error.status, error.reason)
            return
        self.close_connection = not head.keeps_connection
        getattr(self, f"do_{head.method}", self.do_any)()
        if not self.rfile.is_read:
            self.close_connection = self.body_left = True

    def _read_head(self) -> Head:
        if self._client.problem:
            raise self._client.problem
        head = self._client.take_head()
        self.command, self.path, self.request_version = head.method, head.target, head.version
        self.requestline = f"{head.method} {head.target} {head.version}"
        self.headers = head.headers
        return head

    def do_any(self) -> None:
        """Answer a request whose method has no ``do_METHOD`` of its own; by default, refuse it."""
        self.send_error(HTTPStatus.NOT_IMPLEMENTED, f"the method {self.command[:50]} is not supported")

    def _open_body(self, head: Head) -> Body:
        go_on = None
        if expected := head.headers.get("Expect"):
            if expected.lower() != "100-continue":
                raise HTTPError(HTTPStatus.EXPECTATION_FAILED, "the only supported Expect is 100-continue")
            if head.version != "HTTP/1.0":
                go_on = partial(self._client.send, _GO_ON)
        length = head.headers.body_length()
        return ChunkedBody(self._client, go_on) if length is None else SizedBody(self._client, length, go_on)

    def reply(self, status: int, body: bytes = b"", content_type: str = "", **headers: str) -> None:
        """Send a whole response.

        Args:
            status: The HTTP status.
            body: The body.
            content_type: Its media type; empty for none.
            headers: Further header fields, with ``_`` for ``-`` in their names.
        """
        if not self.close_connection and not self.rfile.is_read:
            # The unread rest of the body must not be taken for the next request.
            self.close_connection = True
        lines = [
            f"HTTP/1.1 {int(status)} {self.responses.get(status, ('',))[0]}",
            f"Server: {self.version_string()}",
            f"Date: {_now()}",
        ]
        if content_type:
            lines.append(f"Content-Type: {content_type}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if status != HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {len(body)}")
        if self.close_connection:
            lines.append("Connection: close")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        self._client.send(head if self.command == "HEAD" else head + body)

    def reply_json(self, status: int, document: Any, content_type: str = "application/json") -> None:
        """Send a document as JSON."""
        self.reply(status, json.dumps(document).encode("ascii"), content_type)

    @contextlib.contextmanager
    def stream(self, headers: Mapping[str, str]) -> Iterator[Writer]:
        """Send a response with status 200 whose length is not known beforehand, through the writer."""
        self.streaming = True
        # HTTP/1.0 has no chunks: the end of the connection is the end of the response.
        in_chunks = self.request_version != "HTTP/1.0"
        self.close_connection = self.close_connection or not in_chunks
        self.send_response(HTTPStatus.OK)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header(*("Transfer-Encoding", "chunked") if in_chunks else ("Connection", "close"))
        self.end_headers()
        yield _ChunkedWriter(self._client) if in_chunks else self.wfile
        if in_chunks:
            self._client.send(b"0\r\n\r\n")

    def reply_problem(self, status: HTTPStatus, detail: str, **headers: str) -> None:
        """Refuse the request with a problem document (RFC 9457); the header fields are as in `reply`."""
        self.reply(status, problem_document(status, detail), PROBLEM_TYPE, **headers)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse the request and close the connection; overrides the HTML response of `http.server`."""
        self.close_connection = True
        later = {"Retry_After": "10"} if code == HTTPStatus.SERVICE_UNAVAILABLE else {}
        self.reply_problem(HTTPStatus(code), explain or message or HTTPStatus(code).phrase, **later)

    def read_body(self, limit: int | None = None) -> bytes:
        """Read the request's whole body, of at most ``limit`` bytes.

        Raises:
            HTTPError: The body is larger or malformed, or the client closes the connection early.
        """
        if limit is None:
            return self.rfile.read()
        if isinstance(self.rfile, SizedBody) and self.rfile.length > limit:
            reason = f"the body has {self.rfile.length} bytes, the limit is {limit}"
            raise HTTPError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
        body = self.rfile.read(limit)
        if not self.rfile.is_read and self.rfile.read(1):
            raise HTTPError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {limit} bytes")
        return body

    def log_message(self, format: str, *args: Any) -> None:
        """Do nothing: subclasses do their own logging."""


class Writer(Protocol):
    """Takes the pieces of a response's body."""

    def write(self, data: bytes, /) -> object:
        """Send one piece."""
        ...


@attrs.frozen
class _Writer:
    """The file object that `http.server` writes to."""

    _connection: Connection

    def write(self, data: bytes) -> int:
        self._connection.send(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: each write is sent at once."""


class _ChunkedWriter(_Writer):
    """Sends each write as one chunk of the response."""

    def write(self, data: bytes) -> int:
        if data:  # an empty chunk would be the end
            for piece in (b"%x\r\n" % len(data), data, b"\r\n"):
                self._connection.send(piece)
        return len(data)


_date = (0, "")


def _now() -> str:
    global _date
    second = int(time.time())
    if _date[0] != second:
        _date = (second, formatdate(second, usegmt=True))
    return _date[1]
