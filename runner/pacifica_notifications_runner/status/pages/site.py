"""The pages for people, made of what the API tells."""

from __future__ import annotations

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
    older,
    possible,
    progress_bars,
    state_link,
    table,
    text_input,
)

_ENDED = frozenset(state.value for state in JobState if state.final)
#: What can be done about a job in a state, and how the button is called.
ACTIONS = {"retry": "Run again", "cancel": "Cancel"}
_DOES = {
    "retry": "It is queued anew, as if it had never run. Its directory stays as it is, so the entry-point finds there "
    "what it left.",
    "cancel": "It will not be run any more. If it is running, its processes are ended.",
}


@attrs.frozen(kw_only=True)
class Site:
    """What all pages share.

    Args:
        name: The consumer's name.
        csrf: What a form has to carry to be taken for ours.
    """

    name: str
    csrf: str = attrs.field(repr=False)

    def page(self, title: str, *content: object, live: bool = False) -> str:
        """A whole page.

        Args:
            title: What it is about.
            content: What stands on it.
            live: Whether it is kept up to date.
        """
        links = (("/", "Overview"), ("/jobs", "Jobs"), ("/notifications", "Notifications"), ("/replay", "Replay"))
        pause = tag("button", "Pause updates", type="button", id="pause", hidden=True, aria_pressed="false")
        body = tag(
            "body",
            tag("a", "Skip to the content", href="#main", class_="skip"),
            tag(
                "header",
                tag("strong", self.name),
                tag(
                    "nav", tag("ul", [tag("li", tag("a", text, href=href)) for href, text in links]), aria_label="Pages"
                ),
                live and pause,
                self.form("/logout", tag("button", "Leave", type="submit")),
            ),
            tag("main", tag("h1", title), *content, id="main", data_live=live),
        )
        return document(f"{title}: {self.name}", body, refreshed=live)

    def form(self, action: str, *fields: object, **attributes: object) -> Markup:
        """A form that does something."""
        proof = tag("input", type="hidden", name="csrf", value=self.csrf)
        return tag("form", proof, *fields, method="post", action=action, **attributes)

    def overview(
        self, status: Document, running: Sequence[Document], dead: Sequence[Document], ended: Sequence[Document]
    ) -> str:
        """How the consumer is."""
        jobs = status["jobs"]
        waiting = jobs["queued"] + jobs["failed"]
        waited = status["waiting_seconds"]
        age = f"; the first in turn has been due for {duration(waited)}" if waiting and waited else ""
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
            live_part("ended", tag("h2", "Newest"), jobs_table(ended, "There has been no job yet.", more="/jobs")),
            live_part("counted", tag("h2", "Notifications"), counted(status)),
            tag("h2", "Subscription"),
            live_part("incidents", incident_table(status["incidents"])),
            tag("p", f"Version {status['version']}; its state is in ", tag("code", status["state_dir"]), "."),
            live=True,
        )

    def jobs(self, listed: Document, state: str) -> str:
        """The newest jobs."""
        states = [("", "All"), *((each.value, each.value) for each in JobState)]
        links = [
            tag(
                "li",
                tag(
                    "a", text, href=f"/jobs?state={value}" if value else "/jobs", aria_current=value == state and "page"
                ),
            )
            for value, text in states
        ]
        return self.page(
            f"Jobs: {state}" if state else "Jobs",
            tag("nav", tag("ul", links), aria_label="States", class_="choice"),
            live_part("jobs", jobs_table(listed["jobs"], "There is no such job.")),
            older(listed["next"], "/jobs", "state", state),
            live=True,
        )

    def job(self, job: Document, files: Document, log: str, *, left_out: bool) -> str:
        """A job."""
        number = job["id"]
        actions = [
            tag("a", text, href=f"/jobs/{number}/{action}", class_="button")
            for action, text in ACTIONS.items()
            if possible(action, job["state"])
        ]
        rows = [tag("li", file_link(number, file["path"]), f" {size(file['size'])}") for file in files["files"]]
        return self.page(
            f"Job {number}",
            live_part(
                "facts", fact_list(job_facts(job)), progress_bars(job["progress"]), tag("p", actions, class_="actions")
            ),
            tag("h2", "Output"),
            left_out and tag("p", "What it printed before is in ", file_link(number, "output.log"), "."),
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
                tag("p", "In ", tag("code", files["directory"]), ":") if rows else tag("p", "There are none."),
                tag("ul", rows),
                files["more"] and tag("p", "There are more than are listed here."),
            ),
            live=True,
        )

    def confirm(self, job: Document, action: str) -> str:
        """Ask whether something is to be done about a job."""
        number = job["id"]
        return self.page(
            f"{ACTIONS[action]}: job {number}?",
            fact_list(job_facts(job)),
            tag("p", _DOES[action]),
            self.form(f"/jobs/{number}/{action}", tag("button", f"{ACTIONS[action]}: job {number}", type="submit")),
            tag("p", tag("a", "No, back to the job", href=f"/jobs/{number}")),
        )

    def notifications(self, listed: Document, verdict: str) -> str:
        """The newest notifications."""
        words = [("", "All"), *((each.value, each.value) for each in Verdict)]
        links = [
            tag(
                "li",
                tag(
                    "a",
                    text,
                    href=f"/notifications?verdict={value}" if value else "/notifications",
                    aria_current=value == verdict and "page",
                ),
            )
            for value, text in words
        ]
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
        listing = table(("Number", "Event", "Received", "Verdict", "Origin", "Reason"), rows, "There is none.")
        return self.page(
            f"Notifications: {verdict}" if verdict else "Notifications",
            tag("nav", tag("ul", links), aria_label="Verdicts", class_="choice"),
            live_part("notifications", listing),
            older(listed["next"], "/notifications", "verdict", verdict),
            live=True,
        )

    def notification(self, record: Document, body: str | None) -> str:
        """A notification; ``body`` is what it says, if that was kept."""
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
        shown = (tag("p", download), tag("pre", body, tabindex=0)) if body is not None else tag("p", "It was not kept.")
        return self.page(f"Notification {number}", fact_list(facts), tag("h2", "What it says"), shown)

    def replay(self, given: Mapping[str, str], trouble: str = "") -> str:
        """Ask what is to be replayed."""
        states = [(state.value, state.value) for state in JobState if state.final or state is JobState.FAILED]
        options = [
            tag("option", text, value=value, selected=given.get("states", "dead") == value)
            for value, text in [("", "any"), *states]
        ]
        fields = [
            tag("p", tag("label", "Jobs that are ", tag("select", options, name="states"))),
            text_input("since", "whose notifications came at this time or later, such as 2026-11-24T18:00", given),
            text_input("until", "and at this time or before", given),
            text_input("match", "and match this JSONPath", given),
        ]
        return self.page(
            "Replay",
            tag(
                "p",
                "Queue jobs anew that have ended or failed. Nothing happens before you have seen how many they are.",
            ),
            trouble and tag("p", trouble, class_="trouble", role="alert"),
            self.form("/replay", fields, tag("button", "Count them", type="submit")),
        )

    def confirm_replay(self, given: Mapping[str, str], found: Document) -> str:
        """Ask whether jobs are to be replayed."""
        hidden = [tag("input", type="hidden", name=name, value=value) for name, value in given.items()]
        links = [tag("li", tag("a", number, href=f"/jobs/{number}")) for number in found["jobs"][:100]]
        question = f"Run {count(found['count'], 'job')} again?"
        return self.page(
            question if found["count"] else "There is no such job",
            tag("ul", links, class_="choice"),
            found["count"] > len(links) and tag("p", "The others are not listed here."),
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
        """Say that something cannot be had or done."""
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
    problem = refused and tag("p", "That is not the token.", class_="trouble", role="alert")
    field = tag("input", type="password", name="token", required=True, autofocus=True, autocomplete="current-password")
    body = tag(
        "main",
        tag("h1", f"Status of {name}"),
        problem,
        tag(
            "p",
            "The consumer makes a new token at each start. On its machine, the command ",
            tag("code", "pacifica-notifications-consumer status"),
            " tells it.",
        ),
        tag(
            "form",
            tag("p", tag("label", "Token ", field)),
            tag("button", "Enter", type="submit"),
            method="post",
            action="/login",
        ),
        id="main",
    )
    return document(f"Status of {name}", tag("body", body))
