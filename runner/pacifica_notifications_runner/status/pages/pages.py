"""The pages and their forms, with all their words; the data are from the methods of the API.

The facts about a job, such as why it is dead, are those of `job_facts` in ``process/formats.py``.
"""

from __future__ import annotations

import contextlib
import enum
import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pacifica_notifications_consumer.http.errors import HTTPError
from pacifica_notifications_consumer.jobs.job import JobState, Verdict
from pacifica_notifications_consumer.settings.converters import counted
from pacifica_notifications_runner.options.settings import with_flags
from pacifica_notifications_runner.process.formats import clock, duration, job_facts, size
from pacifica_notifications_runner.status.api.api import LISTED, Api, Before, Limit
from pacifica_notifications_runner.status.api.documents import SelectionDocument
from pacifica_notifications_runner.status.api.request import Answer
from pacifica_notifications_runner.status.api.routes import Router
from pacifica_notifications_runner.status.pages import parts
from pacifica_notifications_runner.status.pages.chart import throughput
from pacifica_notifications_runner.status.pages.markup import Markup, join, tag
from pacifica_notifications_runner.status.pages.site import Site

#: The most bytes of an output or a notification that a page shows.
_MOST_SHOWN = 1 << 16
#: The jobs in each list of the overview.
_FEW = 10
_SELECTING = ("since", "until", "match", "states")
_ROUTER = Router()


class Action(enum.Enum):
    """A form's action on a job."""

    RETRY = "retry"
    CANCEL = "cancel"

    def possible(self, state: str) -> bool:
        """Whether a job in a state can be retried or cancelled."""
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


def go_to(path: str, **headers: str) -> Answer:
    """An answer that redirects a browser to another path of this site."""
    return Answer(page="", status=HTTPStatus.SEE_OTHER, content_type="text/html", headers={"Location": path, **headers})


class Pages:
    """Answers the requests of browsers; ``csrf`` is the token of forms against cross-site requests."""

    def __init__(self, api: Api, csrf: str) -> None:
        self._api = api
        self._site = Site(name=api.book.name, csrf=csrf)

    def answer(self, method: str, path: str, query: Mapping[str, str], form: Mapping[str, str] | None = None) -> Answer:
        """Answer a request for a page, or a submitted form."""
        answer = _ROUTER.dispatch(self, method, path, query, form, unknown=f"the page {path} does not exist")
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
        links = {state: tag("a", state, href=f"/jobs?state={state}", class_=f"state {state}") for state in jobs}
        counts = [tag("li", tag("b", f"{number:,}"), " ", links[state]) for state, number in jobs.items()]
        return self._site.page(
            "Overview",
            live("health", _health(status), _engine(status)),
            live(
                "counts",
                tag("h2", "Queue"),
                tag("ul", counts, class_="counts"),
                tag("p", f"{counted(waiting, 'job')} waiting{age}."),
                throughput(status["ended_by_minute"]),
            ),
            live("running", tag("h2", "Running"), jobs_table(running, "No job is running.")),
            live("dead", tag("h2", "Dead"), jobs_table(dead, "No job is dead.", more="/jobs?state=dead")),
            live("ended", tag("h2", "Newest"), jobs_table(newest, "No job has been received yet.", more="/jobs")),
            live("counted", tag("h2", "Notifications"), _notification_counts(status)),
            tag("h2", "Subscription"),
            live("incidents", _incidents(status["incidents"])),
            tag("p", f"Version {status['version']}; state directory ", tag("code", status["state_dir"]), "."),
            live=True,
        )

    @_ROUTER.route("GET", "/jobs")
    def jobs(self, limit: Limit = LISTED, before: Before = None, state: JobState | None = None) -> str:
        """The newest jobs."""
        listed = self._api.jobs(limit, before, state)
        rows = parts.jobs_table(listed["jobs"], "No jobs found.")
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
        facts = _facts(job), parts.progress_bars(job["progress"])
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
                tag("p", "In ", tag("code", files["directory"]), ":") if rows else tag("p", "The directory is empty."),
                tag("ul", rows),
                files["more"] and tag("p", "There are more files, which are not listed here."),
            ),
            live=True,
        )

    @_ROUTER.route("GET", "/jobs/{id}/{action}")
    def confirm(self, id: int, action: Action) -> str:
        """The page that asks to confirm an action on a job."""
        title = f"{_BUTTONS[action]}: job {id}"
        return self._site.page(
            f"{title}?",
            _facts(self._api.job(id)),
            tag("p", _EFFECTS[action]),
            self._site.form(f"/jobs/{id}/{action.value}", tag("button", title, type="submit")),
            tag("p", tag("a", "No, back to the job", href=f"/jobs/{id}")),
        )

    @_ROUTER.route("POST", "/jobs/{id}/{action}")
    def act(self, id: int, action: Action) -> Answer:
        """Do an action on a job."""
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
        listing = parts.table(header, rows, "No notifications found.")
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
        title = f"Run {counted(found['count'], 'job')} again"
        form: object = self._site.form("/replay", hidden, tag("button", title, type="submit"))
        preview = self._site.page(
            f"{title}?" if links else "No jobs found",
            tag("ul", links, class_="choice"),
            found["count"] > len(links) and tag("p", "The other jobs are not listed here."),
            bool(links) and form,
            tag("p", tag("a", "No, back", href="/replay")),
        )
        return page(preview)


def _health(status: Mapping[str, Any]) -> Markup:
    """The state of the subscription."""
    subscription = status["subscription"]
    if subscription is None:
        return tag("p", "The consumer is starting or stopping.", class_="trouble", role="status")
    if subscription["well"]:
        target = tag("code", subscription["target_url"])
        return tag("p", "Subscription: healthy; notifications go to ", target, ".", role="status")
    return tag("p", f"Subscription: {with_flags(subscription['trouble'])}", class_="trouble", role="status")


def _engine(status: Mapping[str, Any]) -> object:
    """Where jobs run, if not on this machine."""
    place, trouble = status["engine"]["place"], status["engine"]["trouble"]
    return (
        place and tag("p", "Jobs are run by workers that take them from ", tag("code", place), "."),
        trouble and tag("p", f"Jobs wait, or run unobserved: {with_flags(trouble)}.", class_="trouble", role="status"),
    )


def _notification_counts(status: Mapping[str, Any]) -> Markup:
    """The notifications by verdict, and the missed transactions."""
    counts = [
        tag("li", tag("b", f"{number:,}"), " ", tag("a", verdict, href=f"/notifications?verdict={verdict}"))
        for verdict, number in status["notifications"].items()
    ]
    missed = status["missed"]
    found = (
        f"Transactions that were not announced: {missed['recovered']:,} recovered, {missed['refused']:,} not for this "
        f"user, {missed['unknown']:,} not known to policy yet."
    )
    return join(tag("ul", counts, class_="counts"), any(missed.values()) and tag("p", found))


def _incidents(incidents: Sequence[Mapping[str, Any]]) -> Markup:
    """The incidents of the subscription."""
    rows = [
        (each["kind"], clock(each["since"]) or "unknown", clock(each["until"]), each["detail"]) for each in incidents
    ]
    return parts.table(("Incident", "Since", "Repaired", "Answer of the producer"), rows, "There were no incidents.")


def _facts(job: Mapping[str, Any]) -> Markup:
    """The facts about a job."""
    shown = {
        "state": tag("span", job["state"], class_=f"state {job['state']}"),
        "notification": join(tag("a", job["title"], href=f"/notifications/{job['id']}"), f" ({job['origin']})"),
        "directory": tag("code", job["directory"]),
    }
    # The progress has its own bars.
    return parts.fact_list({**job_facts(job), **shown, "progress": ""})


def _readable(body: bytes) -> str:
    """The beginning of a notification, indented if it is JSON."""
    text = body.decode("utf-8", "replace")
    if len(body) <= _MOST_SHOWN:
        with contextlib.suppress(ValueError, RecursionError):
            text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}\n… download it to see the rest"
