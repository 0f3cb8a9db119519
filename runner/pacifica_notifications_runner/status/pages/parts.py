"""The parts that pages are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from pacifica_notifications_consumer.streams.progress import Progress
from pacifica_notifications_runner.process.formats import clock, job_facts, job_row
from pacifica_notifications_runner.status.pages.markup import Markup, join, tag

Document = Mapping[str, Any]


def live_part(name: str, *content: object) -> Markup:
    """A part that is kept up to date."""
    return tag("section", *content, id=f"live-{name}")


def health(status: Document) -> Markup:
    """The state of the subscription."""
    subscription = status["subscription"]
    if subscription is None:
        return tag("p", "The consumer is starting or stopping.", class_="trouble", role="status")
    if subscription["well"]:
        target = tag("code", subscription["target_url"])
        return tag("p", "Subscription: healthy; notifications go to ", target, ".", role="status")
    return tag("p", f"Subscription: {subscription['trouble']}", class_="trouble", role="status")


def engine(status: Document) -> object:
    """Where jobs run, if not on this machine."""
    place, trouble = status["engine"]["place"], status["engine"]["trouble"]
    return (
        place and tag("p", "Jobs are run by workers that take them from ", tag("code", place), "."),
        trouble and tag("p", f"Jobs wait, or run unobserved: {trouble}.", class_="trouble", role="status"),
    )


def counted(status: Document) -> Markup:
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


def incident_table(incidents: Sequence[Document]) -> Markup:
    """The incidents of the subscription."""
    rows = [
        (each["kind"], clock(each["since"]) or "unknown", clock(each["until"]), each["detail"]) for each in incidents
    ]
    return table(("Incident", "Since", "Repaired", "Answer of the producer"), rows, "There were no incidents.")


def state_link(state: str) -> Markup:
    """The name of a state, which leads to the jobs in it."""
    return tag("a", state, href=f"/jobs?state={state}", class_=f"state {state}")


def jobs_table(jobs: Sequence[Document], none: str, more: str = "") -> Markup:
    """Jobs; ``none`` is shown if there are none, and ``more`` is the address of the whole list."""
    rows = []
    for job in jobs:
        number, state, *others = job_row(job)
        link = tag("a", number, href=f"/jobs/{number}")
        rows.append((link, tag("span", state, class_=f"state {state}"), *others))
    listed = table(("Job", "State", "Started", "Took", "Memory", "Event", "Remarks"), rows, none)
    return join(listed, more and rows and tag("p", tag("a", "See all", href=more)))


def progress_bars(transfers: Document) -> list[Markup]:
    """The progress of a job's transfers."""
    return [
        tag(
            "p",
            tag("label", what, " ", tag("progress", value=numbers["bytes_done"], max=max(1, numbers["bytes_total"]))),
            f" {Progress(**numbers)}",
        )
        for what, numbers in transfers.items()
    ]


def job_list(job: Document) -> Markup:
    """The facts about a job."""
    shown = {
        "state": tag("span", job["state"], class_=f"state {job['state']}"),
        "notification": join(tag("a", job["title"], href=f"/notifications/{job['id']}"), f" ({job['origin']})"),
        "directory": tag("code", job["directory"]),
    }
    # Of the progress there are bars.
    return fact_list({**job_facts(job), **shown, "progress": ""})


def fact_list(facts: Mapping[str, object]) -> Markup:
    """Facts with their names; empty ones are left out."""
    shown = {name.capitalize(): fact for name, fact in facts.items() if fact not in (None, "")}
    return tag("dl", [(tag("dt", name), tag("dd", fact)) for name, fact in shown.items()])


def file_link(number: int, path: str) -> Markup:
    """A link that downloads a file of a job."""
    return tag("a", path, href=f"/api/jobs/{number}/files/{quote(path)}")


def text_input(name: str, text: str, given: Mapping[str, str]) -> Markup:
    """A field of a form, with its former content."""
    return tag("p", tag("label", text, " ", tag("input", name=name, value=given.get(name, ""))))


def table(header: Sequence[str], rows: Sequence[Sequence[object]], none: str) -> Markup:
    """A table; ``none`` is shown if it has no rows."""
    if not rows:
        return tag("p", none)
    # On a narrow screen each cell carries its heading.
    body = [
        tag("tr", [tag("td", cell, data_label=name) for name, cell in zip(header, row, strict=True)]) for row in rows
    ]
    return tag("table", tag("thead", tag("tr", [tag("th", name, scope="col") for name in header])), tag("tbody", body))
