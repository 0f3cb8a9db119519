"""Find what a JSONPath can never find in documents of a known structure: misspelt names, and impossible conditions.

The path is followed as in a search, with the shapes of all possible values at each step in place of values: a dict for
an object, a list for an array, a tuple of the possible texts (an empty one for any text; ``*`` at the end of a text
stands for any characters), a `Form` for a text of that form, a range for a text of such a length, ``float`` for a
number, and None for any value.
"""

from __future__ import annotations

import difflib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
from jsonpath2.expressions import operator as operators
from jsonpath2.node import Node
from jsonpath2.nodes.recursivedescent import RecursiveDescentNode
from jsonpath2.nodes.root import RootNode
from jsonpath2.nodes.subscript import SubscriptNode
from jsonpath2.nodes.terminal import TerminalNode
from jsonpath2.path import Path
from jsonpath2.subscript import Subscript
from jsonpath2.subscripts import callable as calls
from jsonpath2.subscripts.arrayindex import ArrayIndexSubscript
from jsonpath2.subscripts.arrayslice import ArraySliceSubscript
from jsonpath2.subscripts.filter import FilterSubscript
from jsonpath2.subscripts.objectindex import ObjectIndexSubscript
from jsonpath2.subscripts.wildcard import WildcardSubscript

from .compiler import only_member

_MOST_NAMED, _MOST_WAYS = 12, 64
#: A path that finds at most one value.
_SINGLE = re.compile(r'@(\["[^"]*"\]|\[-?\d+\]|\[\w+\([-\d,]*\)\])*')
_ESCAPED = re.compile(r'"(?:[^"\\]|\\.)*\\.(?:[^"\\]|\\.)*"')
_WILDCARD = re.compile(r'=\s*("[^"*]*\*[^"]*")')
_EQUALITY = (operators.EqualBinaryOperatorExpression, operators.NotEqualBinaryOperatorExpression)
#: A sentence about a part of a path that finds nothing or never holds, and what to write instead.
Problem = tuple[str, str]


@attrs.frozen
class Form:
    """The shape of a text that matches a pattern as a whole."""

    pattern: str
    advice: str  #: for a comparison with a text that does not


def analyse(
    jsonpath: str, documents: Sequence[Mapping[str, Any] | None], replaced: Mapping[str, str]
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
    except (RecursionError, OverflowError):
        return True, []


def _analyse(jsonpath: str, walk: _Walk, replaced: Mapping[str, str]) -> tuple[bool, list[Problem]]:
    possible = bool(walk.follow(Path.parse_str(jsonpath).root_node, walk.documents))
    problems = [
        _unknown_member(part.index, shapes, replaced)
        if isinstance(part, ObjectIndexSubscript)
        else _impossible_comparison(part, shapes, replaced)
        for part, shapes in walk.failed()
    ]
    if not possible and not problems:
        part = f"[{''.join(walk.contradiction.__jsonpath__())}]" if walk.contradiction else "its last step"
        advice = 'write or, or test one row with each filter, as in $[?(@["data"][*][?(…)] and @["data"][*][?(…)])]'
        problems = [(f"nothing can meet all conditions of {part} and of the steps before it", advice)]
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
            passing = [each for each in shapes if self._meet(subscript.expression, each, {}, True)]
            if shapes and not passing:
                self.contradiction = self.contradiction or subscript
            return passing
        if isinstance(subscript, WildcardSubscript):
            return [child for each in shapes for child in _children(each)]
        if isinstance(subscript, ArrayIndexSubscript | ArraySliceSubscript):
            return [child for each in shapes if not isinstance(each, dict) for child in _children(each)]
        return [_called(subscript)]

    def _meet(self, expression: Any, shape: object, known: Mapping[str, Any], holds: bool) -> list[Mapping[str, Any]]:
        """For each way in which a condition may hold, or fail, the tests known of each path, with their constants."""
        if isinstance(expression, operators.NotUnaryOperatorExpression):
            return self._meet(expression.expression, shape, known, not holds)
        if isinstance(expression, operators.VariadicOperatorExpression):
            if isinstance(expression, operators.AndVariadicOperatorExpression) is not holds:
                return [way for each in expression.expressions for way in self._meet(each, shape, known, holds)]
            ways, lost = [known], False
            for each in expression.expressions:
                met = [after for before in ways for after in self._meet(each, shape, before, holds)]
                # Go on as in `follow`.
                lost, ways = lost or not met, met if 0 < len(met) <= _MOST_WAYS else [known]
            return [] if lost else ways
        path, constant, test = _sides(expression)
        if not isinstance(path, Node) or isinstance(constant, Node):
            return [known]
        shapes, name = self.follow(path, [shape]), "".join(path.__jsonpath__())
        if constant is not ...:
            may_hold = _may_equal if isinstance(expression, _EQUALITY) else _may_order
            # Such a part of a text would be the whole text.
            short = [each for each in shapes if isinstance(each, range) and 0 < len(str(constant)) < each[-1]]
            self._note(expression, shapes, any(may_hold(one, constant) for one in shapes if one not in (None, *short)))
        tests = [*known.get(name, ()), (test, constant, holds)]
        # A name with only one possible text is in every object; what is not there fails all tests.
        certain = only_member(path) and [len(each) for each in shapes if isinstance(each, tuple)] == [1]
        absent = not certain and not any(holds for _, _, holds in tests)
        values = _values(shapes, [constant for _, constant, _ in tests])
        possible = absent or any(all(test(value) == holds for test, _, holds in tests) for value in values)
        return [{**known, name: tests} if _SINGLE.fullmatch(name) else known] if possible else []


def _sides(expression: Any) -> tuple[Any, Any, Callable[[Any], Any]]:
    """The path in a condition, the constant, and the condition as a function of the path's value."""
    if not isinstance(expression, operators.BinaryOperatorExpression):
        return getattr(expression, "next_node_or_value", None), ..., lambda _: True
    left, right, callback = expression.left_node_or_value, expression.right_node_or_value, expression.callback
    if isinstance(left, Node):
        return left, right, lambda value: callback(value, right)
    return right, left, lambda value: callback(left, value)


def _values(shapes: Iterable[Any], constants: Sequence[Any]) -> Iterator[Any]:
    """Values of the shapes, of which one behaves in comparisons with the constants as any other value does."""
    numbers = sorted({each for each in constants if isinstance(each, int | float)}) or [0]
    between = [numbers[0] - 1, *(math.floor(each) + 1 for each in numbers)]
    between += [(one + other) / 2 for one, other in itertools.pairwise(numbers)]
    unlike = "".join(each for each in constants if isinstance(each, str)) + "?"
    for shape in shapes:
        yield from (each for each in (*constants, *between, unlike) if _may_equal(shape, each))
        yield from (text.replace("*", unlike) for text in shape) if isinstance(shape, tuple) else [object()]


def _called(call: Any) -> Any:
    """The shape of what a call makes."""
    numbers = getattr(call, "args", ())
    if isinstance(call, calls.SubstringCallableSubscript) and all(isinstance(each, int) for each in numbers):
        longest = max(len(range(size)[slice(*[*numbers, None][:2])]) for size in (*map(abs, numbers), 10**6))
        return range(longest + 1) if longest < 10**5 else ()
    return {calls.LengthCallableSubscript: float, calls.CharAtCallableSubscript: range(1, 2)}.get(type(call))


def _may_equal(shape: Any, constant: object) -> bool:
    if isinstance(shape, Form):
        return isinstance(constant, str) and bool(re.fullmatch(shape.pattern, constant, re.DOTALL))
    if isinstance(shape, range):
        return isinstance(constant, str) and len(constant) in shape
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


def _unknown_member(name: str, shapes: Sequence[Any], replaced: Mapping[str, str]) -> Problem:
    objects = [each for each in shapes if isinstance(each, dict)]
    known, shown = list(dict.fromkeys(member for each in objects for member in each)), _shown(name)
    items = [item for each in shapes if isinstance(each, list) for item in each if isinstance(item, dict)]
    below = [member for item in items for member in item]
    for path, rows in (("", objects), ('$["data"][*]', items)):
        for member, texts in (each for row in rows for each in row.items() if isinstance(each[1], tuple)):
            if list(map(_plain, texts)) == [_plain(name)]:
                step = f"[?(@[{_shown(member)}] = {_shown(texts[0])})]"
                return f"{shown} is not a member, but a value", f"write {path}{step}"
    if below and (name in below or not nearest(name, known)):
        near = _shown(nearest(name, below) or below[0])
        return f"{shown} is looked for in an array, not in its items", f'write $["data"][*][?(@[{near}] = …)]'
    if (call := name.partition("(")[0]) in ("charAt", "entries", "keys", "length", "substring", "values"):
        return f"{shown} is a function, not a member", f"write [{call}(…)]"
    return f"there is no member {shown}", replaced.get(name) or suggest(name, known)


def _impossible_comparison(comparison: Any, shapes: Sequence[Any], replaced: Mapping[str, str]) -> Problem:
    path, constant, _ = _sides(comparison)
    shown, value = "".join(path.__jsonpath__()), json.dumps(constant, ensure_ascii=False)
    if isinstance(constant, str) and all(each is float for each in shapes):
        advice = f"write {shown} {comparison.token} {constant}" if constant.isdecimal() else "compare it with a number"
        return f"{shown} is a number, and {value} is a text", advice
    if not isinstance(comparison, _EQUALITY):
        advice = 'compare texts with =, or parts of them, as in @["mtime"][substring(0, 7)] = "2026-11"'
        return f"{comparison.token} compares numbers only, and not texts by their order", advice
    forms = [each for each in shapes if isinstance(each, Form)]
    if isinstance(constant, str) and forms == shapes:
        return f"{shown} is never {value}", forms[0].advice
    if not isinstance(constant, str) or not all(isinstance(each, tuple | range) for each in shapes):
        return f"{shown} is never {value}", "compare it with a value of its own type; texts stand in double quotes"
    if longest := [each[-1] for each in shapes if isinstance(each, range)]:
        part = f"-{len(constant)}" if "(-" in shown else f"0, {len(constant)}"
        problem = f"{shown} asks for a length of {max(longest)}, and {value} has one of {len(constant)}"
        return problem, f"compare a part of the same length, as in [substring({part})] = {value}"
    known = list(dict.fromkeys(text for texts in shapes for text in texts))
    return f"{shown} is never {_shown(constant)}", replaced.get(constant) or suggest(constant, known)


def suggest(name: str, known: Sequence[str]) -> str:
    """The advice to write a known name instead of one that is not known."""
    if near := nearest(name, known):
        return f"did you mean {_shown(near)}?"
    return f"correct it; there are {', '.join(map(_shown, known[:_MOST_NAMED]))}" if known else "leave it out"


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most similar to a name, or ends with it; empty if none is."""
    known = list(known)
    head, dot, tail = name.rpartition(".")
    if alike := {_plain(each[len(head) + 1 :]): each for each in known if dot and each.startswith(head + dot)}:
        # What all of them begin with says nothing.
        close = difflib.get_close_matches(_plain(tail), alike, n=1, cutoff=0.6)
        return alike[close[0]] if close else ""
    plain = {_plain(each): each for each in known}
    close = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.6)
    close = close or [each for each in plain if _plain(name) and each.endswith(_plain(name))]
    return plain[close[0]] if close else ""


def _shown(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace('*"', '…"')


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()
