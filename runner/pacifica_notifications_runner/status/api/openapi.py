"""The OpenAPI description of the API (https://spec.openapis.org/oas/v3.1.0), derived from its routes and documents."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, is_typeddict

import attrs

from pacifica_notifications_runner.status.api.documents import ProblemDocument, Time, hints_of
from pacifica_notifications_runner.status.api.routes import LARGEST, Parameter, Route, Router

_SUFFIX = "Document"
#: A number that is always there is a count.
_SIMPLE: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer", "minimum": 0},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    Time: {"type": "string", "format": "date-time"},
}


def describe(router: Router) -> dict[str, Any]:
    """Describe an API.

    Args:
        router: Its routes.
    """
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
        "components": {
            "schemas": _schemas(router),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
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
    return {} if route.media_type == "application/json" else {"type": "string"}


def _parameter(parameter: Parameter, route: Route) -> dict[str, Any]:
    schema = schema_of(parameter.kind)
    if parameter.kind is bool:
        schema = {"type": "string", "enum": ["yes", "no"]}
    elif parameter.kind is int:
        schema = {"type": "integer", "minimum": parameter.bounds.least}
        if parameter.bounds.least == -LARGEST:
            del schema["minimum"]
    described: dict[str, Any] = {"name": parameter.name, "in": "query", "schema": schema}
    if parameter.name in route.in_path:
        described |= {"in": "path", "required": True}
    return described | ({"description": parameter.meaning} if parameter.meaning else {})


def _schemas(router: Router) -> dict[str, Any]:
    """All schemas with a name that an API refers to."""
    found: dict[str, Any] = {}
    kinds: list[Any] = [kind for route in router.routes for kind in (route.answers, route.takes)]
    kinds.append(ProblemDocument)
    for kind in kinds:
        if _is_named(kind) and kind.__name__ not in found:
            found[kind.__name__] = _object(kind)
            kinds += [each for hint in hints_of(kind).values() for each in get_args(hint)]
    return {name.removesuffix(_SUFFIX): schema for name, schema in found.items()}


def _is_named(kind: Any) -> bool:
    return is_typeddict(kind) and str(kind.__name__).endswith(_SUFFIX)


def _object(kind: Any) -> dict[str, Any]:
    """The schema of a type with fields."""
    described = {
        "type": "object",
        "properties": {name: schema_of(hint) for name, hint in hints_of(kind).items()},
        "additionalProperties": False,
    }
    return described | ({"required": list(hints_of(kind))} if getattr(kind, "__total__", True) else {})


def schema_of(hint: Any) -> dict[str, Any]:
    """The JSON schema of a type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _SIMPLE:
        return dict(_SIMPLE[hint])
    if _is_named(hint):
        return {"$ref": f"#/components/schemas/{hint.__name__.removesuffix(_SUFFIX)}"}
    if is_typeddict(hint) or attrs.has(hint):
        return _object(hint)
    if origin is Annotated:
        kind, note = arguments
        return {**schema_of(kind), "description": note} if isinstance(note, str) else schema_of(note)
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin in (Union, UnionType):
        return _or_null(schema_of(next(each for each in arguments if each is not NoneType)))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(*arguments)
    if issubclass(hint, enum.Enum):
        return {"type": "string", "enum": [word.value for word in hint]}
    raise TypeError(f"there is no schema of {hint}")


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    if schema["type"] == "object":
        return {"oneOf": [{"type": "null"}, schema]}
    schema.pop("minimum", None)
    return {**schema, "type": [schema["type"], "null"]}


def _mapping(key: Any, value: Any) -> dict[str, Any]:
    """The schema of a mapping: one with words as its keys has all of them."""
    if key is str:
        return {"type": "object", "additionalProperties": schema_of(value)}
    words = schema_of(key)["enum"]
    return {
        "type": "object",
        "properties": {word: schema_of(value) for word in words},
        "additionalProperties": False,
        "required": words,
    }
