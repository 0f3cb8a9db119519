"""The OpenAPI description of the API (https://spec.openapis.org/oas/v3.1.0), derived from its routes and documents."""

from __future__ import annotations

from collections import abc
from http import HTTPStatus
from importlib.metadata import version
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints, is_typeddict

import attrs

from pacifica_notifications_runner.status.api.documents import TIMES, ProblemDocument, Time
from pacifica_notifications_runner.status.api.routes import ANY_NUMBER, Parameter, Route, Router

_SUFFIX = "Document"
#: All integers that cannot be null are counts or numbers in the ledger.
_SIMPLE: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer", "minimum": 0},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    Time: {"type": "string", "format": "date-time"},
}


def describe(router: Router) -> dict[str, Any]:
    """The description of the API of a router."""
    paths: dict[str, Any] = {}
    for route in router.routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pacifica-notifications-consumer",
            "version": version("pacifica-notifications-consumer"),
            "description": "The notifications and jobs of a consumer: to look at, and to run again or cancel.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {"schemas": _schemas(router), "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.function.__name__,
        "summary": route.function.__doc__,
        "responses": {"200": {"description": "Done.", "content": {route.media_type: {"schema": _answer(route)}}}},
    }
    if route.parameters:
        operation["parameters"] = [_parameter(each, route) for each in route.parameters.values()]
    if route.takes:
        operation["requestBody"] = {"content": {"application/json": {"schema": schema_of(route.takes)}}}
    for status in sorted({400, 401, *route.refusals}):
        problem = {"application/problem+json": {"schema": schema_of(ProblemDocument)}}
        operation["responses"][str(status)] = {"description": HTTPStatus(status).phrase, "content": problem}
    return operation


def _answer(route: Route) -> dict[str, Any]:
    if is_typeddict(route.answers):
        return schema_of(route.answers)
    return {} if route.media_type == "application/json" else _SIMPLE[str]


def _parameter(parameter: Parameter, route: Route) -> dict[str, Any]:
    if parameter.kind is bool:
        schema: dict[str, Any] = {"type": "string", "enum": ["yes", "no"]}
    elif parameter.kind is int:
        least = {} if parameter.bounds is ANY_NUMBER else {"minimum": parameter.bounds.start}
        schema = {"type": "integer", **least}
    else:
        schema = schema_of(parameter.kind)
    location: dict[str, Any] = {"in": "path", "required": True} if parameter.name in route.in_path else {"in": "query"}
    description = {"description": parameter.meaning} if parameter.meaning else {}
    return {"name": parameter.name, "schema": schema, **location, **description}


def _schemas(router: Router) -> dict[str, Any]:
    """The named schemas that the API refers to."""
    found: dict[str, Any] = {}
    kinds: list[Any] = [ProblemDocument, *(kind for each in router.routes for kind in (each.answers, each.takes))]
    for kind in kinds:
        if _is_named(kind):
            found[_name(kind)] = _object(kind)
            kinds += [each for hint in _hints(kind).values() for each in get_args(hint)]
    return found


def _is_named(kind: Any) -> bool:
    return is_typeddict(kind) and str(kind.__name__).endswith(_SUFFIX)


def _name(kind: Any) -> str:
    return str(kind.__name__).removesuffix(_SUFFIX)


def _hints(kind: Any) -> dict[str, Any]:
    """The types of a type's fields; times, which are numbers in attrs classes, are texts."""
    hints = get_type_hints(kind, include_extras=True)
    for name in TIMES & hints.keys() if attrs.has(kind) else ():
        hints[name] = Time | None if NoneType in get_args(hints[name]) else Time
    return hints


def _object(kind: Any) -> dict[str, Any]:
    """The schema of a type with fields."""
    properties = {name: schema_of(hint) for name, hint in _hints(kind).items()}
    required = {"required": list(properties)} if getattr(kind, "__total__", True) else {}
    return {"type": "object", "properties": properties, "additionalProperties": False, **required}


def schema_of(hint: Any) -> dict[str, Any]:
    """The JSON schema of a type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    if _is_named(hint):
        return {"$ref": f"#/components/schemas/{_name(hint)}"}
    if is_typeddict(hint) or attrs.has(hint):
        return _object(hint)
    if origin is Annotated:
        kind, note = arguments
        return {**schema_of(kind), "description": note} if isinstance(note, str) else schema_of(note)
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is abc.Mapping:
        return _mapping(*arguments)
    if NoneType in arguments:
        return _or_null(schema_of(next(each for each in arguments if each is not NoneType)))
    # The only other types are enumerations.
    return {"type": "string", "enum": [word.value for word in hint]}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    if schema["type"] == "object":
        return {"oneOf": [{"type": "null"}, schema]}
    return {**schema, "type": [schema["type"], "null"]} if "minimum" not in schema else {"type": ["integer", "null"]}


def _mapping(key: Any, value: Any) -> dict[str, Any]:
    """The schema of a mapping; one from words has all the words as keys."""
    if key is str:
        return {"type": "object", "additionalProperties": schema_of(value)}
    words = schema_of(key)["enum"]
    properties = {word: schema_of(value) for word in words}
    return {"type": "object", "properties": properties, "additionalProperties": False, "required": words}
