"""The web endpoint: takes notifications from the producer, and tells whether the consumer is well."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import logging
import ssl
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Self

import attrs

from pacifica_notifications_consumer.errors import StateError
from pacifica_notifications_consumer.job import Receipt, Verdict
from pacifica_notifications_consumer.producer import BASIC_USER
from pacifica_notifications_consumer.serving import BadRequest, Handler, Server, serve
from pacifica_notifications_consumer.trace import TRACE_HEADER
from pacifica_notifications_runner import metrics
from pacifica_notifications_runner.strangers import Strangers

log = logging.getLogger(__name__)

RECEIVE = "/receive"
_METHODS = {
    RECEIVE: ("POST", "OPTIONS"),
    "/healthz": ("GET", "HEAD", "OPTIONS"),
    "/readyz": ("GET", "HEAD", "OPTIONS"),
    "/metrics": ("GET", "HEAD", "OPTIONS"),
}
#: What a strict endpoint takes a notification as.
_MEDIA_TYPES = frozenset({"application/json", "application/cloudevents+json"})
_CHALLENGES = 'Bearer realm="pacifica", Basic realm="pacifica"'


@attrs.define
class Endpoint:
    """What the endpoint's handlers need.

    Args:
        accept: Takes notifications, and for each the ``traceparent`` of its request or an empty text; commits them to
            disk, and returns their receipts. The answers are sent when it returns.
        token: What a notification must carry: as bearer token, or as password of the user `BASIC_USER`.
        max_body: Bytes that a notification may have.
        strict: Whether what is JSON but no notification is refused, and what does not say that it is JSON. Otherwise it
            is taken and set aside, since Pacifica's producer gives a consumer up at its first refusal.
        ready: Whether the consumer is subscribed and working.
        trouble: What is the matter with the subscription, or the way to the workers, in words; empty if all is well.
        metrics: Counts what the consumer has done, in Prometheus' text format.
    """

    accept: Callable[[Sequence[bytes], Sequence[str]], Sequence[Receipt]]
    token: str = attrs.field(repr=False)
    max_body: int
    strict: bool = False
    ready: bool = False
    trouble: Callable[[], str] = str
    metrics: Callable[[], str] = str
    strangers: Strangers = attrs.field(factory=lambda: Strangers("the endpoint"), init=False)


@contextlib.contextmanager
def listening(endpoint: Endpoint, address: str, port: int, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serve the endpoint until the context ends.

    Args:
        endpoint: What it needs.
        address: The address to listen on.
        port: The port to listen on; 0 picks a free one.
        tls: What to secure the connections with; None for plain HTTP.

    Raises:
        EndpointError: The address or the port cannot be had.
    """
    handler = type("EndpointHandler", (_EndpointHandler,), {"endpoint": endpoint})
    with serve(handler, address, port, tls) as server:
        log.info("listening on %s", server.url)
        yield server


class _EndpointHandler(Handler):
    quick = True
    endpoint: Endpoint
    _notification: bytes

    def version_string(self) -> str:
        """Tell strangers no versions."""
        return "pacifica-notifications-consumer"

    def do_POST(self) -> None:
        """Take a notification; the order is: authenticate, read, commit, answer."""
        if not self._is_known():
            return
        if not self._is_authentic():
            # The body stays unread: nobody gets us to hold megabytes without the token.
            self.endpoint.strangers.note(self.address_string())
            self.reply_problem(
                HTTPStatus.UNAUTHORIZED, "the credentials are missing or wrong", WWW_Authenticate=_CHALLENGES
            )
            return
        try:
            self._check_form()
            body = self.read_body(self.endpoint.max_body)
        except BadRequest as error:
            log.warning("refused a notification: %s", error.reason)
            self.send_error(error.status, error.reason)
            return
        self._notification = body
        self.deferred = True

    @classmethod
    def answer_together(cls, handlers: Sequence[Self]) -> None:
        """Commit notifications, and answer that they are."""
        try:
            traceparents = [handler.headers.get(TRACE_HEADER, "") for handler in handlers]
            receipts = cls.endpoint.accept([handler._notification for handler in handlers], traceparents)
        except StateError as error:
            log.critical("could not take %d notifications: %s", len(handlers), error)
            for handler in handlers:
                with handler.guarded():
                    problem = "the notification could not be written to disk"
                    handler.reply_problem(HTTPStatus.INTERNAL_SERVER_ERROR, problem)
            return
        for handler, receipt in zip(handlers, receipts, strict=True):
            with handler.guarded():
                handler._answer_receipt(receipt)

    def _check_form(self) -> None:
        if "Content-Length" not in self.headers and "Transfer-Encoding" not in self.headers:
            reason = "the request must carry a Content-Length, or come in chunks"
            raise BadRequest(HTTPStatus.LENGTH_REQUIRED, reason)
        if self.endpoint.strict:
            media_type = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if media_type not in _MEDIA_TYPES:
                reason = f"the Content-Type must be {' or '.join(sorted(_MEDIA_TYPES))}"
                raise BadRequest(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, reason)

    def _answer_receipt(self, receipt: Receipt) -> None:
        refused = receipt.verdict is Verdict.UNREADABLE or (
            self.endpoint.strict and receipt.verdict is Verdict.MALFORMED
        )
        if refused:
            self.reply_problem(HTTPStatus.BAD_REQUEST, receipt.reason)
            return
        job = "null" if receipt.job_id is None else receipt.job_id
        document = f'{{"notification": {receipt.notification_id}, "verdict": "{receipt.verdict.value}", "job": {job}}}'
        self.reply(HTTPStatus.ACCEPTED, document.encode("ascii"), "application/json")

    def do_GET(self) -> None:
        """Answer the questions of supervisors."""
        if not self._is_known():
            return
        if self._path() == "/metrics":
            self.reply(HTTPStatus.OK, self.endpoint.metrics().encode(), metrics.CONTENT_TYPE)
            return
        trouble = self._trouble() if self._path() == "/readyz" else ""
        if trouble:
            self.reply_problem(HTTPStatus.SERVICE_UNAVAILABLE, trouble)
        else:
            self.reply(HTTPStatus.OK, b"ok\n", "text/plain")

    do_HEAD = do_PUT = do_DELETE = do_PATCH = do_GET

    def do_OPTIONS(self) -> None:
        """Say what can be done here."""
        if self._is_known():
            self.reply(HTTPStatus.NO_CONTENT, Allow=", ".join(_METHODS[self._path()]))

    def _trouble(self) -> str:
        return self.endpoint.trouble() if self.endpoint.ready else "the consumer is starting or stopping"

    def _path(self) -> str:
        return self.path.partition("?")[0]

    def _is_known(self) -> bool:
        """Whether this resource and method exist; if not, the request has been refused."""
        methods = _METHODS.get(self._path())
        if methods and self.command in methods:
            return True
        if methods:
            self.reply_problem(HTTPStatus.METHOD_NOT_ALLOWED, f"use {methods[0]}", Allow=", ".join(methods))
        else:
            self.reply_problem(HTTPStatus.NOT_FOUND, f"there is nothing here; notifications go to {RECEIVE}")
        return False

    def _is_authentic(self) -> bool:
        scheme, _, credentials = self.headers.get("Authorization", "").partition(" ")
        given, expected = credentials.strip().encode(), self.endpoint.token.encode()
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True)
            except binascii.Error:
                given = b""
            expected = f"{BASIC_USER}:{self.endpoint.token}".encode()
        # In a time that does not tell how much of it is right.
        return hmac.compare_digest(given, expected) and scheme.lower() in ("bearer", "basic")
