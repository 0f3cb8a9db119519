"""The pages, made of the API's documents."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

import attrs

from pacifica_notifications_consumer.jobs.job import JobState, Verdict
from pacifica_notifications_runner.process.formats import clock, count, duration, size
from pacifica_notifications_runner.status.pages.chart import throughput
from pacifica_notifications_runner.status.pages.markup import Markup, tag
from pacifica_notifications_runner.status.pages.parts import (
    Document,
    counted,
    engine,
    fact_list,
    file_link,
    health,
    incident_table,
    job_facts,
    jobs_table,
    live_part,
    possible,
    progress_bars,
    state_link,
    table,
    text_input,
)

_ENDED = frozenset(state.value for state in JobState if state.final)
#: The buttons of the actions on a job.
_ACTIONS = {"retry": "Run again", "cancel": "Cancel"}
_EFFECTS = {
    "retry": "The job is queued again, as if it had never run. Its directory stays as it is, with all files that the "
    "entry-point left there.",
    "cancel": "The job will not be run any more. If it is running, its processes are ended.",
}


@attrs.frozen(kw_only=True)
class Site:
    """The pages of one consumer.

    Args:
        name: The consumer's name.
        csrf: The token that forms carry against cross-site requests.
    """

    name: str
    csrf: str = attrs.field(repr=False)

    def page(self, title: str, *content: object, live: bool = False) -> str:
        """A whole page.

        Args:
            title: Its title.
            content: Its content.
            live: Whether it is kept up to date.
        """
        links = (("/", "Overview"), ("/jobs", "Jobs"), ("/notifications", "Notifications"), ("/replay", "Replay"))
        pause = tag("button", "Pause updates", type="button", id="pause", hidden=True, aria_pressed="false")
        body = tag(
            "body",
            tag("a", "Skip to content", href="#main", class_="skip"),
            tag(
                "header",
                tag("strong", self.name),
                tag(
                    "nav", tag("ul", [tag("li", tag("a", text, href=href)) for href, text in links]), aria_label="Pages"
                ),
                live and pause,
                self.form("/logout", tag("button", "Sign out", type="submit")),
            ),
            tag("main", tag("h1", title), *content, id="main", data_live=live),
        )
        return document(f"{title}: {self.name}", body, refreshed=live)

    def form(self, action: str, *fields: object, **attributes: object) -> Markup:
        """A form with the token against cross-site requests."""
        proof = tag("input", type="hidden", name="csrf", value=self.csrf)
        return tag("form", proof, *fields, method="post", action=action, **attributes)

    def overview(
        self, status: Document, running: Sequence[Document], dead: Sequence[Document], ended: Sequence[Document]
    ) -> str:
        """The state of the consumer."""
        jobs = status["jobs"]
        waiting = jobs["queued"] + jobs["failed"]
        waited = status["waiting_seconds"]
        age = f"; the next one has been due for {duration(waited)}" if waiting and waited else ""
        counts = [tag("li", tag("b", f"{number:,}"), " ", state_link(state)) for state, number in jobs.items()]
        return self.page(
            "Overview",
            live_part("health", health(status), engine(status)),
            live_part(
                "counts",
                tag("h2", "Queue"),
                tag("ul", counts, class_="counts"),
                tag("p", f"{count(waiting, 'job')} waiting{age}."),
                throughput(status["ended_by_minute"]),
            ),
            live_part("running", tag("h2", "Running"), jobs_table(running, "No job is running.")),
            live_part("dead", tag("h2", "Dead"), jobs_table(dead, "No job is dead.", more="/jobs?state=dead")),
            live_part("ended", tag("h2", "Newest"), jobs_table(ended, "There are no jobs yet.", more="/jobs")),
            live_part("counted", tag("h2", "Notifications"), counted(status)),
            tag("h2", "Subscription"),
            live_part("incidents", incident_table(status["incidents"])),
            tag("p", f"Version {status['version']}; state directory ", tag("code", status["state_dir"]), "."),
            live=True,
        )

    def jobs(self, listed: Document, state: JobState | None) -> str:
        """The newest jobs."""
        table = jobs_table(listed["jobs"], "There are no such jobs.")
        return self._list("jobs", table, listed["next"], "state", JobState, state)

    def _list(
        self,
        name: str,
        rows: Markup,
        before: int | None,
        parameter: str,
        words: type[enum.Enum],
        chosen: enum.Enum | None,
    ) -> str:
        """A list that can be narrowed to those with one of some words."""
        links = [
            ("All", f"/{name}", None),
            *((word.value, f"/{name}?{parameter}={word.value}", word) for word in words),
        ]
        choice = [
            tag("li", tag("a", text, href=href, aria_current=word is chosen and "page")) for text, href, word in links
        ]
        title, narrowed = name.capitalize(), f"&{parameter}={chosen.value}" if chosen else ""
        more = f"/{name}?before={before}{narrowed}"
        return self.page(
            f"{title}: {chosen.value}" if chosen else title,
            tag("nav", tag("ul", choice), aria_label=f"{parameter.capitalize()}s", class_="choice"),
            live_part(name, rows),
            before is not None and tag("p", tag("a", "Older ones", href=more)),
            live=True,
        )

    def job(self, job: Document, files: Document, log: str, *, left_out: bool) -> str:
        """A job."""
        number = job["id"]
        actions = [
            tag("a", text, href=f"/jobs/{number}/{action}", class_="button")
            for action, text in _ACTIONS.items()
            if possible(action, job["state"])
        ]
        rows = [tag("li", file_link(number, file["path"]), f" {size(file['size'])}") for file in files["files"]]
        return self.page(
            f"Job {number}",
            live_part(
                "facts", fact_list(job_facts(job)), progress_bars(job["progress"]), tag("p", actions, class_="actions")
            ),
            tag("h2", "Output"),
            left_out and tag("p", "Earlier output is in ", file_link(number, "output.log"), "."),
            tag(
                "pre",
                log,
                id="log",
                tabindex=0,
                role="log",
                aria_label="Output",
                data_log=None if job["state"] in _ENDED else number,
            ),
            tag("h2", "Files"),
            live_part(
                "files",
                tag("p", "In ", tag("code", files["directory"]), ":") if rows else tag("p", "There are no files."),
                tag("ul", rows),
                files["more"] and tag("p", "There are more files, which are not listed here."),
            ),
            live=True,
        )

    def confirm(self, job: Document, action: str) -> str:
        """Ask for confirmation of an action on a job."""
        number = job["id"]
        return self.page(
            f"{_ACTIONS[action]}: job {number}?",
            fact_list(job_facts(job)),
            tag("p", _EFFECTS[action]),
            self.form(f"/jobs/{number}/{action}", tag("button", f"{_ACTIONS[action]}: job {number}", type="submit")),
            tag("p", tag("a", "No, back to the job", href=f"/jobs/{number}")),
        )

    def notifications(self, listed: Document, verdict: Verdict | None) -> str:
        """The newest notifications."""
        rows = [
            (
                tag("a", each["id"], href=f"/notifications/{each['id']}"),
                each["title"],
                clock(each["received_at"]),
                each["verdict"],
                each["origin"],
                each["reason"],
            )
            for each in listed["notifications"]
        ]
        header = ("Number", "Event", "Received", "Verdict", "Origin", "Reason")
        listing = table(header, rows, "There are no such notifications.")
        return self._list("notifications", listing, listed["next"], "verdict", Verdict, verdict)

    def notification(self, record: Document, body: str | None) -> str:
        """A notification; ``body`` is its text, None if that was not kept."""
        number = record["id"]
        facts = [
            ("Event", record["event_id"]),
            ("Source", record["source"]),
            ("Received", clock(record["received_at"])),
            ("Verdict", record["verdict"]),
            ("Reason", record["reason"]),
            ("Origin", record["origin"]),
            ("Trace", record["trace"]),
            ("Job", record["job"] and tag("a", f"Job {record['job']}", href=f"/jobs/{record['job']}")),
        ]
        download = tag("a", "Download it as it was received", href=f"/api/notifications/{number}/body")
        shown = (
            (tag("p", download), tag("pre", body, tabindex=0))
            if body is not None
            else tag("p", "Its body was not kept.")
        )
        return self.page(f"Notification {number}", fact_list(facts), tag("h2", "Body"), shown)

    def replay(self, given: Mapping[str, str], trouble: str = "") -> str:
        """Ask which jobs are to be replayed."""
        states = [(state.value, state.value) for state in JobState if state.final or state is JobState.FAILED]
        options = [
            tag("option", text, value=value, selected=given.get("states", "dead") == value)
            for value, text in [("", "any"), *states]
        ]
        fields = [
            tag("p", tag("label", "Jobs that are ", tag("select", options, name="states"))),
            text_input(
                "since", "whose notifications were received at this time or later, such as 2026-11-24T18:00", given
            ),
            text_input("until", "and at this time or earlier", given),
            text_input("match", "and match this JSONPath", given),
        ]
        return self.page(
            "Replay",
            tag(
                "p",
                "Run jobs again that have ended or failed. A preview shows which ones, before anything is done.",
            ),
            trouble and tag("p", trouble, class_="trouble", role="alert"),
            self.form("/replay", fields, tag("button", "Preview", type="submit")),
        )

    def confirm_replay(self, given: Mapping[str, str], found: Document) -> str:
        """Show which jobs would be replayed, and ask for confirmation."""
        hidden = [tag("input", type="hidden", name=name, value=value) for name, value in given.items()]
        links = [tag("li", tag("a", number, href=f"/jobs/{number}")) for number in found["jobs"][:100]]
        question = f"Run {count(found['count'], 'job')} again?"
        return self.page(
            question if found["count"] else "There are no such jobs",
            tag("ul", links, class_="choice"),
            found["count"] > len(links) and tag("p", "The other jobs are not listed here."),
            found["count"]
            and self.form(
                "/replay",
                hidden,
                tag("input", type="hidden", name="confirmed", value="yes"),
                tag("button", f"Run {count(found['count'], 'job')} again", type="submit"),
            ),
            tag("p", tag("a", "No, back", href="/replay")),
        )

    def problem(self, title: str, detail: str) -> str:
        """The page that says why a request was refused."""
        return self.page(title, tag("p", detail, class_="trouble", role="alert"))


def document(title: str, body: Markup, *, refreshed: bool = False, script: str = "/script.js") -> str:
    """A whole document; one that is ``refreshed`` is loaded again by browsers without scripts."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="stylesheet", href="/style.css"),
        refreshed and tag("noscript", tag("meta", http_equiv="refresh", content="15")),
        tag("script", src=script, defer=True),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def login(name: str, *, refused: bool) -> str:
    """Ask for the token."""
    problem = refused and tag("p", "The token is wrong.", class_="trouble", role="alert")
    field = tag("input", type="password", name="token", required=True, autofocus=True, autocomplete="current-password")
    body = tag(
        "main",
        tag("h1", f"Status of {name}"),
        problem,
        tag(
            "p",
            "The consumer makes a new token at each start. On its machine, the command ",
            tag("code", "pacifica-notifications-consumer status"),
            " prints it.",
        ),
        tag(
            "form",
            tag("p", tag("label", "Token ", field)),
            tag("button", "Sign in", type="submit"),
            method="post",
            action="/login",
        ),
        id="main",
    )
    return document(f"Status of {name}", tag("body", body))
