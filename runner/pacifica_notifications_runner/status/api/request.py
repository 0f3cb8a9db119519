"""A request to the API and its answer, and how parameters are read from it."""

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

_LARGEST_NUMBER = 1 << 62


@attrs.frozen(kw_only=True)
class ApiRequest:
    """What is asked for.

    Args:
        path: The parts of the path that a route leaves open, by their names.
        query: The parameters.
        document: What the body says; None if there is none.
    """

    path: Mapping[str, str] = attrs.field(factory=dict)
    query: Mapping[str, str] = attrs.field(factory=dict)
    document: Any = None

    def number(self, name: str, default: int | None = None, *, least: int = 1, most: int = _LARGEST_NUMBER) -> int:
        """Read a number of the path or the query.

        Raises:
            BadRequest: It is none, or beyond the limits.
        """
        text = self.path.get(name, self.query.get(name))
        if text is None and default is not None:
            return default
        try:
            number = int(text or "")
        except ValueError:
            number = least - 1
        if not least <= number <= most or not (text or "").lstrip("-").isdigit():
            limits = f"from {least} to {most}" if most < _LARGEST_NUMBER else f"{least} or more"
            raise HTTPError(HTTPStatus.BAD_REQUEST, f"{name} must be a number, {limits}, not {text!r}")
        return number

    def word(self, name: str, words: type[Word]) -> Word | None:
        """Read one of some words; None if it is not given.

        Raises:
            BadRequest: It is another one.
        """
        text = self.query.get(name, "")
        return one_of(name, text, words) if text else None

    def flag(self, name: str) -> bool:
        """Read yes or no; no if it is not given."""
        return self.query.get(name, "").lower() in ("1", "true", "yes", "on")


@attrs.frozen(kw_only=True)
class Answer:
    """What is answered: a document, or bytes.

    Args:
        status: The status.
        document: What becomes JSON; None if there are pieces.
        pieces: Bytes that come one after the other.
        content_type: What the bytes are.
        headers: Further header fields.
    """

    status: HTTPStatus = HTTPStatus.OK
    document: Any = None
    pieces: Iterator[bytes] | None = None
    content_type: str = "application/json"
    headers: Mapping[str, str] = attrs.field(factory=dict)


def one_of(name: str, text: object, words: type[Word]) -> Word:
    """Read one of some words.

    Raises:
        BadRequest: It is another one.
    """
    for word in words:
        if word.value == text:
            return word
    known = ", ".join(str(word.value) for word in words)
    raise HTTPError(HTTPStatus.BAD_REQUEST, f"{name} must be one of {known}, not {text!r}")


def check_known(what: str, given: Collection[str], known: Collection[str]) -> None:
    """Refuse what nobody knows, since a slip would otherwise widen what is asked for.

    Raises:
        BadRequest: One is unknown.
    """
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known)) or 'none'}"
            raise HTTPError(HTTPStatus.BAD_REQUEST, f"there is no {what} {name!r}; {hint}")


def read_document(body: bytes) -> Any:
    """Read the body of a request; None if it is empty.

    Raises:
        BadRequest: It is no JSON object.
    """
    if not body.strip():
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPError(HTTPStatus.BAD_REQUEST, "the body is not JSON") from None
    if not isinstance(document, dict):
        raise HTTPError(HTTPStatus.BAD_REQUEST, "the body must be a JSON object")
    return document


def read_selection(document: Mapping[str, Any]) -> Selection:
    """Read which jobs are to be replayed.

    Raises:
        BadRequest: That is not said, or not so that it can be understood.
    """
    check_known("field", document, ("since", "until", "match", "states", "dry_run"))
    states = document.get("states") or []
    if not isinstance(states, list):
        raise HTTPError(HTTPStatus.BAD_REQUEST, "states must be a list")
    selection = Selection(
        since=_time("since", document.get("since")),
        until=_time("until", document.get("until")),
        match=_filter(document.get("match")),
        states=frozenset(one_of("states", state, JobState) for state in states),
    )
    if selection == Selection():
        reason = "say which jobs are to be replayed: by since, until, match or states; to replay all, name all states"
        raise HTTPError(HTTPStatus.BAD_REQUEST, reason)
    if selection.states & {JobState.QUEUED, JobState.RUNNING}:
        raise HTTPError(HTTPStatus.BAD_REQUEST, "what is queued or running cannot be replayed")
    return selection


def _time(name: str, value: object) -> float | None:
    if value is None or value == "":
        return None
    try:
        return datetime.fromisoformat(str(value)).astimezone().timestamp()
    except (ValueError, OverflowError):
        reason = f"{name} must be a time such as 2026-11-24T18:00, not {value!r}"
        raise HTTPError(HTTPStatus.BAD_REQUEST, reason) from None


def _filter(value: object) -> Filter | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise HTTPError(HTTPStatus.BAD_REQUEST, "match must be a JSONPath")
    try:
        return Filter(value)
    except FilterError as error:
        raise HTTPError(HTTPStatus.BAD_REQUEST, f"match: {error}") from None
