"""The JSONPath that decides whether a notification concerns a consumer.

The dialect and its semantics are those of the package jsonpath2, which parses the expression; then it is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import FilterError

if TYPE_CHECKING:
    from .explanation import Explanation


class Filter:
    """A JSONPath to test notifications against.

    It finds the same values as jsonpath2, in the same order, except that events may be nested more deeply.

    Args:
        jsonpath: An expression of jsonpath2's dialect, such as ``$["data"][*]``.

    Raises:
        FilterError: The expression cannot be parsed; the message shows the position. Or a slice has a step of zero.
    """

    def __init__(self, jsonpath: str) -> None:
        # Imported late: importing the ANTLR runtime takes longer than importing the rest of this library.
        from jsonpath2.path import Path

        from .compiler import compile_node
        from .generator import generate_test
        from .syntax import FUNCTIONS, check_syntax

        check_syntax(str(jsonpath))
        try:
            self._root = Path.parse_str(jsonpath).root_node
        except ValueError as error:
            problem = str(error).replace("callable subscript", "the function").replace("not found", "does not exist")
            raise FilterError(f"cannot parse the JSONPath: {problem}", FUNCTIONS) from error
        self._find = compile_node(self._root).find
        self._test = generate_test(self._root)
        self.jsonpath = jsonpath

    def matches(self, event: Any) -> bool:
        """Whether the expression finds a value in an event; stops at the first one.

        Args:
            event: A notification as ``json.loads`` returns it.

        Raises:
            FilterError: The expression cannot be evaluated on this event.
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

    def explain(self, event: Any) -> Explanation:
        """Explain why an event matches, or which step of the path ended the search, with sample values.

        Raises:
            FilterError: As `matches`.
        """
        from .explanation import explain

        try:
            return explain(self._root, event)
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
