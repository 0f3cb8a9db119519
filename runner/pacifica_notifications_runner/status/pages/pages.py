"""The pages and their forms; they get and do everything with the methods of the API."""

from __future__ import annotations

import contextlib
import enum
import json
from collections.abc import Mapping
from http import HTTPStatus

from pacifica_notifications_consumer.http.errors import HTTPError
from pacifica_notifications_consumer.jobs.job import JobState, Verdict
from pacifica_notifications_runner.process.formats import clock, count, duration, size
from pacifica_notifications_runner.status.api.api import LISTED, Api, Before, Limit
from pacifica_notifications_runner.status.api.documents import SelectionDocument
from pacifica_notifications_runner.status.api.request import Answer
from pacifica_notifications_runner.status.api.routes import Router
from pacifica_notifications_runner.status.pages import parts
from pacifica_notifications_runner.status.pages.chart import throughput
from pacifica_notifications_runner.status.pages.markup import tag
from pacifica_notifications_runner.status.pages.site import Site

#: Bytes of an output, and of a notification, that a page shows.
_MOST_SHOWN = 1 << 16
_FEW = 10
_SELECTING = ("since", "until", "match", "states")
_ROUTER = Router()


class Action(enum.Enum):
    """A form's action on a job."""

    RETRY = "retry"
    CANCEL = "cancel"

    def possible(self, state: str) -> bool:
        """Whether a job in a state can be retried, or cancelled."""
        return state in ("queued", "running", "failed") if self is Action.CANCEL else state not in ("queued", "running")


_BUTTONS = {Action.RETRY: "Run again", Action.CANCEL: "Cancel"}
_EFFECTS = {
    Action.RETRY: "The job is queued again, as if it had never run. Its directory stays as it is, with all files that "
    "the entry-point left there.",
    Action.CANCEL: "The job will not be run any more. If it is running, its processes are ended.",
}


def page(text: str, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """An answer with a page."""
    return Answer(page=text, status=status, content_type="text/html; charset=utf-8")


def go_to(place: str, **headers: str) -> Answer:
    """An answer that leads a browser to another path of this site."""
    return Answer(
        page="", status=HTTPStatus.SEE_OTHER, content_type="text/html", headers={"Location": place, **headers}
    )


class Pages:
    """Shows the pages, and does what their forms ask for; ``csrf`` is their token against cross-site requests."""

    def __init__(self, api: Api, csrf: str) -> None:
        self._api = api
        self._site = Site(name=api.book.name, csrf=csrf)

    def answer(self, method: str, path: str, query: Mapping[str, str], form: Mapping[str, str] | None = None) -> Answer:
        """Show a page, or do what a form asks for."""
        answer = _ROUTER.dispatch(self, method, path, query, form, unknown=f"there is no page {path}")
        return answer if isinstance(answer, Answer) else page(answer)

    @_ROUTER.route("GET", "/")
    def overview(self) -> str:
        """The state of the consumer."""
        status = self._api.status()
        running, dead, newest = (
            self._api.jobs(_FEW, state=state)["jobs"] for state in (JobState.RUNNING, JobState.DEAD, None)
        )
        jobs = status["jobs"]
        waiting, waited = jobs["queued"] + jobs["failed"], status["waiting_seconds"]
        age = f"; the next one has been due for {duration(waited)}" if waiting and waited else ""
        live, jobs_table = parts.live_part, parts.jobs_table
        counts = [tag("li", tag("b", f"{number:,}"), " ", parts.state_link(state)) for state, number in jobs.items()]
        return self._site.page(
            "Overview",
            live("health", parts.health(status), parts.engine(status)),
            live(
                "counts",
                tag("h2", "Queue"),
                tag("ul", counts, class_="counts"),
                tag("p", f"{count(waiting, 'job')} waiting{age}."),
                throughput(status["ended_by_minute"]),
            ),
            live("running", tag("h2", "Running"), jobs_table(running, "No job is running.")),
            live("dead", tag("h2", "Dead"), jobs_table(dead, "No job is dead.", more="/jobs?state=dead")),
            live("ended", tag("h2", "Newest"), jobs_table(newest, "There are no jobs yet.", more="/jobs")),
            live("counted", tag("h2", "Notifications"), parts.counted(status)),
            tag("h2", "Subscription"),
            live("incidents", parts.incident_table(status["incidents"])),
            tag("p", f"Version {status['version']}; state directory ", tag("code", status["state_dir"]), "."),
            live=True,
        )

    @_ROUTER.route("GET", "/jobs")
    def jobs(self, limit: Limit = LISTED, before: Before = None, state: JobState | None = None) -> str:
        """The newest jobs."""
        listed = self._api.jobs(limit, before, state)
        rows = parts.jobs_table(listed["jobs"], "There are no such jobs.")
        return self._site.narrowed_list("/jobs", rows, listed["next"], "state", JobState, state)

    @_ROUTER.route("GET", "/jobs/{id}")
    def job(self, id: int) -> str:
        """A job."""
        job, files = self._api.job(id), self._api.files(id)
        log = self._api.log(id, offset=-_MOST_SHOWN)
        shown = b"".join(log.pieces or ()).decode("utf-8", "replace")
        earlier = log.headers["Log-Offset"] != "0"
        actions = [
            tag("a", _BUTTONS[action], href=f"/jobs/{id}/{action.value}", class_="button")
            for action in Action
            if action.possible(job["state"])
        ]
        facts = parts.job_list(job), parts.progress_bars(job["progress"])
        followed = None if JobState(job["state"]).final else id
        rows = [tag("li", parts.file_link(id, file["path"]), f" {size(file['size'])}") for file in files["files"]]
        return self._site.page(
            f"Job {id}",
            parts.live_part("facts", *facts, tag("p", actions, class_="actions")),
            tag("h2", "Output"),
            earlier and tag("p", "Earlier output is in ", parts.file_link(id, "output.log"), "."),
            tag("pre", shown, id="log", tabindex=0, role="log", aria_label="Output", data_log=followed),
            tag("h2", "Files"),
            parts.live_part(
                "files",
                tag("p", "In ", tag("code", files["directory"]), ":") if rows else tag("p", "There are no files."),
                tag("ul", rows),
                files["more"] and tag("p", "There are more files, which are not listed here."),
            ),
            live=True,
        )

    @_ROUTER.route("GET", "/jobs/{id}/{action}")
    def confirm(self, id: int, action: Action) -> str:
        """The question whether an action on a job is meant."""
        what = f"{_BUTTONS[action]}: job {id}"
        return self._site.page(
            f"{what}?",
            parts.job_list(self._api.job(id)),
            tag("p", _EFFECTS[action]),
            self._site.form(f"/jobs/{id}/{action.value}", tag("button", what, type="submit")),
            tag("p", tag("a", "No, back to the job", href=f"/jobs/{id}")),
        )

    @_ROUTER.route("POST", "/jobs/{id}/{action}")
    def act(self, id: int, action: Action) -> Answer:
        """Do something about a job."""
        if action is Action.RETRY:
            self._api.retry(id)
        else:
            self._api.cancel(id, {})
        return go_to(f"/jobs/{id}")

    @_ROUTER.route("GET", "/notifications")
    def notifications(self, limit: Limit = LISTED, before: Before = None, verdict: Verdict | None = None) -> str:
        """The newest notifications."""
        listed = self._api.notifications(limit, before, verdict)
        rows = [
            (
                tag("a", each["id"], href=f"/notifications/{each['id']}"),
                each["title"],
                clock(each["received_at"]),
                *(each["verdict"], each["origin"], each["reason"]),
            )
            for each in listed["notifications"]
        ]
        header = ("Number", "Event", "Received", "Verdict", "Origin", "Reason")
        listing = parts.table(header, rows, "There are no such notifications.")
        return self._site.narrowed_list("/notifications", listing, listed["next"], "verdict", Verdict, verdict)

    @_ROUTER.route("GET", "/notifications/{id}")
    def notification(self, id: int) -> str:
        """A notification."""
        record = self._api.notification(id)
        facts: dict[str, object] = {
            "event": record["event_id"],
            "source": record["source"],
            "received": clock(record["received_at"]),
            **{name: record[name] for name in ("verdict", "reason", "origin", "trace")},
            "job": record["job"] and tag("a", f"Job {record['job']}", href=f"/jobs/{record['job']}"),
        }
        shown: object = tag("p", "Its body was not kept.")
        if record["kept"]:
            body = _readable(b"".join(self._api.body(id).pieces or ()))
            download = tag("a", "Download it as it was received", href=f"/api/notifications/{id}/body")
            shown = (tag("p", download), tag("pre", body, tabindex=0))
        return self._site.page(f"Notification {id}", parts.fact_list(facts), tag("h2", "Body"), shown)

    @_ROUTER.route("GET", "/replay")
    def select(self) -> str:
        """The form that selects jobs to replay."""
        return self._selecting({})

    def _selecting(self, given: Mapping[str, str], trouble: str = "") -> str:
        states = [state.value for state in JobState if state.final or state is JobState.FAILED]
        options = [
            tag("option", value or "any", value=value, selected=given.get("states", "dead") == value)
            for value in ("", *states)
        ]
        since = "whose notifications were received at this time or later, such as 2026-11-24T18:00"
        return self._site.page(
            "Replay",
            tag("p", "Run jobs again that have ended or failed. A preview shows which ones, before anything is done."),
            trouble and tag("p", trouble, class_="trouble", role="alert"),
            self._site.form(
                "/replay",
                tag("p", tag("label", "Jobs that are ", tag("select", options, name="states"))),
                parts.text_input("since", since, given),
                parts.text_input("until", "and at this time or earlier", given),
                parts.text_input("match", "and match this JSONPath", given),
                tag("button", "Preview", type="submit"),
            ),
        )

    @_ROUTER.route("POST", "/replay")
    def replay(self, document: Mapping[str, str]) -> Answer:
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
            return page(self._selecting(given, error.reason), error.status)
        if confirmed:
            return go_to("/jobs")
        hidden = [
            tag("input", type="hidden", name=name, value=value) for name, value in {**given, "confirmed": "yes"}.items()
        ]
        links = [tag("li", tag("a", number, href=f"/jobs/{number}")) for number in found["jobs"][:100]]
        what = f"Run {count(found['count'], 'job')} again"
        form: object = self._site.form("/replay", hidden, tag("button", what, type="submit"))
        preview = self._site.page(
            f"{what}?" if links else "There are no such jobs",
            tag("ul", links, class_="choice"),
            found["count"] > len(links) and tag("p", "The other jobs are not listed here."),
            bool(links) and form,
            tag("p", tag("a", "No, back", href="/replay")),
        )
        return page(preview)


def _readable(body: bytes) -> str:
    """A notification in lines, as far as it is shown."""
    text = body.decode("utf-8", "replace")
    if len(body) <= _MOST_SHOWN:
        with contextlib.suppress(ValueError, RecursionError):
            text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}\n… download it to see the rest"
