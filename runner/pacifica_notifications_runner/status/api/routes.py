"""A router of requests to methods, whose parameters are read as the methods' signatures say."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import NoneType
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints, is_typeddict

import attrs

from pacifica_notifications_consumer.http.errors import HTTPError
from pacifica_notifications_runner.status.api.request import check_known, one_of

Method = TypeVar("Method", bound=Callable[..., Any])

#: Greater than any number in a ledger.
_LARGEST = 1 << 62
_POSITIVE = range(1, _LARGEST)
ANY_NUMBER = range(-_LARGEST, _LARGEST)


@attrs.frozen(kw_only=True)
class Parameter:
    """A value in a path or a query: an int, a bool, a str or a word of an enumeration."""

    name: str
    kind: type
    bounds: range = _POSITIVE
    meaning: str = ""

    @classmethod
    def of(cls, name: str, hint: Any) -> Parameter:
        """The parameter that an annotation describes, such as ``Annotated[int | None, range(1, 9), "its meaning"]``."""
        hint, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        kind = next(each for each in get_args(hint) or (hint,) if each is not NoneType)
        given = {"bounds" if isinstance(note, range) else "meaning": note for note in notes}
        return cls(name=name, kind=kind, **given)

    def read(self, text: str) -> Any:
        """Read a value."""
        if self.kind is bool:
            return text.lower() in ("1", "true", "yes", "on")
        if issubclass(self.kind, enum.Enum):
            return one_of(self.name, text, self.kind) if text else None
        if self.kind is not int:
            return text
        if re.fullmatch("-?[0-9]{1,20}", text) and int(text) in self.bounds:
            return int(text)
        first, last = self.bounds.start, self.bounds.stop - 1
        limits = f", from {first} to {last}" if last < _LARGEST - 1 else f", {first} or more" * (first > 0)
        raise HTTPError(HTTPStatus.BAD_REQUEST, f"{self.name} must be a number{limits}, not {text!r}")


@attrs.frozen
class Route:
    """A request, and the function that answers it, with the parameters and the document of the body as ``document``."""

    method: str
    #: A name in braces stands for a parameter.
    path: str
    function: Callable[..., Any]
    media_type: str
    #: The statuses of refusals, besides 400 and 401.
    refusals: tuple[int, ...]
    #: The types of the function's arguments and of the answer.
    hints: Mapping[str, Any]

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters of the path and the query."""
        named = {name: hint for name, hint in self.hints.items() if name not in ("document", "return")}
        return {name: Parameter.of(name, hint) for name, hint in named.items()}

    @property
    def takes(self) -> Any:
        """The type of the document in the body; None for a request without a body."""
        return self.hints.get("document")

    @property
    def answers(self) -> Any:
        """The type of the answer."""
        return self.hints["return"]

    @property
    def in_path(self) -> list[str]:
        """The names of the parameters in the path; the others are in the query."""
        return re.findall(r"\{(\w+)\}", self.path)

    def match(self, path: str) -> Mapping[str, str] | None:
        """The parameters in a path; None if the path is another route's."""
        # Only the parameter `path` may contain slashes.
        pattern = self.path.replace("{path}", "(?P<path>.+)")
        found = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern), path)
        return found.groupdict() if found else None

    def call(self, target: object, path: Mapping[str, str], query: Mapping[str, str], document: Any) -> Any:
        """Answer a request."""
        parameters, given = self.parameters, {**query, **path}
        check_known("parameter", query, parameters.keys() - path)
        values = {name: parameters[name].read(text) for name, text in given.items()}
        if self.takes:
            values["document"] = document or {}
            if is_typeddict(self.takes):
                check_known("field", values["document"], self.takes.__annotations__)
        elif document:
            raise HTTPError(HTTPStatus.BAD_REQUEST, "this request must not have a body")
        return self.function(target, **values)


@attrs.define
class Router:
    """Routes, and the dispatch of requests to them."""

    routes: list[Route] = attrs.field(factory=list, init=False)

    def route(
        self, method: str, path: str, *, media_type: str = "application/json", refusals: tuple[int, ...] = ()
    ) -> Callable[[Method], Method]:
        """Register the decorated method as a `Route`."""

        def add(function: Method) -> Method:
            hints = get_type_hints(function, include_extras=True)
            self.routes.append(Route(method, path, function, media_type, refusals, hints))
            return function

        return add

    def dispatch(
        self, target: object, method: str, path: str, query: Mapping[str, str], document: Any, *, unknown: str
    ) -> Any:
        """Answer a request with a method of ``target``; ``unknown`` is the reason if the path does not exist."""
        found = [(route, parts) for route in self.routes if (parts := route.match(path)) is not None]
        for route, parts in found:
            if route.method == method:
                return route.call(target, parts, query, document)
        if found:
            raise HTTPError(HTTPStatus.METHOD_NOT_ALLOWED, f"use {' or '.join(route.method for route, _ in found)}")
        raise HTTPError(HTTPStatus.NOT_FOUND, unknown)
