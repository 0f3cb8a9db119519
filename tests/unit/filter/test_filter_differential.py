"""Random expressions of jsonpath2's whole grammar on random documents: the filter finds what jsonpath2 finds.

With PACIFICA_TEST_CASES a long run can be had; a failure prints the expression and the document.
"""

import contextlib
import json
import os
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonpath2.path import Path

from pacifica_notifications_consumer import Filter
from pacifica_notifications_consumer.errors import FilterError
from tests.support.paths import DATA, NOTIFICATIONS, ROOT

CASES = int(os.environ.get("PACIFICA_TEST_CASES", "900"))

NAMES = st.sampled_from(["a", "b", "c", "d e"])
NUMBERS = st.integers(-3, 3)
SCALARS = st.one_of(
    st.none(), st.booleans(), NUMBERS, st.sampled_from([0.5, 1.0]), st.sampled_from(["", "a", "b", "xyz"])
)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
CONSTANTS = st.sampled_from(
    ["null", "true", "false", "0", "1", "-1", "0.5", '""', '"a"', '"xyz"', "[]", '{"a": 1}', "[1]"]
)
COMPARISONS = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
CALLS = st.sampled_from(
    ["length()", "keys()", "values()", "entries()", "charAt(0)", "charAt(@.a)", "substring(1)", "substring(0, 2)"]
)
PARTS = st.none() | NUMBERS
#: A step of zero is refused, see `test_a_step_of_zero_is_refused`.
STEPS = PARTS.filter(lambda step: step != 0)


def slices(start: int | None, end: int | None, step: int | None) -> str:
    """A slice in the grammar's form."""
    first = f"{'' if start is None else start}:{'' if end is None else end}"
    return first if step is None else f"{first}:{step}"


def paths(root: str, subscripts: st.SearchStrategy[str], most: int) -> st.SearchStrategy[str]:
    """A path from the document or from the current value."""
    return st.lists(subscripts, max_size=most).map(lambda parts: root + "".join(parts))


def extend(subscripts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Subscripts with paths and filters that are built from simpler ones."""
    inner = paths("@", subscripts, 2) | paths("$", subscripts, 2)
    operands = inner | CONSTANTS
    conditions = st.recursive(
        st.builds(" ".join, st.tuples(operands, COMPARISONS, operands)) | operands,
        lambda simpler: st.one_of(
            simpler.map(lambda each: f"(not ({each}))"),
            st.builds("({} and {})".format, simpler, simpler),
            st.builds("({} or {})".format, simpler, simpler),
        ),
        max_leaves=3,
    )
    selectors = st.one_of(
        NAMES.map('"{}"'.format),
        NUMBERS.map(str),
        st.builds(slices, PARTS, PARTS, STEPS),
        st.just("*"),
        conditions.map("?({})".format),
        inner,
        CALLS,
    )
    brackets = st.lists(selectors, min_size=1, max_size=2).map(lambda each: f"[{','.join(each)}]")
    return brackets | brackets.map("..{}".format)


SIMPLE = st.sampled_from(
    [".a", ".b", ".*", "..a", "..*", '["a"]', '["d e"]', "[*]", "[0]", "[-1]", "[1:]", ".length()"]
)
EXPRESSIONS = paths("$", SIMPLE | extend(SIMPLE | extend(SIMPLE)), 3)


def outcome(values: Any) -> tuple[list[str], str]:
    """The values as texts, so that 1 and True differ, and the error, if any."""
    found: list[str] = []
    try:
        for value in values:
            found.append(repr(value))  # noqa: PERF401  (what came before a failure counts, too)
    except FilterError as error:
        return found, type(error.__cause__).__name__
    except Exception as error:
        return found, type(error).__name__
    return found, ""


def compare_many(cases: int) -> None:
    examples = settings(max_examples=cases, print_blob=True)
    examples(given(expression=EXPRESSIONS, document=DOCUMENTS)(compare))()


def test_same_values_in_the_same_order() -> None:
    """Values, their order, and failures equal jsonpath2's; `matches` tells whether a value exists."""
    compare_many(CASES // 10)


@pytest.mark.whole
@pytest.mark.timeout(max(300, CASES // 20))
def test_same_values_in_more_cases() -> None:
    """The same, with ten times as many expressions and documents."""
    compare_many(CASES)


def compare(expression: str, document: Any) -> None:
    """Compare the filter with jsonpath2."""
    with contextlib.redirect_stderr(None):
        try:
            path = Path.parse_str(expression)
        except ValueError:
            with pytest.raises(FilterError):
                Filter(expression)
            return
    expected = outcome(match.current_value for match in path.match(document))
    ours = Filter(expression)
    assert outcome(ours.find(document)) == expected
    if expected[0] or not expected[1]:
        assert ours.matches(document) == bool(expected[0])
        assert expected[1] or ours.explain(document).matches == bool(expected[0])
    else:
        with pytest.raises(FilterError):
            ours.matches(document)


PUBLISHED = (DATA / "jsonpath2_expressions.txt").read_text().splitlines()
PAGES = sorted((ROOT / "docs").rglob("*.md"))
_FILTER = re.compile(r"^```text\n(\$\[.*?)^```$", re.MULTILINE | re.DOTALL)
DOCUMENTED = [code.strip() for page in PAGES for code in _FILTER.findall(page.read_text())]
EVENTS = [json.loads(path.read_bytes()) for path in NOTIFICATIONS.glob("*")]
BOOKS = {
    "store": {
        "book": [
            {"category": "reference", "author": "Nigel Rees", "price": 8.95},
            {"category": "fiction", "author": "Herman Melville", "isbn": "0-553-21311-3", "price": 8.99},
            {"category": "fiction", "author": "J. R. R. Tolkien", "isbn": "0-395-19395-8", "price": 22.99},
        ],
        "bicycle": {"color": "red", "price": 19.95},
    },
    "hello": "Hello, world!",
    "languages": ["en-GB", "en-US"],
    "preferences": {"coffee": "no", "tea": "yes"},
    "collection": [1, "two", {"foo": "bar", "fum": 0}],
    "index": [0, -1, 5],
    "foo": "bar",
    "fum": 0,
    "bar": None,
}


@pytest.mark.sampled
@pytest.mark.parametrize("expression", PUBLISHED)
def test_published_expressions(expression: str) -> None:
    """The expressions of jsonpath2's own tests find what they find there, and those that it refuses are refused."""
    for document in (BOOKS, BOOKS["hello"], BOOKS["languages"], BOOKS["foo"], 42, None, *EVENTS):
        compare(expression, document)


@pytest.mark.parametrize("expression", DOCUMENTED)
def test_documented_expressions(expression: str) -> None:
    """The expressions of the documentation find in every real notification what jsonpath2 finds."""
    for event in EVENTS:
        compare(expression, event)


def test_there_are_expressions_and_events() -> None:
    """The data that the tests above iterate over exists."""
    assert (len(PUBLISHED) > 70, len(DOCUMENTED) >= 8, len(EVENTS) >= 4) == (True, True, True)
