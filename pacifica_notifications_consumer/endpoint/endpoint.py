"""The rules of receiving notifications, without a wire: authenticate, read, commit, answer.

A server or a web framework makes an `HTTPRequest` of each request, calls `Endpoint.answer`, and sends what is in the
`HTTPResponse`. A server that has several requests at hand calls `Endpoint.receive` for each and `Endpoint.commit` once
for all of them, so that their notifications share a commit.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from urllib.parse import unquote

import attrs

from ..clients.producer import BASIC_USER
from ..cloudevents.modes import MediaType, Mode, mode_of, read_events
from ..cloudevents.notification import MAX_DEPTH, Notification
from ..cloudevents.trace import TRACE_HEADER
from ..cloudevents.validation import problems_of
from ..errors import NotificationError, StateError, UnknownFormat
from ..http.errors import PROBLEM_TYPE, HTTPError, problem_document
from ..http.request import OWS, Headers, split_target
from ..jobs.job import Receipt, Verdict
from ..settings.converters import checked, count, header_text, size
from .messages import HTTPRequest, HTTPResponse
from .strangers import WRONG, Strangers
from .webhooks import Rate, Signatures, handshake, token_in

log = logging.getLogger(__name__)

#: The path that takes notifications.
RECEIVE = "/receive"
#: The media type of Prometheus' text format.
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Default limit of a body, in bytes.
MAX_BODY = 256 << 20
#: Default limit of a body whose sender only signs it, in bytes.
MAX_SIGNED_BODY = 1 << 20
#: Default limit of the events in a batch.
MAX_EVENTS = 1000

_READ = ("GET", "HEAD", "OPTIONS")
_METHODS = {RECEIVE: ("POST", "OPTIONS"), "/healthz": _READ, "/readyz": _READ, "/metrics": _READ}
#: The media types that a strict endpoint takes, unless the attributes are in header fields.
_MEDIA_TYPES = ("application/json", "application/cloudevents+json", "application/cloudevents-batch+json")
#: The header fields of a receipt.
_ACCEPTED = {"Content-Type": "application/json"}
#: RFC 6750, 2.3: the response to a request with a token in its address must not be cached.
_PRIVATE = {**_ACCEPTED, "Cache-Control": "private"}
_CHALLENGES = 'Bearer realm="pacifica", Basic realm="pacifica"'


@attrs.define
class Delivery:
    """The notifications of a request, on the way from `Endpoint.receive` to `Endpoint.commit`.

    Args:
        events: The notifications, each as its JSON.
        in_batch: Whether they came as a batch.
        traceparent: The trace that the request names; empty if there is none.
        headers: The header fields of the receipt.
    """

    events: Sequence[bytes]
    in_batch: bool
    traceparent: str
    headers: Mapping[str, str]


@attrs.define
class Endpoint:
    """Answers the requests of a producer and of other senders of notifications.

    Requests may be answered on several threads at the same time.

    Args:
        accept: Takes notifications, and for each the ``traceparent`` of its request or an empty text; commits them to
            disk, and returns their receipts. The responses are made when it returns.
        token: The secret that each request must send, as a bearer token or as the password of `BASIC_USER`.
        max_body: The maximum size of a body in bytes.
        strict: Whether to refuse JSON that is not a CloudEvent or is not labelled as one, and to support the handshake
            of webhooks. Otherwise such bodies are accepted and set aside, because Pacifica's producer disables a
            subscription at the first refusal.
        max_events: The maximum number of events in a batch.
        max_depth: The maximum nesting of an event in a batch, if strict; otherwise ``accept`` checks it.
        signatures: Verify senders that sign their requests instead of sending the token; their events must have a
            ``source`` and an ``id``, and may not be in binary mode.
        max_signed_body: The maximum size in bytes of a body that is signed but comes without the token.
        origins: The senders that the handshake permits; ``*`` for any.
        rate: The maximum number of requests per minute, if strict.
        retired: Whether the endpoint answers 410 Gone, if strict.
        ready: Whether the consumer is subscribed and working.
        trouble: Returns the current problem with the subscription or the workers; empty if there is none.
        metrics: Makes the consumer's metrics in Prometheus' text format.
    """

    accept: Callable[[Sequence[bytes], Sequence[str]], Sequence[Receipt]]
    token: str = attrs.field(repr=False, validator=checked(header_text, show=False))
    max_body: int = attrs.field(default=MAX_BODY, validator=checked(size))
    strict: bool = False
    max_events: int = attrs.field(default=MAX_EVENTS, validator=checked(count))
    max_depth: int = attrs.field(default=MAX_DEPTH, validator=checked(count))
    signatures: Signatures = attrs.field(factory=Signatures)
    max_signed_body: int = attrs.field(default=MAX_SIGNED_BODY, validator=checked(size))
    origins: Sequence[str] = ("*",)
    rate: Rate = attrs.field(factory=lambda: Rate(None))
    retired: bool = False
    ready: bool = False
    trouble: Callable[[], str] = str
    metrics: Callable[[], str] = str
    strangers: Strangers = attrs.field(factory=lambda: Strangers("the endpoint"), init=False)

    def retire(self) -> None:
        """Answer 410 from now on, if strict."""
        self.retired = True

    def awaits_body(self, method: str, target: str, headers: Headers) -> bool:
        """Whether `receive` reads the body of a request: it has the token, or a signature to be verified.

        A server that gathers bodies itself asks this before, so that no other client can fill its memory.
        """
        path, query = split_target(target)
        if method != "POST" or unquote(path) != RECEIVE:
            return False
        return self._is_authentic(headers, query) or not self._refusal(headers)

    def has_token(self, target: str, headers: Headers) -> bool:
        """Whether a request has the token, so that its sender is known before its body is read."""
        return self._is_authentic(headers, split_target(target)[1])

    def answer(self, request: HTTPRequest) -> HTTPResponse:
        """Answer a request; a response of 202 says that its notifications are on the disk."""
        received = self.receive(request)
        return received if isinstance(received, HTTPResponse) else self.commit([received])[0]

    def receive(self, request: HTTPRequest) -> Delivery | HTTPResponse:
        """Answer a request unless it delivers notifications: authenticate and read those.

        Returns:
            The response, or a `Delivery`, which `commit` turns into a response.
        """
        path, query = split_target(request.target)
        path = unquote(path)
        methods = _METHODS.get(path, ())
        if request.method not in methods:
            return _unknown_resource(methods)
        if request.method == "OPTIONS":
            return self._tell_options(path, request.headers)
        if path != RECEIVE:
            return self._tell_health(path)
        try:
            return self._receive(request, query)
        except UnknownFormat as error:
            return self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, str(error))
        except NotificationError as error:
            return self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except HTTPError as error:
            return self._refuse(error.status, error.reason)

    def commit(self, deliveries: Sequence[Delivery]) -> list[HTTPResponse]:
        """Commit notifications to disk, all at once.

        Returns:
            The responses, one for each delivery, in the same order.
        """
        events = [event for delivery in deliveries for event in delivery.events]
        traceparents = [delivery.traceparent for delivery in deliveries for _ in delivery.events]
        try:
            receipts = iter(self.accept(events, traceparents) if events else ())
        except StateError as error:
            log.critical("could not take %d notifications: %s", len(deliveries), error)
            # The log says more; the response must not reveal details of the disk.
            reason = "the notification could not be written to disk"
            return [_problem(HTTPStatus.INTERNAL_SERVER_ERROR, reason) for _ in deliveries]
        return [self._acknowledge(each, list(itertools.islice(receipts, len(each.events)))) for each in deliveries]

    def _tell_options(self, path: str, headers: Headers) -> HTTPResponse:
        granted: Mapping[str, str] = {}
        if self.strict and path == RECEIVE and not self.retired:
            granted = handshake(headers, self.origins, self.rate.limit)
        return HTTPResponse(HTTPStatus.NO_CONTENT, headers={"Allow": ", ".join(_METHODS[path]), **granted})

    def _tell_health(self, path: str) -> HTTPResponse:
        if path == "/metrics":
            return HTTPResponse(HTTPStatus.OK, self.metrics().encode(), {"Content-Type": METRICS_TYPE})
        trouble = ""
        if path == "/readyz":
            trouble = self.trouble() if self.ready else "the consumer is starting or stopping"
        if trouble:
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, trouble)
        return HTTPResponse(HTTPStatus.OK, b"ok\n", {"Content-Type": "text/plain"})

    def _receive(self, request: HTTPRequest, query: str) -> Delivery | HTTPResponse:
        headers, body = request.headers, b""
        if signed := not self._is_authentic(headers, query):
            if reason := self._refusal(headers):
                # The body stays unread, so that no client can fill the memory without the token.
                return self._turn_away(request, reason)
            try:
                body = request.read_body(min(self.max_body, self.max_signed_body))
            except HTTPError as error:
                # Anyone can claim a signature, so this must not fill the log either.
                return self._turn_away(request, error.reason, error.status)
            if reason := self.signatures.why_not(headers, body):
                return self._turn_away(request, reason)
        mode = self._check_form(headers)
        if not signed:
            body = request.read_body(self.max_body)
        elif mode is Mode.BINARY:
            reason = "an event in binary mode needs the token, since its header fields are not signed"
            raise UnknownFormat(reason, "sign events in structured mode")
        events = self._read_events(mode, headers, body, signed)
        traceparent = "" if signed else headers.get(TRACE_HEADER, "")
        return Delivery(events, mode is Mode.BATCH, traceparent, _PRIVATE if query else _ACCEPTED)

    def _refusal(self, headers: Headers) -> str:
        """Why a request without the token is refused by its head; empty if its signature is to be verified."""
        return self.signatures.why_unread(headers, time.time()) if self.signatures.expected(headers) else WRONG

    def _is_authentic(self, headers: Headers, query: str) -> bool:
        scheme, _, credentials = headers.get("Authorization", "").partition(" ")
        if not scheme and self.strict:
            scheme, credentials = "bearer", token_in(query)
        given, expected = credentials.strip(OWS).encode(), self.token.encode()
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True)
            except binascii.Error:
                given = b""
            expected = f"{BASIC_USER}:{self.token}".encode()
        # The time that this takes does not tell how much of it is right.
        return hmac.compare_digest(given, expected) and scheme.lower() in ("bearer", "basic")

    def _check_form(self, headers: Headers) -> Mode:
        """Refuse a request by its header fields, or find out in which mode it carries events."""
        content_type = headers.get("Content-Type", "")
        mode = mode_of(content_type, headers)
        if "Content-Length" not in headers and "Transfer-Encoding" not in headers:
            reason = "the request must carry a Content-Length, or come in chunks"
            raise HTTPError(HTTPStatus.LENGTH_REQUIRED, reason)
        if not self.strict:
            return mode
        if self.retired:
            raise HTTPError(HTTPStatus.GONE, "the consumer has been stopped")
        if seconds := self.rate.take():
            raise HTTPError(HTTPStatus.TOO_MANY_REQUESTS, f"send it again in {seconds} seconds")
        media_type = MediaType.parse(content_type).name
        if mode is Mode.STRUCTURED and media_type not in (*_MEDIA_TYPES, "application/cloudevents"):
            reason = f"the Content-Type must be {' or '.join(_MEDIA_TYPES)}, or the attributes in header fields"
            raise HTTPError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, reason)
        return mode

    def _read_events(self, mode: Mode, headers: Headers, body: bytes, signed: bool) -> Sequence[bytes]:
        events = read_events(mode, headers.get("Content-Type", ""), headers, body, self.max_events)
        # A batch is taken whole or not at all, so none of its events may be refused later. A signed request can be
        # sent again by others, so nothing of it may be kept that would not be recognized as a duplicate.
        for number, event in enumerate(events if signed or (self.strict and mode is Mode.BATCH) else (), 1):
            which = f"element {number} of the batch" if mode is Mode.BATCH else "the notification"
            notification = Notification.parse(event, max_depth=self.max_depth)
            if self.strict and (problems := problems_of(notification.event)):
                reason = f"{which} is not a valid CloudEvent: {'; '.join(problems)}"
                raise HTTPError(HTTPStatus.BAD_REQUEST, reason)
            if signed and None in (notification.source, notification.event_id):
                raise HTTPError(HTTPStatus.BAD_REQUEST, f"{which} is signed, but has no source or no id")
        return events

    def _acknowledge(self, delivery: Delivery, receipts: Sequence[Receipt]) -> HTTPResponse:
        if delivery.in_batch:
            document = f'{{"notifications": [{", ".join(map(_document, receipts))}]}}'
        else:
            (receipt,) = receipts
            if receipt.verdict is Verdict.UNREADABLE or (self.strict and receipt.verdict is Verdict.MALFORMED):
                return _problem(HTTPStatus.BAD_REQUEST, receipt.reason)
            document = _document(receipt)
        return HTTPResponse(HTTPStatus.ACCEPTED, document.encode("ascii"), delivery.headers)

    def _turn_away(self, request: HTTPRequest, reason: str, status: int = HTTPStatus.UNAUTHORIZED) -> HTTPResponse:
        self.strangers.note(request.peer or "an unknown address", reason)
        headers = {"WWW-Authenticate": _CHALLENGES} if status == HTTPStatus.UNAUTHORIZED else {}
        return _problem(HTTPStatus(status), reason, headers)

    def _refuse(self, status: HTTPStatus, reason: str) -> HTTPResponse:
        log.warning("refused a notification: %s", reason)
        too_fast = status is HTTPStatus.TOO_MANY_REQUESTS
        return _problem(status, reason, {"Retry-After": str(self.rate.wait())} if too_fast else {})


def _unknown_resource(methods: Sequence[str]) -> HTTPResponse:
    if not methods:
        return _problem(HTTPStatus.NOT_FOUND, f"there is nothing here; notifications go to {RECEIVE}")
    return _problem(HTTPStatus.METHOD_NOT_ALLOWED, f"use {methods[0]}", {"Allow": ", ".join(methods)})


def _problem(status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> HTTPResponse:
    return HTTPResponse(status, problem_document(status, detail), {"Content-Type": PROBLEM_TYPE, **(headers or {})})


def _document(receipt: Receipt) -> str:
    job = "null" if receipt.job_id is None else receipt.job_id
    return f'{{"notification": {receipt.notification_id}, "verdict": "{receipt.verdict.value}", "job": {job}}}'
