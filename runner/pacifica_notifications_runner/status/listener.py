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

from pacifica_notifications_consumer.endpoint import METRICS_TYPE
from pacifica_notifications_consumer.endpoint.strangers import Strangers
from pacifica_notifications_consumer.errors import StateError
from pacifica_notifications_consumer.http.errors import HTTPError
from pacifica_notifications_consumer.http.server import Handler, Server, serve
from pacifica_notifications_runner.status.api.api import Api
from pacifica_notifications_runner.status.api.request import Answer, read_document
from pacifica_notifications_runner.status.entrance import AccessControl
from pacifica_notifications_runner.status.pages import site as pages
from pacifica_notifications_runner.status.pages.pages import Pages, Reply

log = logging.getLogger(__name__)

_MOST_BODY = 1 << 20
ASSETS = {"/style.css": "text/css; charset=utf-8", "/script.js": "text/javascript; charset=utf-8"}
#: Nothing of a page may come from elsewhere, nor be shown within another one.
PROTECTION = {
    "Content_Security_Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X_Content_Type_Options": "nosniff",
    "Referrer_Policy": "no-referrer",
    "Cross_Origin_Opener_Policy": "same-origin",
    "Cross_Origin_Resource_Policy": "same-origin",
    "Cache_Control": "no-store",
}


@contextlib.contextmanager
def showing(
    api: Api,
    token: str,
    address: str,
    port: int,
    tls: ssl.SSLContext | None = None,
    metrics: Callable[[], str] = str,
) -> Iterator[Server]:
    """Serve the status page and the API until the context ends.

    Args:
        api: Answers what is asked.
        token: What lets in.
        address: The address to listen on.
        port: The port to listen on; 0 picks a free one.
        tls: What to secure the connections with; None for plain HTTP.
        metrics: Counts what the consumer has done, in Prometheus' text format.

    Raises:
        EndpointError: The address or the port cannot be had.
    """
    state = {"api": api, "metrics": staticmethod(metrics), "strangers": Strangers("the status page")}
    handler: type[_StatusHandler] = type("StatusHandler", (_StatusHandler,), state)
    with serve(handler, address, port, tls) as server:
        handler.entrance = AccessControl(token, server.server_port, tls is not None)
        try:
            yield server
        finally:
            api.closing.set()


class _StatusHandler(Handler):
    api: Api
    entrance: AccessControl
    strangers: Strangers
    metrics: Callable[[], str]

    def version_string(self) -> str:
        """Tell strangers no versions."""
        return "pacifica-notifications-consumer"

    def do_GET(self) -> None:
        """Answer any request."""
        path, _, query = self.path.partition("?")
        self._path, self._query = unquote(path), dict(parse_qsl(query, keep_blank_values=True))
        try:
            if self._path in ASSETS and self.command in ("GET", "HEAD"):
                content = files(__package__).joinpath(self._path[1:]).read_bytes()
                self._reply(HTTPStatus.OK, content, ASSETS[self._path])
            elif self._path.startswith("/api/") or self._path == "/metrics":
                self._answer_program()
            else:
                self._answer_person()
        except StateError as error:
            log.critical("%s", error)
            if self.streaming:
                # Part of the answer has gone; only the missing end can tell the client now.
                self.close_connection = True
                return
            self._problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the ledger cannot be used; the log says why")

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET

    def _answer_program(self) -> None:
        bearer = self.entrance.is_bearer(self.headers)
        # What a browser sends by itself must not be able to do anything, only to look.
        if not bearer and not (self.command in ("GET", "HEAD") and self.entrance.is_known(self.headers)):
            if "Authorization" in self.headers:
                self.strangers.note(self.address_string())
            detail = "show the token of the status page: Authorization: Bearer TOKEN"
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
        headers = {name.replace("-", "_"): value for name, value in answer.headers.items()}
        if answer.pieces is None:
            self._reply(answer.status, json.dumps(answer.document).encode("ascii"), answer.content_type, **headers)
        elif self.command == "HEAD":
            self._reply(answer.status, b"", answer.content_type, **headers)
        else:
            protected = {name.replace("_", "-"): value for name, value in PROTECTION.items()}
            with self.stream({"Content-Type": answer.content_type, **answer.headers, **protected}) as out:
                for piece in answer.pieces:
                    out.write(piece)

    def _answer_person(self) -> None:
        try:
            if self._enters():
                return
            reply = self._reply_to_person()
        except HTTPError as error:
            page = pages.Site(name=self.api.book.name, csrf=self.entrance.csrf)
            reply = Reply(status=error.status, page=page.problem(error.status.phrase, error.reason))
        self._show(reply)

    def _reply_to_person(self) -> Reply:
        site = Pages(self.api, self.entrance.csrf)
        if self.command in ("GET", "HEAD"):
            return site.show(self._path, self._query)
        if self.command != "POST":
            raise HTTPError(HTTPStatus.METHOD_NOT_ALLOWED, "a page can be looked at, and its forms be sent")
        form = self._form()
        if not self.entrance.is_ours(self.headers, form):
            raise HTTPError(HTTPStatus.FORBIDDEN, "this form is not one of this page; go back, and load it anew")
        return self._leave() if self._path == "/logout" else site.do(self._path, form)

    def _form(self) -> dict[str, str]:
        return dict(parse_qsl(self.read_body(_MOST_BODY).decode("utf-8", "replace"), keep_blank_values=True))

    def _enters(self) -> bool:
        """Let people in who show the token, or turn them away; False for those who are in already."""
        # A link with the token opens a page, and is not to stay in the address line.
        token = self._query.pop("token", "") if self.command == "GET" else ""
        if self._path == "/login" and self.command == "POST":
            token = self._form().get("token", "").strip()
        if token and self.entrance.is_token(token):
            # As a path of ours, since `//elsewhere` would lead elsewhere, and to browsers so would `/\\elsewhere`.
            place = "/" if self._path in ("/login", "") else "/" + self.path.partition("?")[0].lstrip("/\\")
            place += f"?{urlencode(self._query)}" if self._query else ""
            self._reply(HTTPStatus.SEE_OTHER, Location=place, Set_Cookie=self.entrance.cookie)
            return True
        if self.entrance.is_known(self.headers) and self._path != "/login":
            return False
        if token:
            self.strangers.note(self.address_string())
        page = pages.login(self.api.book.name, refused=bool(token))
        self._reply(HTTPStatus.UNAUTHORIZED, page.encode(), "text/html; charset=utf-8")
        return True

    def _leave(self) -> Reply:
        return Reply(status=HTTPStatus.SEE_OTHER, place="/login", headers={"Set_Cookie": self.entrance.no_cookie})

    def _show(self, reply: Reply) -> None:
        headers = dict(reply.headers)
        if reply.place:
            headers["Location"] = reply.place
        self._reply(reply.status, reply.page.encode("utf-8", "replace"), "text/html; charset=utf-8", **headers)

    def _reply(self, status: HTTPStatus, content: bytes = b"", content_type: str = "", **headers: str) -> None:
        self.reply(status, content, content_type, **PROTECTION, **headers)

    def _problem(self, status: HTTPStatus, detail: str, **headers: str) -> None:
        self.reply_problem(status, detail, **PROTECTION, **headers)
