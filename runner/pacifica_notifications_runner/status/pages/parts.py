"""Elements that several pages have: live parts, tables, links, bars and fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from pacifica_notifications_consumer.streams.progress import Progress
from pacifica_notifications_runner.process.formats import job_row
from pacifica_notifications_runner.status.pages.markup import Markup, join, tag

Document = Mapping[str, Any]


def live_part(name: str, *content: object) -> Markup:
    """A part that the page's script keeps up to date."""
    return tag("section", *content, id=f"live-{name}")


def jobs_table(jobs: Sequence[Document], none: str, more: str = "") -> Markup:
    """Jobs, or the text ``none`` for an empty list; ``more`` is the address of the whole list."""
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
            tag("label", name, " ", tag("progress", value=numbers["bytes_done"], max=max(1, numbers["bytes_total"]))),
            f" {Progress(**numbers)}",
        )
        for name, numbers in transfers.items()
    ]


def fact_list(facts: Mapping[str, object]) -> Markup:
    """Facts with their names, without the empty ones."""
    shown = [(name, fact) for name, fact in facts.items() if fact not in (None, "")]
    return tag("dl", [(tag("dt", name.capitalize()), tag("dd", fact)) for name, fact in shown])


def file_link(number: int, path: str) -> Markup:
    """A link that downloads a file of a job."""
    return tag("a", path, href=f"/api/jobs/{number}/files/{quote(path)}")


def text_input(name: str, text: str, given: Mapping[str, str]) -> Markup:
    """A field of a form, with its previous content."""
    return tag("p", tag("label", text, " ", tag("input", name=name, value=given.get(name, ""))))


def table(header: Sequence[str], rows: Sequence[Sequence[object]], none: str) -> Markup:
    """A table, or the text ``none`` if it has no rows."""
    if not rows:
        return tag("p", none)
    # A narrow screen shows the heading at each cell.
    body = [
        tag("tr", [tag("td", cell, data_label=name) for name, cell in zip(header, row, strict=True)]) for row in rows
    ]
    return tag("table", tag("thead", tag("tr", [tag("th", name, scope="col") for name in header])), tag("tbody", body))
