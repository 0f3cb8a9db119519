"""Readers of the values in requests to the API, and the answers."""

from __future__ import annotations

import difflib
import enum
import json
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar

import attrs

from pacifica_notifications_consumer.errors import FilterError
from pacifica_notifications_consumer.filter.filter import Filter
from pacifica_notifications_consumer.http.errors import HTTPError
from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.queue.job_book import Selection

Word = TypeVar("Word", bound=enum.Enum)


@attrs.frozen(kw_only=True)
class Answer:
    """An answer: a document for JSON, the text of a page, or bytes in pieces."""

    document: Any = None
    page: str | None = None
    pieces: Iterator[bytes] | None = None
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "application/json"
    headers: Mapping[str, str] = attrs.field(factory=dict)


def one_of(name: str, text: object, words: type[Word]) -> Word:
    """Read a word of an enumeration."""
    for word in words:
        if word.value == text:
            return word
    known = ", ".join(str(word.value) for word in words)
    raise _bad(f"{name} must be one of {known}, not {text!r}")


def check_known(kind: str, given: Collection[str], known: Collection[str]) -> None:
    """Refuse unknown names, since a misspelt one would otherwise widen the selection."""
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known)) or 'none'}"
            raise _bad(f"the {kind} {name!r} does not exist; {hint}")


def read_document(body: bytes) -> Any:
    """Read the body of a request, a JSON object; None if it is empty."""
    if not body.strip():
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise _bad("the body is not JSON") from None
    if not isinstance(document, dict):
        raise _bad("the body must be a JSON object")
    return document


def read_selection(document: Mapping[str, Any]) -> Selection:
    """Read the selection of the jobs to replay; an empty one is refused."""
    states = document.get("states") or []
    if not isinstance(states, list):
        raise _bad("states must be a list")
    selection = Selection(
        since=_time("since", document.get("since")),
        until=_time("until", document.get("until")),
        match=_filter(document.get("match")),
        states=frozenset(one_of("states", state, JobState) for state in states),
    )
    if selection == Selection():
        raise _bad("select the jobs to replay with since, until, match or states; to replay all, name all states")
    if selection.states & {JobState.QUEUED, JobState.RUNNING}:
        raise _bad("queued and running jobs cannot be replayed")
    return selection


def _time(name: str, value: object) -> float | None:
    if value in (None, ""):
        return None
    try:
        return datetime.fromisoformat(str(value)).astimezone().timestamp()
    except (ValueError, OverflowError):
        raise _bad(f"{name} must be a time such as 2026-11-24T18:00, not {value!r}") from None


def _filter(value: object) -> Filter | None:
    if value in (None, ""):
        return None
    if not isinstance(value, str):
        raise _bad("match must be a JSONPath")
    try:
        return Filter(value)
    except FilterError as error:
        raise _bad(f"match: {error}") from None


def _bad(reason: str) -> HTTPError:
    return HTTPError(HTTPStatus.BAD_REQUEST, reason)
