"""The filter speaks jsonpath2's dialect, and its errors point at the place."""

import json
import pickle
from pathlib import Path
from typing import Any

import jsonpath2
import pytest

from pacifica_notifications_consumer import Filter
from pacifica_notifications_consumer.errors import FilterError

DATA = Path(__file__).parent.parent / "data"
EXPRESSIONS = [
    "$",
    '$["data"]',
    '$["data"][*]["name"]',
    '$["data"][0:2]',
    "$..*",
    '$["data"][*][?(@["destinationTable"] = "Files" and @["mimetype"] = "text/plain")]',
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


def test_none_is_a_value() -> None:
    """A path that finds null matches."""
    assert Filter('$["a"]').matches({"a": None})


def test_specification_filter_never_matches_the_real_producer() -> None:
    """The documented source is one that the real producer does not send; the path without it matches."""
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
    ],
)
def test_syntax_error_points_at_the_place(expression: str, column: int, capfd: pytest.CaptureFixture[str]) -> None:
    """The message names the column, a caret stands below it, and nothing is printed behind the caller's back."""
    with pytest.raises(FilterError, match=f"line 1, column {column}:") as caught:
        Filter(expression)
    text, caret = caught.value.output.split("\n")
    assert (text, caret) == (expression, " " * (column - 1) + "^")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("expression", ["$[unheard()]", "$[" * 3000])
def test_other_unusable_expressions(expression: str) -> None:
    """Unknown functions and bottomless nesting are our errors, too."""
    with pytest.raises(FilterError, match="cannot parse the JSONPath"):
        Filter(expression)


def test_failure_on_an_event_is_explained() -> None:
    """An expression that cannot be evaluated on an event fails with an error that names it."""
    with pytest.raises(FilterError, match=r"failed on this event: ValueError: range\(\) arg 3 must not be zero"):
        list(Filter("$[::0]").find([1]))
    with pytest.raises(FilterError, match="failed on this event"):
        Filter("$[::0]").matches([1])


def test_bottomless_events() -> None:
    """An event that is nested deeper than Python's calls can be is searched to the ground, unlike by jsonpath2."""
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
