"""The web endpoint: takes notifications from the producer, and tells whether the consumer is well."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import itertools
import logging
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Self

import attrs

from pacifica_notifications_consumer.clients.producer import BASIC_USER
from pacifica_notifications_consumer.cloudevents.modes import MediaType, Mode, mode_of, read_events
from pacifica_notifications_consumer.cloudevents.notification import MAX_DEPTH, Notification
from pacifica_notifications_consumer.cloudevents.trace import TRACE_HEADER
from pacifica_notifications_consumer.cloudevents.validation import problems_of
from pacifica_notifications_consumer.errors import NotificationError, StateError, UnknownFormat
from pacifica_notifications_consumer.http.errors import HTTPError
from pacifica_notifications_consumer.http.limits import ServerLimits
from pacifica_notifications_consumer.http.server import Handler, Server, serve
from pacifica_notifications_consumer.jobs.job import Receipt, Verdict
from pacifica_notifications_consumer.queue import prometheus as metrics
from pacifica_notifications_runner.strangers import Strangers
from pacifica_notifications_runner.webhooks import Rate, Signatures, handshake, token_in

log = logging.getLogger(__name__)

RECEIVE = "/receive"
_METHODS = {
    RECEIVE: ("POST", "OPTIONS"),
    "/healthz": ("GET", "HEAD", "OPTIONS"),
    "/readyz": ("GET", "HEAD", "OPTIONS"),
    "/metrics": ("GET", "HEAD", "OPTIONS"),
}
#: What a strict endpoint takes events as whose attributes are not in header fields.
_MEDIA_TYPES = ("application/json", "application/cloudevents+json", "application/cloudevents-batch+json")
#: Bytes that are read of who can only be known by a signature of them, unless somebody says so.
MAX_SIGNED_BODY = 1 << 20
#: How many events a batch may have, unless somebody says so.
MAX_EVENTS = 1000
_CHALLENGES = 'Bearer realm="pacifica", Basic realm="pacifica"'


def _document(receipt: Receipt) -> str:
    job = "null" if receipt.job_id is None else receipt.job_id
    return f'{{"notification": {receipt.notification_id}, "verdict": "{receipt.verdict.value}", "job": {job}}}'


@attrs.define
class Endpoint:
    """What the endpoint's handlers need.

    Args:
        accept: Takes notifications, and for each the ``traceparent`` of its request or an empty text; commits them to
            disk, and returns their receipts. The answers are sent when it returns.
        token: What a notification must carry: as bearer token, or as password of the user `BASIC_USER`.
        max_body: Bytes that a notification may have.
        strict: Whether what is JSON but no CloudEvent is refused, and what does not say that it is one, and senders may
            ask for what webhooks offer. Otherwise what is no notification is taken and set aside, since Pacifica's
            producer gives a consumer up at its first refusal.
        max_events: How many events a batch may have.
        max_depth: How deep an event of a batch may be nested if it is strict; of others that is for ``accept`` to say.
        signatures: By which senders that do not show the token are known.
        max_signed_body: Bytes that a notification of theirs may have.
        origins: Who may send, of those that ask; ``*`` for anybody.
        rate: How many requests a minute are taken if it is strict.
        retired: Whether it is not to be sent anything any more.
        ready: Whether the consumer is subscribed and working.
        trouble: What is the matter with the subscription, or the way to the workers, in words; empty if all is well.
        metrics: Counts what the consumer has done, in Prometheus' text format.
    """

    accept: Callable[[Sequence[bytes], Sequence[str]], Sequence[Receipt]]
    token: str = attrs.field(repr=False)
    max_body: int
    strict: bool = False
    max_events: int = MAX_EVENTS
    max_depth: int = MAX_DEPTH
    signatures: Signatures = attrs.field(factory=Signatures)
    max_signed_body: int = MAX_SIGNED_BODY
    origins: Sequence[str] = ("*",)
    rate: Rate = attrs.field(factory=lambda: Rate(None))
    retired: bool = False
    ready: bool = False
    trouble: Callable[[], str] = str
    metrics: Callable[[], str] = str
    strangers: Strangers = attrs.field(factory=lambda: Strangers("the endpoint"), init=False)

    def retire(self) -> None:
        """Take nothing any more, if it is strict."""
        self.retired = True


@contextlib.contextmanager
def listening(
    endpoint: Endpoint,
    address: str,
    port: int,
    tls: ssl.SSLContext | None = None,
    limits: ServerLimits | None = None,
) -> Iterator[Server]:
    """Serve the endpoint until the context ends.

    Args:
        endpoint: What it needs.
        address: The address to listen on.
        port: The port to listen on; 0 picks a free one.
        tls: What to secure the connections with; None for plain HTTP.
        limits: What clients may cost it.

    Raises:
        EndpointError: The address or the port cannot be had.
    """
    handler = type("EndpointHandler", (_EndpointHandler,), {"endpoint": endpoint})
    with serve(handler, address, port, tls, limits) as server:
        log.info("listening on %s", server.url)
        yield server


class _EndpointHandler(Handler):
    quick = True
    endpoint: Endpoint
    _events: Sequence[bytes]
    _mode: Mode

    def version_string(self) -> str:
        """Tell strangers no versions."""
        return "pacifica-notifications-consumer"

    def do_POST(self) -> None:
        """Take notifications; the order is: authenticate, read, commit, answer."""
        if not self._is_known():
            return
        signed = self.endpoint.signatures.expected(self.headers)
        if not (signed or self._is_authentic()):
            # The body stays unread: nobody gets us to hold megabytes without the token.
            self._turn_away("the credentials are missing or wrong")
            return
        try:
            self._check_form()
            body = self.read_body(
                min(self.endpoint.max_body, self.endpoint.max_signed_body) if signed else self.endpoint.max_body
            )
            if signed and (reason := self.endpoint.signatures.why_not(self.headers, body, time.time())):
                self._turn_away(reason)
                return
            self._events = self._read_events(body)
        except HTTPError as error:
            log.warning("refused a notification: %s", error.reason)
            self.send_error(error.status, error.reason)
            return
        self.deferred = True

    def _turn_away(self, reason: str) -> None:
        self.endpoint.strangers.note(self.address_string())
        self.reply_problem(HTTPStatus.UNAUTHORIZED, reason, WWW_Authenticate=_CHALLENGES)

    @classmethod
    def answer_together(cls, handlers: Sequence[Self]) -> None:
        """Commit notifications, and answer that they are."""
        try:
            events = [(event, handler) for handler in handlers for event in handler._events]
            traceparents = [handler.headers.get(TRACE_HEADER, "") for _, handler in events]
            receipts = iter(cls.endpoint.accept([event for event, _ in events], traceparents) if events else ())
        except StateError as error:
            log.critical("could not take %d notifications: %s", len(handlers), error)
            for handler in handlers:
                with handler.guarded():
                    problem = "the notification could not be written to disk"
                    handler.reply_problem(HTTPStatus.INTERNAL_SERVER_ERROR, problem)
            return
        for handler in handlers:
            its_own = list(itertools.islice(receipts, len(handler._events)))
            with handler.guarded():
                handler._answer_receipts(its_own)

    def _check_form(self) -> None:
        self._mode = self._find_mode()
        if "Content-Length" not in self.headers and "Transfer-Encoding" not in self.headers:
            reason = "the request must carry a Content-Length, or come in chunks"
            raise HTTPError(HTTPStatus.LENGTH_REQUIRED, reason)
        if not self.endpoint.strict:
            return
        if self.endpoint.retired:
            raise HTTPError(HTTPStatus.GONE, "the consumer has been stopped")
        if seconds := self.endpoint.rate.take():
            raise HTTPError(HTTPStatus.TOO_MANY_REQUESTS, f"send it again in {seconds} seconds")
        media_type = MediaType.parse(self.headers.get("Content-Type", "")).name
        if self._mode is Mode.STRUCTURED and media_type not in (*_MEDIA_TYPES, "application/cloudevents"):
            reason = f"the Content-Type must be {' or '.join(_MEDIA_TYPES)}, or the attributes in header fields"
            raise HTTPError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, reason)

    def _find_mode(self) -> Mode:
        try:
            return mode_of(self.headers.get("Content-Type", ""), self.headers)
        except UnknownFormat as error:
            raise HTTPError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, str(error)) from error

    def _read_events(self, body: bytes) -> Sequence[bytes]:
        """The events in a body, of which in a batch none may be refused later."""
        in_batch = self._mode is Mode.BATCH
        try:
            content_type = self.headers.get("Content-Type", "")
            events = read_events(self._mode, content_type, self.headers, body, self.endpoint.max_events)
            for number, event in enumerate(events if in_batch and self.endpoint.strict else (), 1):
                if problems := problems_of(Notification.parse(event, max_depth=self.endpoint.max_depth).event):
                    reason = f"element {number} of the batch is no valid CloudEvent: {'; '.join(problems)}"
                    raise HTTPError(HTTPStatus.BAD_REQUEST, reason)
        except UnknownFormat as error:
            raise HTTPError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, str(error)) from error
        except NotificationError as error:
            raise HTTPError(HTTPStatus.BAD_REQUEST, str(error)) from error
        return events

    def _answer_receipts(self, receipts: Sequence[Receipt]) -> None:
        # Who has the token in the address is to be told that no cache may keep what is answered.
        private = {"Cache_Control": "private"} if "?" in self.path else {}
        if self._mode is Mode.BATCH:
            document = f'{{"notifications": [{", ".join(map(_document, receipts))}]}}'
        else:
            (receipt,) = receipts
            if receipt.verdict is Verdict.UNREADABLE or (self.endpoint.strict and receipt.verdict is Verdict.MALFORMED):
                self.reply_problem(HTTPStatus.BAD_REQUEST, receipt.reason)
                return
            document = _document(receipt)
        self.reply(HTTPStatus.ACCEPTED, document.encode("ascii"), "application/json", **private)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """See `Handler.send_error`; who is too fast is told when to come again."""
        if code == HTTPStatus.TOO_MANY_REQUESTS:
            self.close_connection = True
            again = str(self.endpoint.rate.wait())
            self.reply_problem(HTTPStatus.TOO_MANY_REQUESTS, message or "", Retry_After=again)
        else:
            super().send_error(code, message, explain)

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
        """Say what can be done here, and to senders of webhooks whether they may."""
        if not self._is_known():
            return
        granted: dict[str, str] = {}
        if self.endpoint.strict and self._path() == RECEIVE and not self.endpoint.retired:
            granted = handshake(self.headers, self.endpoint.origins, self.endpoint.rate.limit)
        self.reply(HTTPStatus.NO_CONTENT, b"", "", Allow=", ".join(_METHODS[self._path()]), **granted)

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
        if not scheme and self.endpoint.strict:
            scheme, credentials = "bearer", token_in(self.path)
        given, expected = credentials.strip().encode(), self.endpoint.token.encode()
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True)
            except binascii.Error:
                given = b""
            expected = f"{BASIC_USER}:{self.endpoint.token}".encode()
        # In a time that does not tell how much of it is right.
        return hmac.compare_digest(given, expected) and scheme.lower() in ("bearer", "basic")
