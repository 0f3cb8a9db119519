"""Generate the test of an expression as one Python function for the most frequent kinds of nodes.

Function calls dominate the time of a test of a hundred thousand rows. So chains of names, wildcards and filters become
loops and conditions in a single function, which calls the compiled functions of all other nodes.

The closures of `compiler` alone take 3.5 to 5.5 times as long as a predicate written by hand, and 2.3 to 2.7 times if
the usual chain is one closure; a generated function takes 1.3 to 1.9 times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jsonpath2.expression import Expression
from jsonpath2.expressions import operator as operators
from jsonpath2.expressions.some import SomeExpression
from jsonpath2.node import Node
from jsonpath2.nodes.root import RootNode
from jsonpath2.nodes.subscript import SubscriptNode
from jsonpath2.nodes.terminal import TerminalNode
from jsonpath2.subscripts.filter import FilterSubscript
from jsonpath2.subscripts.objectindex import ObjectIndexSubscript
from jsonpath2.subscripts.wildcard import WildcardSubscript

from .compiler import Test, children, compile_expression, compile_node, only_member

#: Python allows at most twenty nested blocks.
_MOST_LOOPS = 15
_ABSENT = object()


def generate_test(root: RootNode) -> Test:
    """Make a function that tests whether a parsed expression finds a value in a document (given as ``$`` and ``@``)."""
    try:
        return _Generator().function(root.next_node)
    except (SyntaxError, RecursionError, MemoryError):
        # The expression is too large for one function.
        return compile_node(root).test


class _Generator:
    def __init__(self) -> None:
        self._lines: list[str] = []
        # Values from the expression are bound to names; they never become part of the source.
        self._bound: dict[str, Any] = {"Mapping": Mapping, "children": children, "ABSENT": _ABSENT}

    def function(self, node: Node) -> Test:
        self._node(node, 1, 0)
        source = "\n".join(["def test(root, _):", "    value = root", *self._lines, "    return False"])
        exec(source, self._bound)  # noqa: S102  (the source consists of words of this module)
        test: Callable[[Any, Any], bool] = self._bound["test"]
        return test

    def _bind(self, value: object) -> str:
        name = f"bound{len(self._bound)}"
        self._bound[name] = value
        return name

    def _write(self, depth: int, line: str) -> None:
        self._lines.append("    " * depth + line)

    def _node(self, node: Node, depth: int, loops: int) -> None:
        if type(node) is TerminalNode:
            self._write(depth, "return True")
            return
        subscript: Any = node.subscripts[0] if type(node) is SubscriptNode and len(node.subscripts) == 1 else None
        kind = type(subscript)
        # One name is enough for all values: what follows a node needs only the value that the node has found.
        if kind is ObjectIndexSubscript:
            name = self._bind(subscript.index)
            self._write(depth, f"if (type(value) is dict or isinstance(value, Mapping)) and {name} in value:")
            self._write(depth + 1, f"value = value[{name}]")
            self._node(node.next_node, depth + 1, loops)
        elif kind is WildcardSubscript and loops < _MOST_LOOPS:
            self._write(depth, "for value in children(value):")
            self._node(node.next_node, depth + 1, loops + 1)
        elif kind is FilterSubscript:
            general = self._bind(compile_expression(subscript.expression))
            quick = self._condition(subscript.expression)
            self._write(depth, f"if ({quick}) if type(value) is dict else {general}(root, value):")
            self._node(node.next_node, depth + 1, loops)
        else:
            self._write(depth, f"if {self._bind(compile_node(node).test)}(root, value):")
            self._write(depth + 1, "return True")

    def _condition(self, expression: Expression) -> str:
        """The condition of a filter, for a value that is a dict."""
        kind = type(expression)
        if kind is operators.AndVariadicOperatorExpression and expression.expressions:
            return f"({' and '.join(self._condition(each) for each in expression.expressions)})"
        if kind is operators.OrVariadicOperatorExpression and expression.expressions:
            return f"({' or '.join(self._condition(each) for each in expression.expressions)})"
        if kind is operators.NotUnaryOperatorExpression:
            return f"(not {self._condition(expression.expression)})"
        if kind is SomeExpression and (name := self._member(expression.next_node_or_value)):
            return f"({name} in value)"
        if (
            kind is operators.EqualBinaryOperatorExpression
            and not isinstance(expression.right_node_or_value, Node)
            and (name := self._member(expression.left_node_or_value))
        ):
            return f"(value.get({name}, ABSENT) == {self._bind(expression.right_node_or_value)})"
        return f"{self._bind(compile_expression(expression))}(root, value)"

    def _member(self, node: object) -> str | None:
        name = only_member(node) if isinstance(node, Node) else None
        return None if name is None else self._bind(name)
