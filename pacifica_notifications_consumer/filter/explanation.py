"""Explain why an event matches a filter, or which step of the path ended the search."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
from jsonpath2.expression import Expression
from jsonpath2.expressions.operator import AndVariadicOperatorExpression
from jsonpath2.node import Node
from jsonpath2.nodes.recursivedescent import RecursiveDescentNode
from jsonpath2.nodes.root import RootNode
from jsonpath2.nodes.subscript import SubscriptNode
from jsonpath2.nodes.terminal import TerminalNode
from jsonpath2.subscripts.filter import FilterSubscript
from jsonpath2.subscripts.objectindex import ObjectIndexSubscript

from ..settings.converters import counted
from .compiler import Test, compile_expression, compile_node

#: The maximum numbers of values to count, of values to show, and of characters of each shown value.
_MOST_VALUES, _SAMPLES, _SAMPLE_LENGTH = 10_000, 3, 100


@attrs.frozen(kw_only=True)
class Step:
    """A step of a path.

    Args:
        path: The path up to and including the step.
        found: The number of values that this path finds, at most ten thousand.
        sample: The first of these values, in shortened JSON.
    """

    path: str
    found: int
    sample: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Explanation:
    """The reason why an event matches, or does not match.

    Args:
        matches: Whether it matches.
        steps: The steps of the path, from ``$`` to the step that ended the search, or to the last step.
        reasons: Sentences about the step that ended the search; empty if the event matches.
        nearest: Values before that step, the closest ones first, in shortened JSON; empty if the event matches.
    """

    matches: bool
    steps: tuple[Step, ...]
    reasons: tuple[str, ...] = ()
    nearest: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = ["it matches" if self.matches else f"it does not match: {self.steps[-1].path} finds nothing"]
        shown = self.steps if self.matches else self.steps[:-1]
        lines += [f"  {step.path} finds {_count(step.found)}" for step in shown]
        lines += [f"  {reason}" for reason in self.reasons]
        samples = shown[-1].sample if self.matches else self.nearest
        return "\n".join(lines + [f"    {sample}" for sample in samples])


def explain(root: RootNode, event: Any) -> Explanation:
    """Follow a path, as jsonpath2 has parsed it, step by step."""
    steps = [Step(path="$", found=1, sample=_sample([event]))]
    chain: list[Node] = []
    node = root.next_node
    while isinstance(node, SubscriptNode | RecursiveDescentNode):
        chain.append(node)
        if isinstance(node, SubscriptNode):
            path, found = _follow(chain, event)
            steps.append(Step(path=path, found=len(found), sample=_sample(found)))
            if not found:
                _, values = _follow(chain[:-1], event)
                return _failure(steps, node, event, values)
        node = node.next_node
    return Explanation(matches=True, steps=tuple(steps))


def _follow(chain: Sequence[Node], event: Any) -> tuple[str, list[Any]]:
    """Build a step from the nodes up to it, and from the values that it finds."""
    root = RootNode(_joined(chain))
    return root.tojsonpath(), list(itertools.islice(compile_node(root).find(event, event), _MOST_VALUES))


def _failure(steps: Sequence[Step], last: SubscriptNode, event: Any, values: list[Any]) -> Explanation:
    tests = [
        compile_expression(condition)
        for subscript in last.subscripts
        if isinstance(subscript, FilterSubscript)
        for condition in _conditions(subscript.expression)
    ]
    nearest = sorted(values, key=lambda value: -sum(_holds(test, event, value) for test in tests))
    reasons = tuple(_reasons(last, event, values))
    return Explanation(matches=False, steps=tuple(steps), reasons=reasons, nearest=_sample(nearest))


def _joined(chain: Sequence[Node]) -> Node:
    joined: Node = TerminalNode()
    for node in reversed(chain):
        is_subscript = isinstance(node, SubscriptNode)
        joined = SubscriptNode(joined, node.subscripts) if is_subscript else RecursiveDescentNode(joined)
    return joined


def _reasons(last: SubscriptNode, event: Any, values: Sequence[Any]) -> Iterator[str]:
    """Describe why a step finds nothing in any of several values."""
    for subscript in last.subscripts:
        if isinstance(subscript, ObjectIndexSubscript):
            objects = [value for value in values if isinstance(value, dict)]
            names = list(itertools.islice(dict.fromkeys(name for each in objects for name in each), 20))
            has = f"their names are {', '.join(map(json.dumps, names))}" if names else "they have no names"
            yield f"none of {_count(len(values))} has {json.dumps(subscript.index)}; {has}"
        elif isinstance(subscript, FilterSubscript):
            for condition in _conditions(subscript.expression):
                test = compile_expression(condition)
                count = sum(_holds(test, event, value) for value in values)
                yield f"{condition.tojsonpath()} holds for {count} of {_count(len(values))}"


def _holds(test: Test, event: Any, value: Any) -> bool:
    try:
        return test(event, value)
    except (TypeError, ValueError, LookupError, AttributeError):
        # In the filter, an earlier condition may have kept this one from being evaluated on such a value.
        return False


def _conditions(expression: Expression) -> Sequence[Expression]:
    return list(expression.expressions) if isinstance(expression, AndVariadicOperatorExpression) else [expression]


def _count(number: int) -> str:
    return f"{number} or more values" if number == _MOST_VALUES else counted(number, "value")


def _sample(values: Sequence[Any]) -> tuple[str, ...]:
    texts = (json.dumps(value, ensure_ascii=False, default=repr) for value in values[:_SAMPLES])
    return tuple(text if len(text) <= _SAMPLE_LENGTH else f"{text[:_SAMPLE_LENGTH]}…" for text in texts)
