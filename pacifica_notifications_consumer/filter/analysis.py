"""Find what a JSONPath can never find in documents of a known structure: misspelt names, and impossible conditions.

The path is followed as in a search, with the shapes of all possible values at each step in place of values: a dict for
an object, a list for an array, a tuple of the possible texts (an empty one for any text; ``*`` at the end of a text
stands for any characters), ``float`` for a number, and None for any value.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jsonpath2.expression import Expression
from jsonpath2.expressions import operator as operators
from jsonpath2.expressions.some import SomeExpression
from jsonpath2.node import Node
from jsonpath2.nodes.recursivedescent import RecursiveDescentNode
from jsonpath2.nodes.root import RootNode
from jsonpath2.nodes.subscript import SubscriptNode
from jsonpath2.nodes.terminal import TerminalNode
from jsonpath2.path import Path
from jsonpath2.subscript import Subscript
from jsonpath2.subscripts.arrayindex import ArrayIndexSubscript
from jsonpath2.subscripts.arrayslice import ArraySliceSubscript
from jsonpath2.subscripts.filter import FilterSubscript
from jsonpath2.subscripts.objectindex import ObjectIndexSubscript
from jsonpath2.subscripts.wildcard import WildcardSubscript

from .compiler import only_member

_MOST_NAMED = 12
_ESCAPED = re.compile(r'"(?:[^"\\]|\\.)*\\.(?:[^"\\]|\\.)*"')
_WILDCARD = re.compile(r'=\s*("[^"*]*\*[^"]*")')
_EQUALITY = (operators.EqualBinaryOperatorExpression, operators.NotEqualBinaryOperatorExpression)
#: A sentence about a part of a path that finds nothing or never holds, and what to write instead.
Problem = tuple[str, str]


def analyse(
    jsonpath: str, documents: Sequence[Mapping[str, Any]], replaced: Mapping[str, str]
) -> tuple[bool, list[Problem]]:
    """Analyse a path that can be parsed.

    Args:
        jsonpath: The path.
        documents: The shapes of the documents that it is tested on.
        replaced: Advice for values that documents had in the past.

    Returns:
        Whether the path can find anything, and its problems.
    """
    try:
        return _analyse(jsonpath, _Walk(documents), replaced)
    except RecursionError:
        return True, []


def _analyse(jsonpath: str, walk: _Walk, replaced: Mapping[str, str]) -> tuple[bool, list[Problem]]:
    possible = bool(walk.follow(Path.parse_str(jsonpath).root_node, walk.documents))
    problems = [
        _unknown_member(part.index, shapes)
        if isinstance(part, ObjectIndexSubscript)
        else _impossible_comparison(part, shapes, replaced)
        for part, shapes in walk.failed()
    ]
    if not possible and not problems:
        part = f"[{''.join(walk.contradiction.__jsonpath__())}]" if walk.contradiction else "its last step"
        advice = 'test one row with each filter, as in $[?(@["data"][*][?(…)] and @["data"][*][?(…)])]'
        problems = [(f"{part} finds nothing: its conditions exclude each other, or those before it", advice)]
    for text in _WILDCARD.findall(jsonpath):
        before, _, after = text.strip('"').partition("*")
        part = f"0, {len(before)}" if before else f"-{len(after)}"
        advice = f'compare a part of it, as in [substring({part})] = "{before or after}"'
        problem = f"jsonpath2 has no wildcards: it looks for {text} with the asterisk"
        problems.append((problem, advice if before or after else "leave it out"))
    for text in _ESCAPED.findall(jsonpath):
        problem = f"jsonpath2 does not decode escapes: it looks for {text} with the backslash"
        problems.append((problem, "leave it out; texts cannot contain double quotes"))
    return possible, list(dict.fromkeys(problems))


class _Walk:
    def __init__(self, documents: Sequence[Any]) -> None:
        self.documents = documents
        #: For each name and each comparison the known shapes that it was tried on, and whether it succeeded.
        self._tried: dict[int, tuple[Any, list[Any], list[bool]]] = {}
        self.contradiction: FilterSubscript | None = None

    def failed(self) -> Iterator[tuple[Any, list[Any]]]:
        """The names and comparisons that never succeeded, with the shapes that they were tried on."""
        return ((part, shapes) for part, shapes, success in self._tried.values() if shapes and not any(success))

    def _note(self, part: object, shapes: Iterable[Any], success: bool) -> None:
        _, tried, successes = self._tried.setdefault(id(part), (part, [], []))
        tried.extend(each for each in shapes if each is not None)
        successes.append(success)

    def follow(self, node: Node, shapes: Sequence[Any]) -> Sequence[Any]:
        """The shapes that a path finds."""
        lost = False
        while not isinstance(node, TerminalNode):
            if isinstance(node, RootNode):
                shapes = self.documents
            elif isinstance(node, RecursiveDescentNode):
                shapes = list(_descendants(shapes))
            elif isinstance(node, SubscriptNode):
                found = [each for subscript in node.subscripts for each in self._select(subscript, shapes)]
                if not found and not any(isinstance(each, FilterSubscript) for each in node.subscripts):
                    return []
                # After a filter that nothing passes, go on nevertheless, to find all misspelt names at once.
                lost = lost or not found
                shapes = list({id(each): each for each in found or shapes}.values())
            node = node.next_node
        return [] if lost else shapes

    def _select(self, subscript: Subscript, shapes: Sequence[Any]) -> list[Any]:
        if isinstance(subscript, ObjectIndexSubscript):
            found = [each[subscript.index] for each in shapes if isinstance(each, dict) and subscript.index in each]
            self._note(subscript, shapes, bool(found))
            return found + [each for each in shapes if each is None]
        if isinstance(subscript, FilterSubscript):
            passing = [each for each in shapes if self._test(subscript.expression, each)[0]]
            if shapes and not passing:
                self.contradiction = self.contradiction or subscript
            return passing
        if isinstance(subscript, WildcardSubscript):
            return [child for each in shapes for child in _children(each)]
        if isinstance(subscript, ArrayIndexSubscript | ArraySliceSubscript):
            return [child for each in shapes if not isinstance(each, dict) for child in _children(each)]
        return [None]

    def _test(self, expression: Expression, shape: object) -> tuple[bool, bool]:
        """Whether a condition may hold, and whether it may fail."""
        if isinstance(expression, operators.NotUnaryOperatorExpression):
            holds, fails = self._test(expression.expression, shape)
            return fails, holds
        if isinstance(expression, operators.VariadicOperatorExpression):
            hold, fail = zip(*(self._test(each, shape) for each in expression.expressions), strict=True)
            is_and = isinstance(expression, operators.AndVariadicOperatorExpression)
            return (all(hold), any(fail)) if is_and else (any(hold), all(fail))
        if isinstance(expression, operators.BinaryOperatorExpression):
            return self._compare(expression, shape)
        if isinstance(expression, SomeExpression) and isinstance(expression.next_node_or_value, Node):
            return bool(self.follow(expression.next_node_or_value, [shape])), True
        return True, True

    def _compare(self, comparison: Any, shape: object) -> tuple[bool, bool]:
        path, constant = _sides(comparison)
        if not isinstance(path, Node) or isinstance(constant, Node):
            return True, True
        shapes = self.follow(path, [shape])
        may_hold = _may_equal if isinstance(comparison, _EQUALITY) else _may_order
        possible = any(may_hold(each, constant) for each in shapes)
        certain = [each == (constant,) and "*" not in str(constant) for each in shapes]
        self._note(comparison, shapes, any(each is not None and may_hold(each, constant) for each in shapes))
        if isinstance(comparison, operators.NotEqualBinaryOperatorExpression):
            return not all(certain), True
        # Only a name is sure to find a value; a longer path may find none.
        return possible, only_member(path) is None or not any(certain)


def _sides(comparison: Any) -> tuple[Any, Any]:
    left, right = comparison.left_node_or_value, comparison.right_node_or_value
    return (left, right) if isinstance(left, Node) else (right, left)


def _may_equal(shape: Any, constant: object) -> bool:
    if isinstance(shape, tuple) and isinstance(constant, str):
        known = (constant == text or (text[-1:] == "*" and constant.startswith(text[:-1])) for text in shape)
        return not shape or any(known)
    return shape is None or isinstance(constant, int | float if shape is float else type(shape))


def _may_order(shape: object, constant: object) -> bool:
    return isinstance(constant, int | float) and shape in (None, float)


def _children(shape: Any) -> Iterable[Any]:
    if isinstance(shape, dict):
        return shape.values()
    return shape if isinstance(shape, list) else [None] if shape is None else []


def _descendants(shapes: Iterable[Any]) -> Iterator[Any]:
    for shape in shapes:
        yield shape
        yield from _descendants(_children(shape) if shape is not None else ())


def _unknown_member(name: str, shapes: Sequence[Any]) -> Problem:
    objects = [each for each in shapes if isinstance(each, dict)]
    known, shown = list(dict.fromkeys(member for each in objects for member in each)), _shown(name)
    items = [item for each in shapes if isinstance(each, list) for item in each if isinstance(item, dict)]
    below = [member for item in items for member in item]
    if below and (name in below or not nearest(name, known)):
        near = _shown(nearest(name, below) or below[0])
        return f"{shown} is looked for in an array, not in its items", f'write $["data"][*][?(@[{near}] = …)]'
    for member in (member for each in objects for member, texts in each.items() if texts == (name,)):
        return f"{shown} is not a member, but a value", f"write [?(@[{_shown(member)}] = {shown})]"
    return f"there is no member {shown}", suggest(name, known)


def _impossible_comparison(comparison: Any, shapes: Sequence[Any], replaced: Mapping[str, str]) -> Problem:
    path, constant = _sides(comparison)
    if isinstance(comparison, _EQUALITY) and isinstance(constant, str) and all(isinstance(s, tuple) for s in shapes):
        known = list(dict.fromkeys(text for texts in shapes for text in texts))
        return f"{''.join(path.__jsonpath__())} is never {_shown(constant)}", replaced.get(
            constant, suggest(constant, known)
        )
    problem = f"{''.join(comparison.__jsonpath__())} compares values of different types, or texts by their order"
    return problem, 'compare texts with =, or parts of them, as in @["mtime"][substring(0, 7)] = "2026-11"'


def suggest(name: str, known: Sequence[str]) -> str:
    """The advice to write a known name instead of one that is not known."""
    if near := nearest(name, known):
        return f"did you mean {_shown(near)}?"
    return f"correct it; there are {', '.join(map(_shown, known[:_MOST_NAMED]))}" if known else "leave it out"


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most similar to a name, or ends with it; empty if none is."""
    plain = {_plain(each): each for each in known}
    close = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.6)
    close = close or [each for each in plain if _plain(name) and each.endswith(_plain(name))]
    return plain[close[0]] if close else ""


def _shown(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace('*"', '…"')


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()
