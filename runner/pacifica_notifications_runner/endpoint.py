"""The web endpoint: takes notifications from the producer, and tells whether the consumer is well."""

from __future__ import annotations

import contextlib
import hmac
import logging
from collections.abc import Callable, Iterator
from http import HTTPStatus

import attrs

from pacifica_notifications_consumer.errors import NotificationError, StateError
from pacifica_notifications_consumer.job import Receipt
from pacifica_notifications_consumer.serving import BadRequest, Handler, Server, serve

log = logging.getLogger(__name__)

RECEIVE = "/receive"
_METHODS = {RECEIVE: ("POST",), "/healthz": ("GET", "HEAD"), "/readyz": ("GET", "HEAD")}


@attrs.define
class Endpoint:
    """What the endpoint's handlers need.

    Args:
        accept: Commits a notification to disk; the answer is sent when it returns.
        token: The bearer token that a notification must carry.
        max_body: Bytes that a notification may have.
        ready: Whether the consumer is subscribed and working.
    """

    accept: Callable[[bytes], Receipt]
    token: str = attrs.field(repr=False)
    max_body: int
    ready: bool = False


@contextlib.contextmanager
def listening(endpoint: Endpoint, address: str, port: int) -> Iterator[Server]:
    """Serve the endpoint until the context ends.

    Raises:
        EndpointError: The address or the port cannot be had.
    """
    handler = type("EndpointHandler", (_EndpointHandler,), {"endpoint": endpoint})
    with serve(handler, address, port) as server:
        log.info("listening on %s", server.url)
        yield server


class _EndpointHandler(Handler):
    endpoint: Endpoint

    def version_string(self) -> str:
        """Tell strangers no versions."""
        return "pacifica-notifications-consumer"

    def do_POST(self) -> None:
        """Take a notification; the order is: authenticate, read, commit, answer."""
        if not self._is_known():
            return
        if not self._is_authentic():
            # The body stays unread: nobody gets us to hold megabytes without the token.
            self.close_connection = True
            log.warning("turned away %s: its bearer token is missing or wrong", self.client_address[0])
            self.reply_problem(
                HTTPStatus.UNAUTHORIZED, "the bearer token is missing or wrong", WWW_Authenticate="Bearer"
            )
            return
        try:
            receipt = self.endpoint.accept(self.read_body(self.endpoint.max_body))
        except BadRequest as error:
            self.close_connection = True
            self.reply_problem(error.status, error.reason)
        except NotificationError as error:
            log.warning("refused a notification: %s", error)
            self.reply_problem(HTTPStatus.BAD_REQUEST, str(error))
        except StateError as error:
            log.critical("could not take a notification: %s", error)
            self.reply_problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the notification could not be written to disk")
        else:
            self.reply_json(
                HTTPStatus.ACCEPTED,
                {
                    "notification": receipt.notification_id,
                    "verdict": receipt.verdict.value,
                    "job": receipt.job_id,
                },
            )

    def do_GET(self) -> None:
        """Answer the questions of supervisors."""
        if not self._is_known():
            return
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            # A body that nobody reads must not be taken for the next request.
            self.close_connection = True
        if self._path() == "/readyz" and not self.endpoint.ready:
            self.reply_problem(HTTPStatus.SERVICE_UNAVAILABLE, "the consumer is starting or stopping")
        else:
            self.reply(HTTPStatus.OK, b"ok\n", "text/plain")

    do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what http.server could not make sense of."""
        self.close_connection = True
        self.reply_problem(HTTPStatus(code), explain or message or HTTPStatus(code).phrase)

    def _path(self) -> str:
        return self.path.partition("?")[0]

    def _is_known(self) -> bool:
        """Whether this resource and method exist; if not, the request has been refused."""
        methods = _METHODS.get(self._path())
        if methods and self.command in methods:
            return True
        # A body may follow, which is not read.
        self.close_connection = True
        if methods:
            self.reply_problem(HTTPStatus.METHOD_NOT_ALLOWED, f"use {methods[0]}", Allow=", ".join(methods))
        else:
            self.reply_problem(HTTPStatus.NOT_FOUND, f"there is nothing here; notifications go to {RECEIVE}")
        return False

    def _is_authentic(self) -> bool:
        scheme, _, credentials = self.headers.get("Authorization", "").partition(" ")
        right = hmac.compare_digest(credentials.strip().encode(), self.endpoint.token.encode())
        return right and scheme.lower() == "bearer"
