"""The listener of the status page and its API."""

from __future__ import annotations

import contextlib
import json
import logging
import ssl
from collections.abc import Callable, Iterator
from http import HTTPStatus
from importlib.resources import files
from urllib.parse import parse_qsl, unquote, urlencode

from pacifica_notifications_consumer.endpoint.endpoint import METRICS_TYPE
from pacifica_notifications_consumer.endpoint.strangers import Strangers
from pacifica_notifications_consumer.errors import StateError
from pacifica_notifications_consumer.http.errors import HTTPError
from pacifica_notifications_consumer.http.request import Head, split_target
from pacifica_notifications_consumer.http.server import Handler, Server, serve
from pacifica_notifications_runner.status.access import AccessControl, Session, is_own_page
from pacifica_notifications_runner.status.api.api import Api
from pacifica_notifications_runner.status.api.request import Answer, read_document
from pacifica_notifications_runner.status.pages.pages import Pages, go_to, page
from pacifica_notifications_runner.status.pages.site import Site, login

log = logging.getLogger(__name__)

_MOST_BODY = 1 << 20
#: The most bytes of a body from a client that has neither the token nor a session, such as the form with the token.
_MOST_LOGIN = 4096
ASSETS = {"/style.css": "text/css; charset=utf-8", "/script.js": "text/javascript; charset=utf-8"}
#: Pages load nothing from other sites, and cannot be embedded in their pages.
PROTECTION = {
    "Content_Security_Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X_Content_Type_Options": "nosniff",
    # With `no-referrer`, browsers send forms with an `Origin` of null.
    "Referrer_Policy": "same-origin",
    "Cross_Origin_Opener_Policy": "same-origin",
    "Cross_Origin_Resource_Policy": "same-origin",
    "Cache_Control": "no-store",
}


@contextlib.contextmanager
def showing(
    api: Api, token: str, address: str, port: int, tls: ssl.SSLContext | None = None, metrics: Callable[[], str] = str
) -> Iterator[Server]:
    """Serve the status page, the API and the metrics (in Prometheus' text format) until the context ends."""
    access = AccessControl(token, tls is not None)
    strangers = Strangers("the status page")
    state = {"api": api, "access": access, "metrics": staticmethod(metrics), "strangers": strangers}
    handler: type[_StatusHandler] = type("StatusHandler", (_StatusHandler,), state)
    with serve(handler, address, port, tls, settings=("status_address", "status_port")) as server:
        access.port = server.server_port
        try:
            yield server
        finally:
            api.closing.set()


class _StatusHandler(Handler):
    api: Api
    access: AccessControl
    strangers: Strangers
    metrics: Callable[[], str]

    def version_string(self) -> str:
        """A name without versions, which would disclose known weaknesses."""
        return "pacifica-notifications-consumer"

    @classmethod
    def allowance(cls, head: Head) -> int | None:
        """Wait for clients with the token or a session; for others, only for the form with the token."""
        return None if cls.access.knows(head.headers) else _MOST_LOGIN

    def do_any(self) -> None:
        """Answer any request."""
        path, query = split_target(self.path)
        self._path, self._query = unquote(path), dict(parse_qsl(query, keep_blank_values=True))
        try:
            if self._path in ASSETS and self.command in ("GET", "HEAD"):
                content = files(__package__).joinpath(self._path[1:]).read_bytes()
                self._reply(HTTPStatus.OK, content, ASSETS[self._path])
            elif self._path.startswith("/api/") or self._path == "/metrics":
                self._answer_program()
            else:
                self._answer_browser()
        except StateError as error:
            log.critical("%s", error)
            if self.streaming:
                # Part of the answer has been sent: a missing end tells the client that the rest failed.
                self.close_connection = True
                return
            self._problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the ledger cannot be used; see the log for the reason")

    def _answer_program(self) -> None:
        # Browsers send cookies with requests of other sites, too, so a cookie only permits reading.
        reads = self.command in ("GET", "HEAD") and self.access.session(self.headers)
        if not reads and not self.access.is_bearer(self.headers):
            if "Authorization" in self.headers:
                self.strangers.note(self.address_string())
            detail = "send the token of the status page: Authorization: Bearer TOKEN"
            self._problem(HTTPStatus.UNAUTHORIZED, detail, WWW_Authenticate='Bearer realm="status"')
            return
        if self._path == "/metrics":
            self._reply(HTTPStatus.OK, self.metrics().encode(), METRICS_TYPE)
            return
        try:
            document = read_document(self.read_body(_MOST_BODY))
            method = "GET" if self.command == "HEAD" else self.command
            answer = self.api.answer(method, self._path, self._query, document)
        except HTTPError as error:
            self._problem(error.status, error.reason)
            return
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        if answer.pieces is None or self.command == "HEAD":
            headers = {name.replace("-", "_"): value for name, value in answer.headers.items()}
            text = json.dumps(answer.document) if answer.page is None else answer.page
            content = b"" if answer.pieces else text.encode("utf-8", "replace")
            self._reply(answer.status, content, answer.content_type, **headers)
        else:
            protected = {name.replace("_", "-"): value for name, value in PROTECTION.items()}
            with self.stream({"Content-Type": answer.content_type, **answer.headers, **protected}) as out:
                for piece in answer.pieces:
                    if not self.access.knows(self.headers):
                        # The session has ended meanwhile: a missing end tells the client that the rest is refused.
                        raise ConnectionAbortedError
                    out.write(piece)

    def _answer_browser(self) -> None:
        session = self.access.session(self.headers) if self._path != "/login" else None
        try:
            answer = self._signed_in(session) or self._page(session)
        except HTTPError as error:
            name, title, reason = self.api.book.name, error.status.phrase, error.reason
            text = Site(name=name, csrf=session.csrf).problem(title, reason) if session else login(name, reason)
            answer = page(text, error.status)
        self._send(answer)

    def _page(self, session: Session | None) -> Answer:
        if session is None:
            return page(login(self.api.book.name), HTTPStatus.UNAUTHORIZED)
        pages = Pages(self.api, session.csrf)
        if self.command != "POST":
            return pages.answer("GET" if self.command == "HEAD" else self.command, self._path, self._query)
        form = self._form(_MOST_BODY)
        if not session.has_made(form):
            raise HTTPError(HTTPStatus.FORBIDDEN, "this form is not from this page; go back and reload it")
        if self._path == "/logout":
            return go_to("/login", **{"Set-Cookie": self.access.sign_out(self.headers)})
        return pages.answer("POST", self._path, {}, {name: form[name] for name in form if name != "csrf"})

    def _form(self, limit: int) -> dict[str, str]:
        if not is_own_page(self.headers):
            reason = "this form is not from a page of this address; a proxy in between must not change Host"
            raise HTTPError(HTTPStatus.FORBIDDEN, reason)
        return dict(parse_qsl(self.read_body(limit).decode("utf-8", "replace"), keep_blank_values=True))

    def _signed_in(self, session: Session | None) -> Answer | None:
        """Begin a session for a request with the token; None if it has none, or a wrong one beside a session."""
        # The token of a link must not stay in the address bar: answered with a redirect.
        token = self._query.pop("token", "") if self.command == "GET" else ""
        if self._path == "/login" and self.command == "POST":
            if "Content-Length" not in self.headers or "Expect" in self.headers:
                # The server does not wait for such a body, since the client may be any.
                raise HTTPError(HTTPStatus.LENGTH_REQUIRED, "the form must carry a Content-Length, and no Expect")
            token = self._form(_MOST_LOGIN).get("token", "").strip()
        if not self.access.is_token(token):
            if session or not token:
                return None
            self.strangers.note(self.address_string())
            raise HTTPError(HTTPStatus.UNAUTHORIZED, "the token is wrong")
        # `//host` and, in browsers, `/\\host` would lead to another site.
        path = "/" if self._path in ("/login", "") else "/" + split_target(self.path)[0].lstrip("/\\")
        path += f"?{urlencode(self._query)}" if self._query else ""
        # A link that is opened again must not end the session of the browser's other tabs.
        return go_to(path, **({} if session else {"Set-Cookie": self.access.sign_in(self.headers)}))

    def _reply(self, status: HTTPStatus, content: bytes = b"", content_type: str = "", **headers: str) -> None:
        self.reply(status, content, content_type, **PROTECTION, **headers)

    def _problem(self, status: HTTPStatus, detail: str, **headers: str) -> None:
        self.reply_problem(status, detail, **PROTECTION, **headers)
