"""The description of the API for programs, in the form of https://spec.openapis.org/oas/v3.1.0."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from pacifica_notifications_consumer.jobs.job import JobState, Origin, Verdict
from pacifica_notifications_consumer.subscription.incident import IncidentKind
from pacifica_notifications_runner.status.api.routes import Route

_TIME = {"type": "string", "format": "date-time"}
_TIME_OR_NONE = {"type": ["string", "null"], "format": "date-time"}
_COUNT = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}
_TEXT_OR_NONE = {"type": ["string", "null"]}
_NUMBER_OR_NONE = {"type": ["number", "null"]}
_INTEGER_OR_NONE = {"type": ["integer", "null"]}
_YES_OR_NO = {"type": "boolean"}
_STATE = {"type": "string", "enum": [state.value for state in JobState]}
_VERDICT = {"type": "string", "enum": [verdict.value for verdict in Verdict]}
_ORIGIN = {"type": "string", "enum": [origin.value for origin in Origin]}


def _object(**properties: Any) -> dict[str, Any]:
    """A document with exactly these fields."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _optional(**properties: Any) -> dict[str, Any]:
    """A document with some of these fields."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _list_of(item: Any) -> dict[str, Any]:
    return {"type": "array", "items": item}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_PROGRESS = _object(bytes_done=_COUNT, bytes_total=_COUNT, files_done=_COUNT, files_total=_COUNT)

SCHEMAS: dict[str, Any] = {
    "Job": _object(
        id=_COUNT,
        title=_TEXT,
        state=_STATE,
        origin=_ORIGIN,
        received_at=_TIME,
        started_at=_TIME_OR_NONE,
        ended_at=_TIME_OR_NONE,
        seconds={**_NUMBER_OR_NONE, "description": "how long the last attempt took"},
        attempts=_COUNT,
        deferrals=_COUNT,
        crashes=_COUNT,
        exit_status={**_INTEGER_OR_NONE, "description": "of the last attempt; negative is a signal's number"},
        reason=_TEXT,
        cpu_seconds=_NUMBER_OR_NONE,
        peak_memory={**_INTEGER_OR_NONE, "description": "bytes"},
        output_tail=_TEXT,
        progress={"type": "object", "additionalProperties": _PROGRESS},
        directory=_TEXT,
        handed_out={**_YES_OR_NO, "description": "whether it is with other machines"},
        worker={**_TEXT_OR_NONE, "description": "the machine that runs it, or ran it last, if that is another one"},
        worker_directory={**_TEXT_OR_NONE, "description": "its directory there"},
        trace=_TEXT_OR_NONE,
    ),
    "Jobs": _object(jobs=_list_of(_ref("Job")), next=_INTEGER_OR_NONE),
    "Notification": _object(
        id=_COUNT,
        title=_TEXT,
        received_at=_TIME,
        source=_TEXT_OR_NONE,
        event_id=_TEXT_OR_NONE,
        verdict=_VERDICT,
        reason=_TEXT,
        origin=_ORIGIN,
        kept={**_YES_OR_NO, "description": "whether its body is there"},
        job=_INTEGER_OR_NONE,
        trace=_TEXT_OR_NONE,
    ),
    "Notifications": _object(notifications=_list_of(_ref("Notification")), next=_INTEGER_OR_NONE),
    "Files": _object(
        directory=_TEXT,
        files=_list_of(_object(path=_TEXT, size=_COUNT, changed_at=_TIME)),
        more={**_YES_OR_NO, "description": "whether there are more than are listed"},
    ),
    "Status": _object(
        name=_TEXT,
        version=_TEXT,
        state_dir=_TEXT,
        running=_YES_OR_NO,
        engine=_object(
            place={**_TEXT, "description": "where jobs are handed to; empty if they run on this machine"},
            trouble={**_TEXT, "description": "why they cannot be handed out, or heard of"},
        ),
        subscription={
            "oneOf": [{"type": "null"}, _object(well=_YES_OR_NO, trouble=_TEXT, uuid=_TEXT, target_url=_TEXT)]
        },
        jobs=_object(**{state.value: _COUNT for state in JobState}),
        notifications=_object(**{verdict.value: _COUNT for verdict in Verdict}),
        missed=_object(recovered=_COUNT, refused=_COUNT, unknown=_COUNT),
        waiting_seconds={**_NUMBER_OR_NONE, "description": "since when the first job in turn is due"},
        incidents=_list_of(
            _object(
                kind={"type": "string", "enum": [kind.value for kind in IncidentKind]},
                since=_TIME_OR_NONE,
                until=_TIME,
                detail=_TEXT,
            )
        ),
        ended_by_minute=_list_of(_object(minute=_TIME, succeeded=_COUNT, dead=_COUNT)),
    ),
    "Cancellation": _optional(reason=_TEXT),
    "Selection": _optional(
        since={**_TEXT_OR_NONE, "description": "their notifications came at this time or later"},
        until={**_TEXT_OR_NONE, "description": "and at this time or before"},
        match={**_TEXT_OR_NONE, "description": "a JSONPath that their notifications match"},
        states=_list_of(_STATE),
        dry_run={**_YES_OR_NO, "description": "whether nothing is to be done but to count"},
    ),
    "Replayed": _object(
        count=_COUNT,
        jobs={**_list_of(_COUNT), "description": "their numbers; of many the first thousand"},
        dry_run=_YES_OR_NO,
    ),
    "Problem": _object(type=_TEXT, title=_TEXT, status=_COUNT, detail=_TEXT),
}

_PARAMETERS: dict[str, Any] = {
    "id": {"type": "integer", "minimum": 1},
    "path": {**_TEXT, "description": "with / between names"},
    "limit": {"type": "integer", "minimum": 1},
    "before": {"type": "integer", "minimum": 1},
    "offset": {"type": "integer"},
    "state": _STATE,
    "verdict": _VERDICT,
    "follow": {"type": "string", "enum": ["yes", "no"]},
}


def describe(routes: Sequence[Route]) -> dict[str, Any]:
    """Describe the API."""
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pacifica-notifications-consumer",
            "version": version("pacifica-notifications-consumer"),
            "description": "What a consumer has done with its notifications, and what can be done about its jobs.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _PARAMETERS[name]}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    parameters += [
        {"name": name, "in": "query", "description": meaning, "schema": _PARAMETERS[name]}
        for name, meaning in route.query.items()
    ]
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "responses": {"200": {"description": "Done.", "content": _content(route.answers)}},
    }
    if parameters:
        operation["parameters"] = parameters
    if route.takes:
        operation["requestBody"] = {"content": {"application/json": {"schema": _ref(route.takes)}}}
    for status in sorted({400, 401, *route.refusals}):
        problem = {"application/problem+json": {"schema": _ref("Problem")}}
        operation["responses"][str(status)] = {"description": HTTPStatus(status).phrase, "content": problem}
    return operation


def _content(answers: str) -> dict[str, Any]:
    if answers in SCHEMAS:
        return {"application/json": {"schema": _ref(answers)}}
    return {answers: {"schema": {} if answers == "application/json" else _TEXT}}
