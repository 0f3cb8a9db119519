"""The web endpoint: serves the rules of `pacifica_notifications_consumer.endpoint` over HTTP."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Iterator, Sequence
from typing import Self

from pacifica_notifications_consumer.endpoint import Delivery, Endpoint, HTTPRequest, HTTPResponse
from pacifica_notifications_consumer.http.limits import ServerLimits
from pacifica_notifications_consumer.http.request import Head
from pacifica_notifications_consumer.http.server import Handler, Server, serve

log = logging.getLogger(__name__)


@contextlib.contextmanager
def listening(
    endpoint: Endpoint, address: str, port: int, tls: ssl.SSLContext | None = None, limits: ServerLimits | None = None
) -> Iterator[Server]:
    """Serve an endpoint until the context ends; port 0 picks a free one, without ``tls`` it speaks plain HTTP."""
    handler = type("EndpointHandler", (_EndpointHandler,), {"endpoint": endpoint})
    with serve(handler, address, port, tls, limits) as server:
        log.info("listening on %s", server.url)
        yield server


class _EndpointHandler(Handler):
    quick = True
    endpoint: Endpoint
    _delivery: Delivery

    def version_string(self) -> str:
        """Send a name without versions, which would disclose known weaknesses."""
        return "pacifica-notifications-consumer"

    @classmethod
    def allowance(cls, head: Head) -> int | None:
        """Wait for bodies that the endpoint reads, and for no others."""
        return None if cls.endpoint.awaits_body(head.method, head.target, head.headers) else 0

    @classmethod
    def is_certain(cls, head: Head) -> bool:
        """Know senders by the token; a signature can only be verified with the whole body."""
        return cls.endpoint.has_token(head.target, head.headers)

    def do_any(self) -> None:
        """Answer a request; notifications are committed and answered by `answer_together`."""
        request = HTTPRequest(self.command, self.path, self.headers, self.rfile.read, self.address_string())
        received = self.endpoint.receive(request)
        if isinstance(received, Delivery):
            self._delivery, self.deferred = received, True
            return
        if self.command == "POST":
            # A sender or a proxy may see the end of the refused request elsewhere (RFC 9112, 11.2).
            self.close_connection = True
        self._send(received)

    @classmethod
    def answer_together(cls, handlers: Sequence[Self]) -> None:
        """Commit the notifications of several requests at once, and answer each."""
        responses = cls.endpoint.commit([handler._delivery for handler in handlers])
        for handler, response in zip(handlers, responses, strict=True):
            handler.guard(handler._send, response)

    def _send(self, response: HTTPResponse) -> None:
        self.reply(response.status, response.body, **response.headers)
