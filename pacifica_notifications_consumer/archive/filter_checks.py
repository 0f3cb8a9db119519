"""Checks a consumer's filter: by itself, on notifications, and for endless loops."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs

from ..cloudevents.announcement import Identity, ingest_event
from ..cloudevents.notification import PROVENANCE_KEY, Notification
from ..cloudevents.vocabulary import EVENTS, REPLACED, TABLES
from ..errors import Cancelled, PacificaError
from ..filter.analysis import analyse, suggest
from ..filter.filter import Filter
from .archive import ENTRY_POINT, FILTER, Consumer
from .findings import Finding, Level, finding_of
from .imports import Sources, read_sources

#: Modules of Pacifica that upload transactions without `PROVENANCE_KEY`.
_UNMARKED = ("pacifica.uploader", "pacifica.cli")
#: The media types in the sample notification with which `check_loops` tests a filter.
_SAMPLE_TYPES = ("text/plain", "text/csv", "application/octet-stream", "application/json", "image/png", "image/tiff")
#: A table in Python: an attribute of a transaction, or a constant that a row's ``destinationTable`` is compared with.
_TABLE = re.compile(r"""["'](Transactions\.\w+)\\?["']|destinationTable\\?["']?[\])]*\s*(?:!=|==?)\s*\\?["']([\w.]+)""")


def check_filter(filter_: Filter) -> Iterator[Finding]:
    """Check that a filter can match notifications of Pacifica, and names nothing that they never have."""
    possible, problems = analyse(filter_.jsonpath, EVENTS, REPLACED)
    start = "" if possible else "it can never match a notification of today's Pacifica: "
    # Other sites and producers may have other members and values, but nothing meets conditions that exclude each other.
    level = Level.WARNING if analyse(filter_.jsonpath, [None], {})[0] else Level.ERROR
    for problem, advice in problems:
        yield Finding(level=level, position=FILTER, problem=f"{start}{problem}", advice=advice)


def check_tables(directory: Path, files: Iterable[str]) -> Iterator[Finding]:
    """Check that Python files of a consumer name only tables that notifications of Pacifica have."""
    for file in files:
        text = (directory / file).read_text(encoding="utf-8", errors="replace")
        found = {each[1] or each[2]: each.start() for each in reversed(list(_TABLE.finditer(text)))}
        for table, position in found.items():
            if table not in TABLES:
                yield Finding(
                    level=Level.WARNING,
                    position=f"{file}:{text.count(chr(10), 0, position) + 1}",
                    problem=f'notifications of today\'s Pacifica have no destinationTable "{table}"',
                    advice=REPLACED.get(table) or suggest(table, TABLES),
                )


def check_loops(consumer: Consumer, name: str = "another") -> Iterator[Finding]:
    """Check whether a consumer would process its own uploads, or those of a similar consumer.

    Args:
        consumer: The consumer.
        name: The name of the other consumer, which has uploaded the sample transaction.
    """
    if consumer.filter and not consumer.filter.matches(_sample(name)):
        return
    sources = read_sources(consumer.directory, ENTRY_POINT)
    unmarked = [module for module in _UNMARKED if _uses(sources, module)]
    if unmarked:
        yield Finding(
            level=Level.ERROR,
            position=ENTRY_POINT,
            problem=f"it uploads with {unmarked[0]}, which does not mark the transactions with the consumer's name, "
            "and the filter may match these transactions: it would process its own uploads in an endless loop",
            advice="upload with pacifica_notifications_consumer.upload, or narrow the filter",
        )
    elif _uses(sources, "pacifica_notifications_consumer.upload"):
        yield Finding(
            level=Level.NOTE if consumer.filter else Level.WARNING,
            position=FILTER,
            problem=f"{'it' if consumer.filter else 'without a filter it'} matches transactions with files of common "
            "types. The consumer skips its own uploads, which are marked with its name, but two such consumers would "
            "process each other's uploads in an endless loop",
            advice="narrow the filter if other consumers upload similar files",
        )


def _sample(name: str) -> dict[str, Any]:
    """The notification of a transaction that another consumer has uploaded."""
    files = [
        {"destinationTable": "Files", "_id": number, "name": f"{number}.x", "subdir": "", "mimetype": kind, "size": 1}
        for number, kind in enumerate(_SAMPLE_TYPES, 1)
    ]
    attributes = {"_id": 2, "submitter": 10, "project": "1234a", "instrument": 54}
    rows = [{"destinationTable": f"Transactions.{table}", "value": value} for table, value in attributes.items()]
    mark = {"destinationTable": "TransactionKeyValue", "key": PROVENANCE_KEY, "value": name}
    return ingest_event(Identity().of(2), [*rows, mark, *files])


def _uses(sources: Sources, name: str) -> bool:
    """Whether modules of a consumer import a module, or a name from a module."""
    parent, _, last = name.rpartition(".")
    return any(
        f"{each.module}.".startswith(f"{name}.") or (each.module == parent and (last in each.names or not each.names))
        for each in sources.imports
    )


@attrs.frozen(kw_only=True)
class Match:
    """The result of a filter for a notification.

    Args:
        path: The file of the notification.
        matches: Whether the filter matches.
        explanation: The reason, in lines.
    """

    path: Path
    matches: bool
    explanation: str


def check_notification(filter_: Filter | None, path: str | os.PathLike[str]) -> Match | Finding:
    """Apply a filter to a notification.

    Args:
        filter_: The filter; None matches everything.
        path: The file of the notification.

    Returns:
        The result, or a finding if the file is not a notification or the filter fails.
    """
    path = Path(path)
    try:
        event = Notification.parse(path.read_bytes()).event
        if filter_ is None:
            return Match(path=path, matches=True, explanation=f"without a {FILTER} every notification matches")
        explanation = filter_.explain(event)
        return Match(path=path, matches=explanation.matches, explanation=str(explanation))
    except OSError as error:
        return Finding(level=Level.ERROR, position=str(path), problem=f"cannot read it: {error.strerror}")
    except Cancelled:
        raise
    except PacificaError as error:
        return finding_of(error, str(path))
