"""The sandbox's page: uploads files as an instrument does, and lists the transactions."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
from collections.abc import Iterator
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote

from pacifica_notifications_consumer.cloudevents.notification import Notification
from pacifica_notifications_consumer.errors import EndpointError, PacificaError
from pacifica_notifications_consumer.http.errors import HTTPError
from pacifica_notifications_consumer.http.request import split_target
from pacifica_notifications_consumer.http.server import Handler, Server, serve
from pacifica_notifications_consumer.settings.converters import counted
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.system.temporary import temporary_directory
from pacifica_notifications_consumer.testing.instrument import INSTRUMENT, PROJECT, SUBMITTER, files_in, send_files
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from pacifica_notifications_consumer.testing.sandbox.sandbox import read_site
from pacifica_notifications_runner.status.listener import ASSETS, PROTECTION
from pacifica_notifications_runner.status.pages.markup import tag
from pacifica_notifications_runner.status.pages.parts import table, text_input
from pacifica_notifications_runner.status.pages.site import document

#: The port of the page, if it is free.
PORT = 8090
_PIECE = 1 << 20
_MOST_SHOWN = 100
_MOST_BODY = 1 << 20
#: Pages of other sites cannot send this header, since the server does not allow it to them (CORS).
_OWN_HEADER = "Sandbox-Page"


@contextlib.contextmanager
def sandbox_page(sandbox: Sandbox) -> Iterator[Server]:
    """Serve the page on loopback until the context ends; on `PORT`, or on a free port if that is taken."""
    with contextlib.ExitStack() as stack:
        staging = stack.enter_context(temporary_directory("pacifica-page-"))
        handler = type("PageHandler", (_PageHandler,), {"sandbox": sandbox, "staging": staging})
        try:
            server = stack.enter_context(serve(handler, "127.0.0.1", PORT))
        except EndpointError:
            server = stack.enter_context(serve(handler, "127.0.0.1", 0))
        yield server


class _PageHandler(Handler):
    sandbox: Sandbox
    staging: Path

    def do_any(self) -> None:
        """Answer any request."""
        try:
            self._answer_page(unquote(split_target(self.path)[0]))
        except HTTPError as error:
            self.reply_problem(error.status, error.reason)
        except PacificaError as error:
            self.reply_problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))

    def _answer_page(self, path: str) -> None:
        match self.command, path:
            case (("GET" | "HEAD"), "/"):
                self._send(_page(self.sandbox).encode(), "text/html; charset=utf-8")
            case (("GET" | "HEAD"), "/sandbox.js"):
                script = files(__package__).joinpath("sandbox_page.js").read_bytes()
                self._send(script, "text/javascript; charset=utf-8")
            case (("GET" | "HEAD"), _) if path in ASSETS:
                asset = files("pacifica_notifications_runner.status").joinpath(path[1:]).read_bytes()
                self._send(asset, ASSETS[path])
            case (("GET" | "HEAD"), _) if found := re.fullmatch(r"/transactions/(\d+)/notification\.json", path):
                self._send(self.sandbox.notification(int(found[1])), "application/json")
            case "POST", "/uploads":
                self._begin()
            case "PUT", _ if found := re.fullmatch(r"/uploads/([0-9a-f]{32})/(.+)", path):
                self._take(self.staging / found[1], found[2])
            case "POST", _ if found := re.fullmatch(r"/uploads/([0-9a-f]{32})", path):
                self._finish(self.staging / found[1])
            case _:
                raise HTTPError(HTTPStatus.NOT_FOUND, f"{path} does not exist")

    def _send(self, content: bytes, content_type: str) -> None:
        self.reply(HTTPStatus.OK, content, content_type, **PROTECTION)

    def _check_own(self) -> None:
        if _OWN_HEADER not in self.headers:
            raise HTTPError(HTTPStatus.FORBIDDEN, f"the header {_OWN_HEADER} is missing")

    def _begin(self) -> None:
        """Create a directory for the files of a transaction."""
        self._check_own()
        name = secrets.token_hex(16)
        (self.staging / name).mkdir()
        self.reply_json(HTTPStatus.CREATED, {"upload": name})

    def _take(self, directory: Path, name: str) -> None:
        """Store a file."""
        self._check_own()
        parts = name.split("/")
        if not directory.is_dir() or any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise HTTPError(HTTPStatus.BAD_REQUEST, f"a file cannot be called {name!r}")
        target = directory.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            while piece := self.rfile.read(_PIECE):
                out.write(piece)
        self.reply(HTTPStatus.NO_CONTENT)

    def _finish(self, directory: Path) -> None:
        """Upload the transaction."""
        self._check_own()
        try:
            facts = json.loads(self.read_body(_MOST_BODY))
            submitter, instrument = int(facts["submitter"]), int(facts["instrument"])
            project, key_values = str(facts["project"]), dict(facts["key_values"])
        except (ValueError, LookupError, TypeError):
            raise HTTPError(HTTPStatus.BAD_REQUEST, "submitter and instrument must be numbers") from None
        services = Services.from_environment(self.sandbox.environ())
        try:
            notification = send_files(
                files_in(directory),
                services=services,
                submitter=submitter,
                project=project,
                project_field=read_site(self.sandbox.directory)["project_field"],
                instrument=instrument,
                key_values=key_values,
            )
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        self.reply_json(HTTPStatus.CREATED, {"event": notification["eventID"]})


def _page(sandbox: Sandbox) -> str:

    defaults = {"submitter": SUBMITTER, "project": PROJECT, "instrument": INSTRUMENT}
    form = tag(
        "form",
        tag("p", tag("label", "Files ", tag("input", type="file", id="files", multiple=True))),
        tag("p", tag("label", "or a folder ", tag("input", type="file", id="folder", webkitdirectory=True))),
        [text_input(name, name.capitalize(), {name: str(value)}) for name, value in defaults.items()],
        text_input("key_values", "Key-values, such as Sample=B-17, Kind=probe", {}),
        tag("button", "Upload", type="submit"),
        tag("p", id="said", role="status"),
        id="upload",
    )
    newest = reversed(sandbox.transactions()[-_MOST_SHOWN:])
    rows = [_row(number, sandbox.notification(number)) for number in newest]
    header = ("Transaction", "Project", "Instrument", "Files", "Key-values", "Notification")
    subscriptions = [
        (each["name"], each["target_url"], "switched off" if each.get("disabled") else "on")
        for each in sandbox.subscriptions()
    ]
    subscribed = table(("Name", "Address", "State"), subscriptions, "No consumer is subscribed.")
    body = tag(
        "body",
        tag("header", tag("strong", "Pacifica sandbox")),
        tag(
            "main",
            tag("h1", "Upload a transaction"),
            form,
            tag("h2", "Transactions"),
            tag("div", table(header, rows, "No transaction has been uploaded yet."), id="transactions"),
            tag("h2", "Subscriptions"),
            tag("div", subscribed, id="subscriptions"),
        ),
    )
    return document("Pacifica sandbox", body, script="/sandbox.js")


def _row(number: int, body: bytes) -> tuple[object, ...]:
    notification = Notification.parse(body)
    attributes, names = notification.attributes, [file.path for file in notification.files]
    pairs = [f"{key} = {value}" for key, value in notification.key_values.items()]
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    href = f"/transactions/{number}/notification.json"
    link = tag("a", "notification.json", href=href, download=f"notification-{number}.json")
    summary = f"{counted(len(names), 'file')}: {shown}" if names else "none"
    project = attributes.get("project", attributes.get("proposal"))
    return number, project, attributes["instrument"], summary, "; ".join(pairs), link
