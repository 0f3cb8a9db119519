"""The JSONPath that decides whether a notification concerns a consumer.

The dialect and its semantics are those of the package jsonpath2, which reads the expression; then it is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .errors import FilterError


class Filter:
    """A JSONPath to test notifications against.

    Args:
        jsonpath: An expression of jsonpath2's dialect, such as ``$["data"][*]``.

    Raises:
        FilterError: The expression cannot be parsed; the message points at the place.
    """

    def __init__(self, jsonpath: str) -> None:
        # Imported late: the ANTLR runtime beneath it costs more than the rest of this library together.
        from jsonpath2.path import Path

        from .filter_compiler import compile_node

        _check_syntax(jsonpath)
        try:
            self._find, self._test = compile_node(Path.parse_str(jsonpath).root_node)
        except ValueError as error:
            raise FilterError(f"cannot parse the JSONPath {jsonpath!r}: {error}", _DIALECT) from error
        self.jsonpath = jsonpath

    def matches(self, event: Any) -> bool:
        """Whether the expression finds anything in an event, stopping at the first hit.

        Args:
            event: A notification as ``json.loads`` returns it.

        Raises:
            FilterError: The expression cannot be evaluated on this event, as with a slice of
                step 0.
        """
        try:
            return self._test(event, event)
        except _FAILURES as error:
            raise self._failure(error) from error

    def find(self, event: Any) -> Iterator[Any]:
        """Iterate over the values that the expression finds in an event, in jsonpath2's order.

        Raises:
            FilterError: As `matches`.
        """
        try:
            yield from self._find(event, event)
        except _FAILURES as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> FilterError:
        return FilterError(
            f"the JSONPath {self.jsonpath!r} failed on this event: {type(error).__name__}: {error}",
            "correct the expression so that it can be evaluated on such events",
        )

    def __eq__(self, other: object) -> bool:
        return self.jsonpath == other.jsonpath if isinstance(other, Filter) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.jsonpath)

    def __repr__(self) -> str:
        return f"Filter({self.jsonpath!r})"

    def __reduce__(self) -> tuple[Callable[[str], Filter], tuple[str]]:
        return Filter, (self.jsonpath,)


_FAILURES = (TypeError, ValueError, LookupError, AttributeError, RecursionError)
_DIALECT = "write it in jsonpath2's dialect, as in " + '$["data"][*][?(@["destinationTable"] = "Files")]'


def _check_syntax(jsonpath: str) -> None:
    """Parse once with an error listener of our own.

    jsonpath2's parser keeps ANTLR's default listener, which writes to the standard error of whoever uses it.
    """
    import antlr4
    from antlr4.error.ErrorListener import ErrorListener
    from jsonpath2.parser.JSONPathLexer import JSONPathLexer
    from jsonpath2.parser.JSONPathParser import JSONPathParser

    class Pointer(ErrorListener):  # type: ignore[misc]  # the base publishes no types
        def syntaxError(  # noqa: N802  (ANTLR's name and arguments)
            self, _recognizer: Any, _symbol: Any, line: int, column: int, message: str, _error: Any
        ) -> None:
            raise _syntax_error(jsonpath, line, column, message)

    class Parser(JSONPathParser):  # type: ignore[misc]
        def tryCast(self, kind: type) -> bool:  # noqa: N802  (the grammar's predicates call it)
            try:
                kind(self._input.LT(-1).text)
            except ValueError:
                return False
            return True

    lexer = JSONPathLexer(antlr4.InputStream(jsonpath))
    parser = Parser(antlr4.CommonTokenStream(lexer))
    for recognizer in (lexer, parser):
        recognizer.removeErrorListeners()
        recognizer.addErrorListener(Pointer())
    try:
        parser.jsonpath()
    except RecursionError as error:
        raise FilterError("cannot parse the JSONPath: it is nested too deeply", "shorten it") from error


def _syntax_error(jsonpath: str, line: int, column: int, message: str) -> FilterError:
    text = jsonpath.splitlines()[line - 1] if jsonpath.strip() else jsonpath
    # A long expression is shown around the place only.
    start = max(0, column - 60)
    excerpt = text[start : column + 40]
    output = f"{excerpt}\n{' ' * (column - start)}^"
    return FilterError(
        f"cannot parse the JSONPath: line {line}, column {column + 1}: {message}", _DIALECT, output=output
    )
