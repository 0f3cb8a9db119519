"""Which page shows what, and what its forms do; all of it with the methods of the API."""

from __future__ import annotations

import contextlib
import enum
import json
from collections.abc import Mapping
from http import HTTPStatus

import attrs

from pacifica_notifications_consumer.http.errors import HTTPError
from pacifica_notifications_consumer.jobs.job import JobState, Verdict
from pacifica_notifications_runner.status.api.api import Api, Before, Limit
from pacifica_notifications_runner.status.api.documents import SelectionDocument
from pacifica_notifications_runner.status.api.routes import Router
from pacifica_notifications_runner.status.pages.site import Site

#: Bytes of an output, and of a notification, that a page shows.
_MOST_SHOWN = 1 << 16
_FEW = 10
_LISTED = 100
_SELECTING = ("since", "until", "match", "states")

_ROUTER = Router()


class Action(enum.Enum):
    """What a form does about a job."""

    RETRY = "retry"
    CANCEL = "cancel"


@attrs.frozen(kw_only=True)
class Reply:
    """The answer to a browser.

    Args:
        page: The page, if there is one.
        status: The status.
        place: The path to go to instead; empty to show the page.
        headers: Further header fields, with ``_`` for ``-``.
    """

    page: str = ""
    status: HTTPStatus = HTTPStatus.OK
    place: str = ""
    headers: Mapping[str, str] = attrs.field(factory=dict)


class Pages:
    """Shows the pages, and does what their forms ask for.

    Args:
        api: The API, whose methods it calls.
        csrf: The token that forms carry against cross-site requests.
    """

    def __init__(self, api: Api, csrf: str) -> None:
        self._api = api
        self._site = Site(name=api.book.name, csrf=csrf)

    def answer(self, method: str, path: str, query: Mapping[str, str], form: Mapping[str, str] | None = None) -> Reply:
        """Show a page, or do what a form asks for.

        Raises:
            HTTPError: There is no such page, or its form cannot be done.
        """
        answer = _ROUTER.dispatch(self, method, path, query, form, unknown=f"there is no page {path}")
        return answer if isinstance(answer, Reply) else Reply(page=answer)

    @_ROUTER.get("/")
    def overview(self) -> str:
        """The state of the consumer."""
        jobs = [self._api.jobs(_FEW, state=state)["jobs"] for state in (JobState.RUNNING, JobState.DEAD, None)]
        return self._site.overview(self._api.status(), *jobs)

    @_ROUTER.get("/jobs")
    def jobs(self, limit: Limit = _LISTED, before: Before = None, state: JobState | None = None) -> str:
        """The newest jobs."""
        return self._site.jobs(self._api.jobs(limit, before, state), state)

    @_ROUTER.get("/jobs/{id}")
    def job(self, id: int) -> str:
        """A job."""
        job = self._api.job(id)
        log = self._api.log(id, offset=-_MOST_SHOWN)
        shown = b"".join(log.pieces or ()).decode("utf-8", "replace")
        return self._site.job(job, self._api.files(id), shown, left_out=log.headers["Log-Offset"] != "0")

    @_ROUTER.get("/jobs/{id}/{action}")
    def confirm(self, id: int, action: Action) -> str:
        """The question whether something is to be done about a job."""
        return self._site.confirm(self._api.job(id), action.value)

    @_ROUTER.post("/jobs/{id}/{action}")
    def act(self, id: int, action: Action) -> Reply:
        """Do something about a job."""
        if action is Action.RETRY:
            self._api.retry(id)
        else:
            self._api.cancel(id, {})
        return Reply(status=HTTPStatus.SEE_OTHER, place=f"/jobs/{id}")

    @_ROUTER.get("/notifications")
    def notifications(self, limit: Limit = _LISTED, before: Before = None, verdict: Verdict | None = None) -> str:
        """The newest notifications."""
        return self._site.notifications(self._api.notifications(limit, before, verdict), verdict)

    @_ROUTER.get("/notifications/{id}")
    def notification(self, id: int) -> str:
        """A notification."""
        record = self._api.notification(id)
        body = _readable(b"".join(self._api.body(id).pieces or ())) if record["kept"] else None
        return self._site.notification(record, body)

    @_ROUTER.get("/replay")
    def select(self) -> str:
        """The form that selects jobs to replay."""
        return self._site.replay({})

    @_ROUTER.post("/replay")
    def replay(self, document: Mapping[str, str]) -> Reply:
        """Preview which jobs would be replayed, or, once that is confirmed, replay them."""
        given = {name: document.get(name, "").strip() for name in _SELECTING}
        confirmed = document.get("confirmed") == "yes"
        selection: SelectionDocument = {
            "since": given["since"],
            "until": given["until"],
            "match": given["match"],
            "states": [given["states"]] if given["states"] else [],
            "dry_run": not confirmed,
        }
        try:
            found = self._api.replay(selection)
        except HTTPError as error:
            return Reply(status=error.status, page=self._site.replay(given, error.reason))
        if confirmed:
            return Reply(status=HTTPStatus.SEE_OTHER, place="/jobs")
        return Reply(page=self._site.confirm_replay(given, found))


def _readable(body: bytes) -> str:
    """A notification in lines, as far as it is shown."""
    text = body.decode("utf-8", "replace")
    if len(body) <= _MOST_SHOWN:
        with contextlib.suppress(ValueError, RecursionError):
            text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}\n… download it to see the rest"
