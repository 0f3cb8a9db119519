"""The filter uses jsonpath2's dialect, and its errors show the position."""

import json
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jsonpath2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonpath2.node import MatchData
from jsonpath2.nodes.root import RootNode
from jsonpath2.nodes.subscript import SubscriptNode
from jsonpath2.nodes.terminal import TerminalNode
from jsonpath2.subscript import Subscript
from jsonpath2.subscripts.objectindex import ObjectIndexSubscript

from pacifica_notifications_consumer import Filter
from pacifica_notifications_consumer.errors import FilterError
from pacifica_notifications_consumer.filter import compiler as filter_compiler
from pacifica_notifications_consumer.filter.compiler import compile_node
from pacifica_notifications_consumer.filter.generator import generate_test
from tests.support.paths import DATA

EXPRESSIONS = [
    "$",
    '$["data"]',
    '$["data"][*]["name"]',
    '$["data"][0:2]',
    "$..*",
    '$["data"][*][?(@["destinationTable"] = "Files" and @["mimetype"] = "text/plain")]',
    '$["data"][*][?($["eventID"] and @["key"] and @["value"])]',
    '$["data"][*][?($["data"][*]["key"] = @["key"])]',
    '$["data"][*][?("")]',
    '$["data"][*][?(1)]',
    '$["data"][?(@[*][?(@["key"] = "Tag")])]',
    '$["data"][*][?($["no"] or @["no"] or $["eventID"])]',
    '$[?(@["eventType"] = "org.pacifica.metadata.ingest")]["data"][*][?(@["key"] = "Tag")]["value"]',
    (DATA / "specification_example" / "jsonpath2.txt").read_text(),
]
EVENTS = {path.stem: json.loads(path.read_bytes()) for path in (DATA / "notifications").glob("*.json")}


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_finds_what_jsonpath2_finds(expression: str, name: str) -> None:
    """Values and their order are jsonpath2's, on every real notification."""
    expected = [match.current_value for match in jsonpath2.Path.parse_str(expression).match(EVENTS[name])]
    assert list(Filter(expression).find(EVENTS[name])) == expected
    assert Filter(expression).matches(EVENTS[name]) == bool(expected)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_is_tested_by_one_function(expression: str) -> None:
    """Each of them is tested by a function of its own, made from source, not by the slower functions of its nodes."""
    assert Filter(expression)._test.__code__.co_filename == "<string>"


def test_none_is_a_value() -> None:
    """A path that finds null matches."""
    assert Filter('$["a"]').matches({"a": None})


def test_specification_filter_never_matches_the_real_producer() -> None:
    """The real producer does not send the documented source; the path without the source matches."""
    event = EVENTS["ingest-nested-files"]
    documented = Filter((DATA / "specification_example" / "jsonpath2.txt").read_text())
    assert not documented.matches(event)
    assert documented.matches(event | {"source": "/pacifica/metadata/ingest"})


@pytest.mark.parametrize(
    ("expression", "column"),
    [
        ("", 1),
        ("data", 1),
        ("$.data[*", 9),
        ('$["a"] foo', 8),
        ('$[?(@["x"] == 1)]', 13),
        ('$[?(@["x"] = 1 && @["y"])]', 16),
        ("$['a']", 3),
        ("$['\x1b[31m\u202e']", 3),
    ],
)
def test_syntax_error_points_at_the_place(expression: str, column: int, capfd: pytest.CaptureFixture[str]) -> None:
    """The message names the column, a caret is below it, and nothing is printed to standard error."""
    with pytest.raises(FilterError, match=f"line 1, column {column}:") as caught:
        Filter(expression)
    text, caret = caught.value.output.split("\n")
    shown = expression.replace("\x1b", "\ufffd").replace("\u202e", "\ufffd")
    assert (text, caret) == (shown, " " * (column - 1) + "^")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("expression", "hint"),
    [
        ('$[?(@["x"] == 1)]', "equality is a single ="),
        ('$["x"] == 1', "equality is a single ="),
        ('$[?(@["x"] = 1 && @["y"])]', "write and"),
        ('$[?(@["x"] || @["y"])]', "write or"),
        ('$[?(!@["x"])]', "write not"),
        ('$[?(@["x"] <> 1)]', "inequality is !="),
        ('$[?(@["x"] =~ "a.*")]', "does not support regular expressions"),
        ('$[?@["x"]]', "stands in parentheses"),
        ("$['data']", "double quotes"),
        ("data", 'begins with $, as in $["data"]'),
        ("data.files", 'begins with $, as in $["data"]'),
        ('@["x"]', 'begins with $, as in $["x"]'),
        ('$[?(@["x"] in ["a"])]', "does not have this operator"),
        ('$[?(@["x"] = y)]', "texts stand in double quotes"),
        ("$[1.5]", "indices are whole numbers"),
        ("$[", "write it in jsonpath2's dialect"),
    ],
)
def test_other_dialects(expression: str, hint: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The error for an expression of another dialect shows jsonpath2's form."""
    with pytest.raises(FilterError) as caught:
        Filter(expression)
    assert hint in caught.value.advice
    assert caught.value.output.startswith(expression)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("$.", "the end of it cannot stand here, but '*' or a name could"),
        ('$["a" "b"]', "'\"b\"' cannot stand here, but ',' or ']' could"),
        ('$[?(@["a"] = )]', "')' cannot stand here, but a path or a value could"),
        ('$["a"] foo', "'foo' cannot stand here, but the end could"),
    ],
)
def test_what_was_expected(expression: str, problem: str) -> None:
    """The message names the expected tokens in plain words."""
    with pytest.raises(FilterError) as caught:
        Filter(expression)
    assert problem in caught.value.problem


@pytest.mark.parametrize("expression", ["$[unheard()]", "$[" * 3000])
def test_other_unusable_expressions(expression: str) -> None:
    """Unknown functions and too deep nesting raise `FilterError`, too."""
    with pytest.raises(FilterError, match="cannot parse the JSONPath"):
        Filter(expression)


@pytest.mark.parametrize("expression", ["$[::0]", '$["data"][0:3:0]["name"]', "$[?(@[1::0])]", "$[charAt($[::0])]"])
def test_a_step_of_zero_is_refused(expression: str) -> None:
    """A slice that fails on every array is refused at once, not at every event."""
    with pytest.raises(FilterError, match=r"the slice \[.*:0\] has a step of zero"):
        Filter(expression)


@pytest.mark.parametrize(
    ("expression", "hint"),
    [
        (r'$["a\d"]', "texts have no escapes"),
        (r'$[?(@["name"] = "C:\data")]', "texts have no escapes"),
        ('$[?(@["name"] = "say "hi"")]', "texts cannot contain double quotes"),
        ('$[?(@["name"] = "a\tb")]', "texts cannot contain tabs"),
    ],
)
def test_characters_that_no_text_can_have(expression: str, hint: str) -> None:
    """A backslash, a quote or a control character in a text is told as such."""
    with pytest.raises(FilterError) as caught:
        Filter(expression)
    assert hint in caught.value.advice


def test_failure_on_an_event_is_explained() -> None:
    """An expression that cannot be evaluated on an event fails with an error that names it."""
    failing = Filter("$[charAt(0)]")

    class Text(str):
        def __getitem__(self, _: Any) -> str:
            raise ValueError("torn page")

    for evaluate in (lambda: list(failing.find(Text("a"))), lambda: failing.matches(Text("a"))):
        with pytest.raises(FilterError, match=r"charAt\(0\).* failed on this event: ValueError: torn page"):
            evaluate()
    with pytest.raises(FilterError, match=r"failed on this event: ValueError"):
        failing.explain(Text("a"))


def test_bottomless_events() -> None:
    """An event that is nested deeper than Python's recursion limit is searched completely, unlike by jsonpath2."""
    event: Any = "ground"
    for _ in range(5000):
        event = [event]
    assert sum(1 for _ in Filter("$..*").find(event)) == 5000
    assert Filter('$..[?(@ = "ground")]').matches(event)


def test_equality_pickling_and_repr() -> None:
    """Filters of the same expression are equal, survive pickling, and show their expression."""
    one: Any = Filter("$")
    assert one == Filter("$") != Filter("$..*")
    assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301
    assert repr(one) == "Filter('$')"
    assert hash(one) == hash(Filter("$"))
    assert one != "$"


def test_threads_share_it() -> None:
    """Many threads can use one filter at the same time."""
    shared = Filter('$["data"][*][?(@["key"] = "Tag" or @["n"] > 3)]["n"]')
    failed: list[int] = []

    def work(number: int) -> None:
        event = {"data": [{"n": n, "key": "Tag" if n == number else ""} for n in range(200)]}
        expected = sorted({number, *range(4, 200)})
        if not all(list(shared.find(event)) == expected and shared.matches(event) for _ in range(20)):
            failed.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


@pytest.mark.sampled
@pytest.mark.parametrize(
    "expression",
    [
        "$" + "[*]" * 40,
        "$[?(" + " or ".join(f'@["a{n}"] = {n}' for n in range(300)) + ")]",
        "$" + '["a"]' * 150,
    ],
    ids=["many wildcards", "many conditions", "many names"],
)
def test_large_expressions(expression: str) -> None:
    """An expression that is too large for one function is evaluated nevertheless."""
    deep: Any = "ground"
    for _ in range(150):
        deep = {"a": deep, "a299": 299}
    expected = [match.current_value for match in jsonpath2.Path.parse_str(expression).match(deep)]
    assert list(Filter(expression).find(deep)) == expected
    assert Filter(expression).matches(deep) == bool(expected)


def nested(depth: int) -> Any:
    event: Any = 1
    for _ in range(depth):
        event = [event]
    return event


@pytest.mark.parametrize(
    ("step", "wrap"),
    [
        ('["a"]', lambda inner: {"a": inner}),
        ("[*]", lambda inner: [inner]),
        pytest.param('[?(@["a"])]', lambda inner: {"a": inner}, marks=pytest.mark.whole),
    ],
    ids=["names", "wildcards", "filters"],
)
def test_long_paths(step: str, wrap: Callable[[Any], Any]) -> None:
    """A path of the maximum length that jsonpath2 supports does not exceed the recursion limit."""
    event: Any = 1
    for _ in range(800):
        event = wrap(event)
    long = Filter("$" + step * 800)
    expected = [match.current_value for match in jsonpath2.Path.parse_str(long.jsonpath).match(event)]
    assert list(long.find(event)) == expected
    assert long.matches(event)


class Reversed(Subscript):  # type: ignore[misc]  # the base publishes no types
    """A subscript that the compiler does not know: the elements of an array in reverse order."""

    def __jsonpath__(self) -> Iterator[str]:
        yield "reversed"

    def match(self, root_value: Any, current_value: Any) -> list[MatchData]:
        step = SubscriptNode(TerminalNode(), [self])
        return [MatchData(step, root_value, value) for value in reversed(current_value)]


def test_unknown_parts_are_left_to_jsonpath2() -> None:
    """A node that the compiler does not know is evaluated by itself, between compiled nodes."""
    node = RootNode(
        SubscriptNode(
            SubscriptNode(SubscriptNode(TerminalNode(), [ObjectIndexSubscript("x")]), [Reversed()]),
            [ObjectIndexSubscript("a")],
        )
    )
    event = {"a": [{"x": 1}, {"y": 2}, {"x": 3}]}
    assert list(compile_node(node).find(event, event)) == [3, 1]
    assert generate_test(node)(event, event)
    assert not generate_test(node)({"a": [{}]}, {"a": [{}]})


@pytest.mark.parametrize(
    ("slice_", "found"),
    [
        ("0:99999999999999", [0, 1, 2]),
        ("99999999999999:-99999999999999:-1", [2, 1, 0, 2, 1, 0]),
        ("1:9999999999:2", [1]),
    ],
)
def test_slices_far_beyond_the_end(slice_: str, found: list[int]) -> None:
    """The cost of a slice depends on the elements that it finds, not on its bounds."""
    assert list(Filter(f'$["a"][{slice_}]').find({"a": [0, 1, 2]})) == found


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(-4, 4).filter(bool), st.integers(0, 5))
def test_indices_within_limits(start: int, end: int, step: int, length: int) -> None:
    """The computed part of a range equals the part that iteration finds."""
    indices = range(start, end, step)
    slow = [index for index in indices if -length <= index < length]
    assert list(filter_compiler._within(indices, -length, length - 1)) == slow


def measured(expression: str, event: Any) -> float:
    shared, times = Filter(expression), []
    for _ in range(3):
        started = time.process_time()
        shared.matches(event)
        sum(1 for _ in shared.find(event))
        times.append(time.process_time() - started)
    return min(times)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("expression", "grow"),
    [
        ('$["data"][*][?(@["x"] = 1)]', lambda n: {"data": [{"x": 0}] * n}),
        ('$..[?(@["x"] = 1)]', lambda n: {"data": [{"x": 0, "y": [1, 2]}] * n}),
        ("$..*", nested),
        ('$["data"][?(@[*] = 1)]', lambda n: {"data": [0] * n}),
        ('$["data"][::2][?(@ = 1)]', lambda n: {"data": [0] * n}),
    ],
    ids=["wide", "descent", "deep", "wildcard in a condition", "slice"],
)
def test_growth_is_linear(expression: str, grow: Callable[[int], Any]) -> None:
    """The time grows linearly with the size of the event, not quadratically."""
    # A linear filter takes 32 times as long here, a quadratic one 1024 times: the limit is far from both.
    assert measured(expression, grow(16_000)) < 180 * max(measured(expression, grow(500)), 0.0001)


def test_explanation() -> None:
    """The explanation has the step that ended the search, the conditions that held, and the nearest values."""
    event = EVENTS["ingest-nested-files"]
    why = Filter('$["data"][*][?(@["destinationTable"] = "Files" and @["mimetype"] = "x/y")]["_id"]').explain(event)
    assert not why.matches
    assert [step.found for step in why.steps] == [1, 1, 11, 0]
    assert why.steps[-1].path.endswith('= "x/y")]')
    assert why.reasons == (
        '@["destinationTable"] = "Files" holds for 5 of 11 values',
        '@["mimetype"] = "x/y" holds for 0 of 11 values',
    )
    assert all('"destinationTable": "Files"' in each for each in why.nearest)
    assert str(why).startswith(f"it does not match: {why.steps[-1].path} finds nothing\n")
    assert all(reason in str(why) for reason in why.reasons)
    assert max(map(len, str(why).splitlines())) < 200


def test_explanation_of_a_wrong_name() -> None:
    """The explanation of a missing name lists the existing names."""
    why = Filter('$["date"][*]').explain(EVENTS["ingest-nested-files"])
    assert why.reasons[0].startswith('none of 1 value has "date"; their names are "cloudEventsVersion", "eventType"')


def test_explanation_of_a_match() -> None:
    """The explanation of a match has the values that each step finds."""
    why = Filter('$["data"][*]["_id"]').explain(EVENTS["ingest-nested-files"])
    assert (why.matches, why.reasons, why.nearest) == (True, (), ())
    assert str(why).splitlines()[:2] == ["it matches", "  $ finds 1 value"]


@pytest.mark.parametrize("jsonpath", ["$[\n", "\n", "$.\n\n", "$[?(\x0b", "$.a\u2028[", "\r\n$["])
def test_error_in_another_line(jsonpath: str) -> None:
    """The position of an error is right with any line separator, and after the last line."""
    with pytest.raises(FilterError, match=r"cannot parse the JSONPath: line \d, column \d"):
        Filter(jsonpath)
