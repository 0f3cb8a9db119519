"""Which page shows what, and what its forms do; all of it through the API."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import attrs

from pacifica_notifications_consumer.http.errors import HTTPError
from pacifica_notifications_runner.status.api.api import Api
from pacifica_notifications_runner.status.pages.site import ACTIONS, Site

#: Bytes of an output, and of a notification, that a page shows.
_MOST_SHOWN = 1 << 16
_FEW = 10
_SELECTING = ("since", "until", "match", "states")


@attrs.frozen(kw_only=True)
class Reply:
    """What a person gets.

    Args:
        page: The page, if there is one.
        status: The status.
        place: Where it leads, if it leads elsewhere.
        headers: Further header fields, with ``_`` for ``-``.
    """

    page: str = ""
    status: HTTPStatus = HTTPStatus.OK
    place: str = ""
    headers: Mapping[str, str] = attrs.field(factory=dict)


class Pages:
    """Shows the pages, and does what their forms ask for.

    Args:
        api: Where it all comes from.
        csrf: What the forms carry.
    """

    def __init__(self, api: Api, csrf: str) -> None:
        self._api = api
        self._site = Site(name=api.book.name, csrf=csrf)

    def show(self, path: str, query: Mapping[str, str]) -> Reply:
        """Show a page.

        Raises:
            BadRequest: There is no such page.
        """
        if path == "/":
            lists: tuple[dict[str, str], ...] = ({"state": "running"}, {"state": "dead"}, {})
            jobs = [self._get("/api/jobs", limit=str(_FEW), **each)["jobs"] for each in lists]
            return Reply(page=self._site.overview(self._get("/api/status"), *jobs))
        if path == "/jobs":
            return Reply(page=self._site.jobs(self._get("/api/jobs", **query), query.get("state", "")))
        if path == "/notifications":
            listed = self._get("/api/notifications", **query)
            return Reply(page=self._site.notifications(listed, query.get("verdict", "")))
        if path == "/replay":
            return Reply(page=self._site.replay({}))
        if found := re.fullmatch(r"/notifications/(\d+)", path):
            return self._notification(found[1])
        if found := re.fullmatch(r"/jobs/(\d+)", path):
            return self._job(found[1])
        if found := re.fullmatch(rf"/jobs/(\d+)/({'|'.join(ACTIONS)})", path):
            return Reply(page=self._site.confirm(self._get(f"/api/jobs/{found[1]}"), found[2]))
        raise HTTPError(HTTPStatus.NOT_FOUND, f"there is no page {path}")

    def do(self, path: str, form: Mapping[str, str]) -> Reply:
        """Do what a form asks for.

        Raises:
            BadRequest: There is no such form, or it cannot be done.
        """
        if found := re.fullmatch(rf"/jobs/(\d+)/({'|'.join(ACTIONS)})", path):
            self._api.answer("POST", f"/api{path}", {})
            return Reply(status=HTTPStatus.SEE_OTHER, place=f"/jobs/{found[1]}")
        if path == "/replay":
            return self._replay(form)
        raise HTTPError(HTTPStatus.NOT_FOUND, f"there is no form {path}")

    def _replay(self, form: Mapping[str, str]) -> Reply:
        given = {name: form.get(name, "").strip() for name in _SELECTING}
        states = [given["states"]] if given["states"] else []
        confirmed = form.get("confirmed") == "yes"
        document = {**given, "states": states, "dry_run": not confirmed}
        try:
            found = self._api.answer("POST", "/api/replay", {}, document).document
        except HTTPError as error:
            return Reply(status=error.status, page=self._site.replay(given, error.reason))
        if confirmed:
            return Reply(status=HTTPStatus.SEE_OTHER, place="/jobs")
        return Reply(page=self._site.confirm_replay(given, found))

    def _job(self, number: str) -> Reply:
        job = self._get(f"/api/jobs/{number}")
        log = self._api.answer("GET", f"/api/jobs/{number}/log", {"offset": str(-_MOST_SHOWN)})
        shown = b"".join(log.pieces or ()).decode("utf-8", "replace")
        left_out = log.headers["Log-Offset"] != "0"
        return Reply(page=self._site.job(job, self._get(f"/api/jobs/{number}/files"), shown, left_out=left_out))

    def _notification(self, number: str) -> Reply:
        record = self._get(f"/api/notifications/{number}")
        body = None
        if record["kept"]:
            body = _readable(b"".join(self._api.answer("GET", f"/api/notifications/{number}/body", {}).pieces or ()))
        return Reply(page=self._site.notification(record, body))

    def _get(self, path: str, **query: str) -> Any:
        return self._api.answer("GET", path, query).document


def _readable(body: bytes) -> str:
    """A notification in lines, as far as it is shown."""
    text = body.decode("utf-8", "replace")
    if len(body) <= _MOST_SHOWN:
        with contextlib.suppress(ValueError, RecursionError):
            text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}\n… and so on; download it to see the rest"
