"""Compile the nodes of a JSONPath that jsonpath2 has parsed into plain Python functions.

jsonpath2 walks its tree of nodes for each value, and creates an object for each result. The compiled functions make the
same comparisons in the same order in a hundredth of the time. Nodes of unknown types are evaluated by jsonpath2 itself.

Each node has two functions: one iterates over all values, the other only tests whether any exist. Both take the whole
document (``$``) and the current value (``@``).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from jsonpath2.expression import Expression
from jsonpath2.expressions import operator as operators
from jsonpath2.expressions.some import SomeExpression
from jsonpath2.node import Node
from jsonpath2.nodes.current import CurrentNode
from jsonpath2.nodes.recursivedescent import RecursiveDescentNode
from jsonpath2.nodes.root import RootNode
from jsonpath2.nodes.subscript import SubscriptNode
from jsonpath2.nodes.terminal import TerminalNode
from jsonpath2.subscript import Subscript
from jsonpath2.subscripts.arrayindex import ArrayIndexSubscript
from jsonpath2.subscripts.arrayslice import ArraySliceSubscript
from jsonpath2.subscripts.callable import CallableSubscript
from jsonpath2.subscripts.filter import FilterSubscript
from jsonpath2.subscripts.node import NodeSubscript
from jsonpath2.subscripts.objectindex import ObjectIndexSubscript
from jsonpath2.subscripts.wildcard import WildcardSubscript

from ..errors import FilterError

Find = Callable[[Any, Any], Iterable[Any]]
Test = Callable[[Any, Any], bool]
Compare = Callable[[Any, Any], Any]


class Compiled(NamedTuple):
    """The compiled form of a node: iterates over the values that it finds, or tests whether it finds any."""

    find: Find
    test: Test


#: The value of a missing name.
_ABSENT = object()


def compile_node(node: Node) -> Compiled:
    """Compile a node and all nodes after it."""
    # From the end, and without recursion: paths may be longer than Python's recursion limit.
    chain: list[Node] = []
    while type(node) in _STEPS:
        chain.append(node)
        node = node.next_node
    compiled = _THE_VALUE if type(node) is TerminalNode else _left_to_jsonpath2(node)
    for step in reversed(chain):
        compiled = _STEPS[type(step)](step, compiled)
    return compiled


_THE_VALUE = Compiled(lambda _, current: (current,), lambda _, __: True)


def _root(_: Node, following: Compiled) -> Compiled:
    find, test = following
    return Compiled(lambda root, _: find(root, root), lambda root, _: test(root, root))


def _left_to_jsonpath2(part: Node | Subscript) -> Compiled:
    def find(root: Any, current: Any) -> Iterator[Any]:
        return (match.current_value for match in part.match(root, current))

    return Compiled(find, lambda root, current: any(True for _ in find(root, current)))


def _is_object(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return type(value) is dict or isinstance(value, Mapping)


def _is_array(value: Any) -> TypeGuard[Sequence[Any]]:
    return type(value) is list or (isinstance(value, Sequence) and not isinstance(value, str))


def children(value: Any) -> Iterable[Any]:
    """The values in an object or an array; none for other values."""
    if type(value) is list:
        return value
    if _is_object(value):
        return value.values()
    return value if _is_array(value) else ()


def _descent(_: Node, following: Compiled) -> Compiled:
    def values(top: Any) -> Iterator[Any]:
        yield top
        # Without recursion: documents may be nested deeper than Python's recursion limit.
        levels = [iter(children(top))]
        while levels:
            for value in levels[-1]:
                yield value
                levels.append(iter(children(value)))
                break
            else:
                levels.pop()

    return _each(lambda _, current: values(current), following)


def _subscripts(node: SubscriptNode, following: Compiled) -> Compiled:
    branches = [_subscript(subscript, following) for subscript in node.subscripts]
    if len(branches) == 1:
        return branches[0]

    def find(root: Any, current: Any) -> Iterator[Any]:
        for branch in branches:
            yield from branch.find(root, current)

    return Compiled(find, lambda root, current: any(branch.test(root, current) for branch in branches))


_STEPS: dict[type, Callable[[Any, Compiled], Compiled]] = {
    RootNode: _root,
    CurrentNode: lambda _, following: following,
    RecursiveDescentNode: _descent,
    SubscriptNode: _subscripts,
}


def _subscript(subscript: Subscript, following: Compiled) -> Compiled:
    kind = type(subscript)
    if kind is ObjectIndexSubscript:
        return _member(subscript.index, following)
    if kind is ArrayIndexSubscript:
        return _elements(lambda array: _at(array, subscript.index), following)
    if kind is ArraySliceSubscript:
        if subscript.step == 0:
            raise FilterError(f"the slice [{subscript.tojsonpath()}] has a step of zero", "leave the step out")
        return _elements(lambda array: _slice(subscript, array), following)
    if kind is WildcardSubscript:
        return _wildcard(following)
    if kind is FilterSubscript:
        return _filter(compile_expression(subscript.expression), following)
    if isinstance(subscript, CallableSubscript):
        for argument in subscript.args:
            if isinstance(argument, Node):
                compile_node(argument)  # jsonpath2 evaluates it, but its errors are found here
    find = _computed(compile_node(subscript.next_node)) if kind is NodeSubscript else _left_to_jsonpath2(subscript).find
    return _each(find, following)


def _each(find: Find, following: Compiled) -> Compiled:
    """Apply the next node to each of several values."""
    next_find, next_test = following

    def find_all(root: Any, current: Any) -> Iterator[Any]:
        for value in find(root, current):
            yield from next_find(root, value)

    return Compiled(find_all, lambda root, current: any(next_test(root, each) for each in find(root, current)))


def _member(name: str, following: Compiled) -> Compiled:
    next_find, next_test = following

    def find(root: Any, current: Any) -> Iterable[Any]:
        return next_find(root, current[name]) if _is_object(current) and name in current else ()

    def test(root: Any, current: Any) -> bool:
        return _is_object(current) and name in current and next_test(root, current[name])

    return Compiled(find, test)


def _elements(select: Callable[[Sequence[Any]], Iterable[Any]], following: Compiled) -> Compiled:
    return _each(lambda _, current: select(current) if _is_array(current) else (), following)


def _at(array: Sequence[Any], index: int) -> Iterable[Any]:
    # Negative indices count from the end, as in Python; indices beyond either end find nothing.
    return (array[index],) if -len(array) <= index < len(array) else ()


def _slice(subscript: ArraySliceSubscript, array: Sequence[Any]) -> Iterable[Any]:
    """The elements of a slice by jsonpath2's arithmetic, which differs from Python's."""
    length = len(array)
    start, end = subscript.start, subscript.end
    if start is None:
        start = 0
    elif start < 0:
        start += max(abs(start), length)
    if end is None:
        end = length
    elif end < 0:
        end += length
    indices = range(start, end) if subscript.step is None else range(start, end, subscript.step)
    return (value for index in _within(indices, -length, length - 1) for value in _at(array, index))


def _within(indices: range, least: int, most: int) -> range:
    """The part of a range that lies within limits, computed without iterating over the range."""
    first, last = (least, most) if indices.step > 0 else (most, least)
    begin = -((indices.start - first) // indices.step)
    end = (last - indices.start) // indices.step + 1
    return indices[max(0, begin) : max(0, end)]


def _wildcard(following: Compiled) -> Compiled:
    next_test = following.test

    def test(root: Any, current: Any) -> bool:
        for value in children(current):  # noqa: SIM110  (any() with a generator takes half as long again)
            if next_test(root, value):
                return True
        return False

    return Compiled(_each(lambda _, current: children(current), following).find, test)


def _filter(holds: Test, following: Compiled) -> Compiled:
    next_find, next_test = following

    def find(root: Any, current: Any) -> Iterable[Any]:
        return next_find(root, current) if holds(root, current) else ()

    return Compiled(find, lambda root, current: holds(root, current) and next_test(root, current))


def _computed(node: Compiled) -> Find:
    """A subscript whose names or indices are found by another path."""

    def find(root: Any, current: Any) -> Iterator[Any]:
        for key in node.find(root, current):
            if isinstance(key, int):
                if _is_array(current):
                    yield from _at(current, key)
            elif isinstance(key, str) and _is_object(current) and key in current:
                yield current[key]

    return find


def compile_expression(expression: Expression) -> Test:
    """Compile the expression in the parentheses of a filter."""
    kind = type(expression)
    if kind is SomeExpression:
        part = expression.next_node_or_value
        return compile_node(part).test if isinstance(part, Node) else lambda _, __: bool(part)
    if kind is operators.AndVariadicOperatorExpression:
        return _all([compile_expression(each) for each in expression.expressions])
    if kind is operators.OrVariadicOperatorExpression:
        return _any([compile_expression(each) for each in expression.expressions])
    if kind is operators.NotUnaryOperatorExpression:
        holds = compile_expression(expression.expression)
        return lambda root, current: not holds(root, current)
    if kind in _COMPARISONS:
        return _comparison(_COMPARISONS[kind], expression.left_node_or_value, expression.right_node_or_value)
    return lambda root, current: bool(expression.evaluate(root, current))


def _all(tests: list[Test]) -> Test:
    if len(tests) == 2:
        first, second = tests
        return lambda root, current: first(root, current) and second(root, current)
    return lambda root, current: all(test(root, current) for test in tests)


def _any(tests: list[Test]) -> Test:
    if len(tests) == 2:
        first, second = tests
        return lambda root, current: first(root, current) or second(root, current)
    return lambda root, current: any(test(root, current) for test in tests)


def _numbers(compare: Compare) -> Compare:
    kinds = (float, int)
    return lambda left, right: isinstance(left, kinds) and isinstance(right, kinds) and compare(left, right)


_COMPARISONS: dict[type, Compare] = {
    operators.EqualBinaryOperatorExpression: operator.eq,
    operators.NotEqualBinaryOperatorExpression: operator.ne,
    operators.LessThanBinaryOperatorExpression: _numbers(operator.lt),
    operators.LessThanOrEqualToBinaryOperatorExpression: _numbers(operator.le),
    operators.GreaterThanBinaryOperatorExpression: _numbers(operator.gt),
    operators.GreaterThanOrEqualToBinaryOperatorExpression: _numbers(operator.ge),
}


def _comparison(compare: Compare, left: Node | object, right: Node | object) -> Test:
    if isinstance(right, Node):
        return _comparison_with_node(compare, left, right)
    if not isinstance(left, Node):
        return lambda _, __: bool(compare(left, right))
    find = compile_node(left).find

    def test(root: Any, current: Any) -> bool:
        return any(compare(value, right) for value in find(root, current))

    name = only_member(left)
    return test if name is None else _comparison_of_member(compare, name, right, test)


def _comparison_with_node(compare: Compare, left: Node | object, right: Node) -> Test:
    find_left: Find = compile_node(left).find if isinstance(left, Node) else lambda _, __: (left,)
    find_right = compile_node(right).find

    def test(root: Any, current: Any) -> bool:
        # As in jsonpath2, the first value on the left exhausts the iterator of values on the right.
        on_the_right = iter(find_right(root, current))
        return any(compare(one, other) for one in find_left(root, current) for other in on_the_right)

    return test


def only_member(node: Node) -> str | None:
    """The name in a path that is just ``@["name"]``; None for any other path."""
    following: Any = node.next_node if type(node) is CurrentNode else None
    if type(following) is SubscriptNode and type(following.next_node) is TerminalNode:
        names = [each.index for each in following.subscripts if type(each) is ObjectIndexSubscript]
        return names[0] if len(names) == len(following.subscripts) == 1 else None
    return None


def _comparison_of_member(compare: Compare, name: str, right: object, general: Test) -> Test:
    """The most frequent comparison: a name of the current value with a constant."""
    if compare is operator.eq:

        def equals(root: Any, current: Any) -> bool:
            if type(current) is dict:
                return bool(current.get(name, _ABSENT) == right)
            return general(root, current)

        return equals

    def compares(root: Any, current: Any) -> bool:
        if type(current) is dict:
            value = current.get(name, _ABSENT)
            return value is not _ABSENT and bool(compare(value, right))
        return general(root, current)

    return compares
