"""A router: which method answers which request, read from the signatures of the methods."""

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

#: More than any number in a ledger.
LARGEST = 1 << 62


@attrs.frozen
class Bounds:
    """The limits of a number, as part of an annotation; by default those of a number in a ledger."""

    least: int = 1
    most: int = LARGEST


@attrs.frozen(kw_only=True)
class Parameter:
    """A value in a path or a query.

    Args:
        name: Its name.
        kind: Its type: int, bool, str or an enumeration.
        bounds: The limits of a number.
        meaning: What it means, in words.
    """

    name: str
    kind: type
    bounds: Bounds = Bounds()
    meaning: str = ""

    @classmethod
    def of(cls, name: str, hint: Any) -> Parameter:
        """The parameter that an annotation describes, such as ``Annotated[int | None, Bounds(), "its meaning"]``."""
        hint, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        kind = next(each for each in get_args(hint) or (hint,) if each is not NoneType)
        bounds = next((note for note in notes if isinstance(note, Bounds)), Bounds())
        return cls(name=name, kind=kind, bounds=bounds, meaning=next((n for n in notes if isinstance(n, str)), ""))

    def read(self, text: str) -> Any:
        """Read a value.

        Raises:
            HTTPError: It is not a number, not a known word, or beyond the limits.
        """
        if self.kind is bool:
            return text.lower() in ("1", "true", "yes", "on")
        if issubclass(self.kind, enum.Enum):
            return one_of(self.name, text, self.kind) if text else None
        if self.kind is not int:
            return text
        least, most = self.bounds.least, self.bounds.most
        if not re.fullmatch("-?[0-9]{1,20}", text) or not least <= int(text) <= most:
            limits = f", from {least} to {most}" if most < LARGEST else f", {least} or more" if least > -LARGEST else ""
            raise HTTPError(HTTPStatus.BAD_REQUEST, f"{self.name} must be a number{limits}, not {text!r}")
        return int(text)


@attrs.frozen(kw_only=True)
class Route:
    """A request that a method answers.

    Args:
        method: The method of HTTP.
        path: The path; a name in braces stands for a parameter.
        function: The method that answers, with the parameters as its arguments and the body as its ``document``.
        media_type: The type of an answer that is not a document.
        refusals: The statuses of its refusals, besides 400 and 401.
        parameters: The parameters of the path and the query.
        takes: The type of the document in the body; None if there is none.
        answers: The type that it returns.
    """

    method: str
    path: str
    function: Callable[..., Any]
    media_type: str
    refusals: tuple[int, ...]
    parameters: Mapping[str, Parameter]
    takes: Any
    answers: Any

    @property
    def name(self) -> str:
        """The name of the method that answers."""
        return self.function.__name__

    @property
    def summary(self) -> str:
        """What it does: the first line of the method's docstring."""
        return str(self.function.__doc__).partition("\n")[0]

    @property
    def in_path(self) -> list[str]:
        """The names of the parameters in the path."""
        return re.findall(r"\{(\w+)\}", self.path)

    @property
    def in_query(self) -> list[str]:
        """The names of the parameters in the query."""
        return [name for name in self.parameters if name not in self.in_path]

    def match(self, path: str) -> Mapping[str, str] | None:
        """The parameters in a path; None if it is another route's."""
        # Only a path within a path may hold slashes.
        pattern = self.path.replace("{path}", "(?P<path>.+)")
        found = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern), path)
        return found.groupdict() if found else None

    def call(self, target: object, path: Mapping[str, str], query: Mapping[str, str], document: Any) -> Any:
        """Answer a request.

        Raises:
            HTTPError: A parameter or a field is unknown or cannot be understood, or the method refuses.
        """
        check_known("parameter", query, self.in_query)
        given = {**query, **path}
        values = {name: each.read(given[name]) for name, each in self.parameters.items() if name in given}
        if self.takes:
            if is_typeddict(self.takes):
                check_known("field", document or {}, get_type_hints(self.takes))
            values["document"] = document or {}
        elif document:
            raise HTTPError(HTTPStatus.BAD_REQUEST, "no body is expected here")
        return self.function(target, **values)


class Router:
    """Routes, and the dispatch of requests to them."""

    def __init__(self) -> None:
        self.routes: list[Route] = []

    def get(
        self, path: str, *, media_type: str = "application/json", refusals: tuple[int, ...] = ()
    ) -> Callable[[Method], Method]:
        """Let a method answer ``GET`` requests of a path."""
        return lambda function: self._add("GET", path, function, media_type, refusals)

    def post(self, path: str, *, refusals: tuple[int, ...] = ()) -> Callable[[Method], Method]:
        """Let a method answer ``POST`` requests of a path."""
        return lambda function: self._add("POST", path, function, "application/json", refusals)

    def _add(self, method: str, path: str, function: Method, media_type: str, refusals: tuple[int, ...]) -> Method:
        hints = get_type_hints(function, include_extras=True)
        takes, answers = hints.pop("document", None), hints.pop("return")
        parameters = {name: Parameter.of(name, hint) for name, hint in hints.items()}
        self.routes.append(
            Route(
                method=method,
                path=path,
                function=function,
                media_type=media_type,
                refusals=refusals,
                parameters=parameters,
                takes=takes,
                answers=answers,
            )
        )
        return function

    def dispatch(
        self, target: object, method: str, path: str, query: Mapping[str, str], document: Any, *, unknown: str
    ) -> Any:
        """Have an object answer a request.

        Args:
            target: The object, of the class whose methods the routes are.
            method: The method of HTTP.
            path: The path.
            query: The parameters of the query.
            document: The body's document; None or empty if there is none.
            unknown: What to say of a path that does not exist.

        Raises:
            HTTPError: There is no such path or method, or the request cannot be met.
        """
        found = [(route, parts) for route in self.routes if (parts := route.match(path)) is not None]
        for route, parts in found:
            if route.method == method:
                return route.call(target, parts, query, document)
        if found:
            methods = " or ".join(route.method for route, _ in found)
            raise HTTPError(HTTPStatus.METHOD_NOT_ALLOWED, f"use {methods}")
        raise HTTPError(HTTPStatus.NOT_FOUND, unknown)
