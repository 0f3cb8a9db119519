"""A path that can never find anything in Pacifica's notifications is recognized, and no other path is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonpath2.path import Path as JSONPath

from pacifica_notifications_consumer import Filter
from pacifica_notifications_consumer.cloudevents.announcement import Identity, ingest_event
from pacifica_notifications_consumer.cloudevents.vocabulary import EVENTS, REPLACED
from pacifica_notifications_consumer.filter.analysis import analyse
from tests.support.paths import DATA, NOTIFICATIONS, ROOT

ROWS = '$["data"][*][?({})]'.format
TABLE = '@["destinationTable"] = "{}"'.format
EXAMPLE = (DATA / "specification_example" / "jsonpath2.txt").read_text().strip()

#: Paths that never match, with a part of what is said.
NEVER = [
    ('$.data[?(@.destinationTable = "Files")]', 'write $["data"][*][?(@["destinationTable"]'),
    ('$.data[?(@.mimeType = "text/plain")]', '[?(@["mimetype"] = …)]'),
    ('$["data"]["destinationTable"]', '"destinationTable" is looked for in an array'),
    (ROWS(TABLE("File")), 'did you mean "Files"?'),
    (ROWS(TABLE("files")), 'did you mean "Files"?'),
    (ROWS(TABLE("Transactions.instrumnet")), 'did you mean "Transactions.instrument"?'),
    (ROWS(TABLE("KeyValue")), 'did you mean "FileKeyValue"?'),
    (ROWS(TABLE("Users")), "correct it; there are"),
    (ROWS('"File" = @.destinationTable'), 'did you mean "Files"?'),
    (ROWS('@["mimeType"] = "text/plain"'), 'did you mean "mimetype"?'),
    (ROWS(f'{TABLE("Files")} and @["mimeType"] = "text/plain"'), 'did you mean "mimetype"?'),
    (ROWS(TABLE("Files")) + '["filename"]', 'did you mean "name"?'),
    ('$[?(@["event_type"] = "x")]', 'did you mean "eventType"?'),
    ('$["type"]', 'did you mean "eventType"?'),
    ('$["id"]', 'did you mean "eventID"?'),
    ('$[?(@["eventType"] = "org.pacifica.metadata.ingets")]', 'did you mean "org.pacifica.metadata.ingest"?'),
    ('$[?(@["source"] = "/pacifica/metadata/ingest")]', "Pacifica of 2019 sent it"),
    ('$[?(@["source"] = "http://metadata.example.org/")]', '@["source"] is never'),
    (EXAMPLE, "Pacifica of 2019 sent it"),
    (ROWS(TABLE("Transactions.proposal")), 'write "Transactions.project"'),
    ('$["data"][*]["Transactions.project"]', 'write [?(@["destinationTable"] = "Transactions.project")]'),
    (ROWS('@["mimetype"] = "text"'), 'did you mean "text/…"?'),
    (ROWS('@["mtime"] > "2026-11-24"'), "compares numbers only, and not texts by their order"),
    (ROWS('@["mtime"] > 20261124'), "compares numbers only"),
    (ROWS('@["size"] = "100"'), '@["size"] is a number, and "100" is a text; write @["size"] = 100'),
    (ROWS('@["size"] > "large"'), "compare it with a number"),
    (ROWS('@["name"] = 5'), '@["name"] is never 5; compare it with a value of its own type'),
    (ROWS('@["name"] = null'), '@["name"] is never null'),
    (ROWS('@["mtime"] = "2026-11-24"'), '@["mtime"] is never "2026-11-24"; compare its beginning'),
    ('$[?(@["eventTime"] = "2026-11-24")]', "compare its beginning, as in [substring(0, 10)]"),
    (ROWS('@["name"] = "spectra/a.csv"'), 'compare "subdir" with the folder'),
    (ROWS('@["subdir"] = "/spectra"'), "leave out the first slash"),
    (ROWS(TABLE("Transactions.authorized_person")), "correct it; there are"),
    (ROWS(TABLE("Transactions.created")), "correct it; there are"),
    (ROWS('@["path"] = "a/b.txt"'), 'write "subdir" for the folder of a file'),
    (ROWS('@["suffix"] = "csv"'), '[substring(-4)] = ".csv"'),
    (ROWS('@["project"] = "1234a"'), 'write @["destinationTable"] = "Transactions.project" and @["value"] = …'),
    (ROWS('@["Tag"] = "e2e"'), 'there are "destinationTable", "_id", "size", "mimetype", "name"'),
    (ROWS("@.name.length = 5"), '"length" is a function, not a member; write [length(…)]'),
    ("$.data[*].path", 'write "subdir" for the folder of a file'),
    ('$["data"]["Files"]', 'write $["data"][*][?(@["destinationTable"] = "Files")]'),
    ('$["data"]["files"][*]', 'write $["data"][*][?(@["destinationTable"] = "Files")]'),
    (ROWS(f"{TABLE('Files')} and {TABLE('Transactions.project')}"), "nothing can meet all conditions of [?("),
    (ROWS(f'{TABLE("Files")} and @["key"] = "Tag"'), "nothing can meet all conditions of [?("),
    (ROWS(f'not {TABLE("Files")} and @["mimetype"]'), "nothing can meet all conditions of [?("),
    ('$[?(@["eventType"] = "org.pacifica.metadata.orm")]["data"][0:]', ""),
]


@pytest.mark.parametrize(("jsonpath", "words"), NEVER)
def test_never(jsonpath: str, words: str) -> None:
    """The unknown name, value or type is told, with the nearest one, or the conditions that exclude each other."""
    Filter(jsonpath)
    possible, problems = analyse(jsonpath, EVENTS, REPLACED)
    assert not possible
    assert not words or words in "; ".join(map("; ".join, problems))


#: Conditions that no value of any producer meets, with a part of what is said.
CONTRADICTIONS = [
    *(
        (conditions, "nothing can meet all conditions of [?(")
        for conditions in (
            '@["name"] = "x" and @["name"] = "y"',
            '@["name"] = "x" and @["size"] > 5 and "y" = @["name"]',
            '@["name"] = "x" and @["name"] != "x"',
            '@["name"] = "x" and not @["name"]',
            'not @["name"] and @["name"] != "x"',
            'not (@["name"] = "x" or @["name"] != "x") and @["name"]',
            '(@["name"] = "x" or @["name"] = "y") and @["name"] = "z"',
            '@["size"] > 10 and @["size"] < 5',
            '@["size"] > 10 and 10 > @["size"]',
            '@["size"] >= 10 and not @["size"] > 5',
            '@["value"] = true and @["value"] = 2',
            '@["value"]["a"] = 1 and @["value"]["a"] = 2',
            '@["name"][substring(0, 2)] = "ab" and @["name"][substring(0, 2)] = "cd"',
        )
    ),
    (
        '@["name"][substring(-4)] = ".tiff"',
        'asks for a length of 4, and ".tiff" has one of 5; compare a part of the same',
    ),
    ('@["mtime"][substring(0, 7)] = "2026-11-24"', 'as in [substring(0, 10)] = "2026-11-24"'),
    ('@["name"][substring(-5, -1)] = "abcde"', 'as in [substring(-5)] = "abcde"'),
    ('@["name"][substring(4, 0)] = "a"', "asks for a length of 0"),
    ('@["name"][charAt(0)] = "ab"', "asks for a length of 1"),
    ('@["name"][length()] = "5"', '@["name"][length()] is a number, and "5" is a text; write @["name"][length()] = 5'),
    ('@["name"].length() = "5"', 'write @["name"][length()] = 5'),
    ('@["name"][substring(0, 4)] = 5', "is never 5"),
]


@pytest.mark.parametrize(("conditions", "words"), CONTRADICTIONS)
def test_contradictions(conditions: str, words: str) -> None:
    """Conditions that exclude each other, whatever members and values documents have, are told apart from others."""
    jsonpath = ROWS(conditions)
    Filter(jsonpath)
    possible, problems = analyse(jsonpath, EVENTS, REPLACED)
    assert (possible, analyse(jsonpath, [None], {})[0]) == (False, False)
    assert words in "; ".join(map("; ".join, problems))


#: Paths that may match in spite of a problem.
SUSPECT = [
    ('$..[?(@["mimeType"] = "text/plain")]', 'did you mean "mimetype"?'),
    ('$..[?(@["destinationTable"] = "File")]', 'did you mean "Files"?'),
    ('$[*][*]["mimeType"]', 'did you mean "mimetype"?'),
    ("$..mimeType", 'did you mean "mimetype"?'),
    (ROWS(f"{TABLE('Files')} or {TABLE('File')}"), 'did you mean "Files"?'),
    (ROWS('@["destinationTable"] != "File"'), 'did you mean "Files"?'),
    (ROWS('not @["destinationTable"] = "File"'), 'did you mean "Files"?'),
    (ROWS(r'@["name"] = "a\"b"'), "does not decode escapes"),
    (ROWS('@["name"] = "*.csv"'), '[substring(-4)] = ".csv"'),
    (ROWS('@["name"] = "raw_*.csv"'), '[substring(0, 4)] = "raw_"'),
    (ROWS('@["name"] = "*"'), "leave it out"),
    (ROWS('@["mimetype"] = "image/*"'), '[substring(0, 6)] = "image/"'),
    ('$[?(@["eventID"] != "metadata.ingest.*")]', "has no wildcards"),
    (ROWS(r'@["name"] = "C:\\data"'), "does not decode escapes"),
    (
        ROWS('@["name"][substring(0, 4)] = "abc"'),
        "has one of 3; compare a part of the same length, as in [substring(0, 3)]",
    ),
    (ROWS('@["name"][substring(-4)] = ".gz"'), 'as in [substring(-3)] = ".gz"'),
]


@pytest.mark.parametrize(("jsonpath", "words"), SUSPECT)
def test_suspect(jsonpath: str, words: str) -> None:
    """A name that nothing has is told even where the rest of the path finds something."""
    Filter(jsonpath)
    possible, (problem,) = analyse(jsonpath, EVENTS, REPLACED)
    assert (possible, words in "; ".join(problem)) == (True, True)


#: Paths without any problem.
GOOD = [
    "$",
    "$..*",
    "$..mimetype",
    '$["extensions"]["anything"]["at"]["all"]',
    '$["data"]["obj_type"]',
    '$[?(@["source"] = "http://metadata.pacifica.org/transactions?_id=5")]',
    ROWS('@["destinationTable"] = "Transactions.instrument" and @["value"] = 54'),
    ROWS('@["destinationTable"] = "Transactions.instrument" and @["value"] = "54"'),
    ROWS('@["name"][substring(-4)] = ".txt"'),
    ROWS('@["mtime"][substring(0, 7)] = "2026-11"'),
    ROWS('@["size"] > 1e6 and not @["name"] = "x"'),
    ROWS('@["destinationTable"] != "Files"'),
    ROWS('$["eventID"] and @["key"]'),
    ROWS('@["_id"] = $["data"][-1]["value"]'),
    '$["data"][0]["name"].length()',
    ROWS('@["name"] = "x" or @["name"] = "y"'),
    ROWS('@["size"] >= 10 and @["size"] <= 10 and not @["size"] > 10'),
    ROWS('@["size"] > 10 and @["size"] < 11'),
    ROWS('@["value"] = 1 and @["value"] = true'),
    ROWS('@["name"] = "x" and (@["name"] = "y" or @["size"] > 5)'),
    ROWS('(@["name"] = "x" or @["size"] = 1) and (@["name"] = "y" or @["size"] = 2)'),
    ROWS('@["name"][substring(2)] = "x" and @["name"][substring(0, -1)] = "abc" and @["name"][length()] = 3'),
    ROWS('@["name"][substring(-5, 3)] = "abc" and not @["name"][charAt(0)] = "x"'),
    ROWS('@["name"][substring(0, 4)] = ""'),
    '$[?(@["data"][*]["name"] = "x" and @["data"][*]["name"] = "y")]',
    "$[?(" + " and ".join('(@["extensions"] != "a" or @["extensions"] != "b")' for _ in range(20)) + ")]",
    '$["data"][*][?(@["value"]' + '["x"]' * 300 + ")]",
    '$["data"][?(@[*][?(@["key"] = "Tag")])]',
    '$[?(@["data"][*][?(@["destinationTable"] = "Transactions.project")])]["data"][*][?(@["mimetype"] = "text/x")]',
    "$[*][*]" + "[?(@" * 5 + ")]" * 5,
    EXAMPLE.replace(' and (@["source"] = "/pacifica/metadata/ingest")', ""),
    *(path.read_text().strip() for path in ROOT.glob("runner/**/templates/*/jsonpath2.txt")),
]


@pytest.mark.sampled
@pytest.mark.parametrize("jsonpath", GOOD)
def test_no_false_alarm(jsonpath: str) -> None:
    """A path that can match has no problem."""
    Filter(jsonpath)
    assert analyse(jsonpath, EVENTS, REPLACED) == (True, [])


RECIPES = re.findall(r"```text\n(\$.*)\n```", (ROOT / "docs" / "how-to" / "write-a-filter.md").read_text())


@pytest.mark.parametrize("jsonpath", RECIPES)
def test_recipes_of_the_documentation(jsonpath: str) -> None:
    """Each path in the documentation can match, and finds the one transaction that it describes."""
    assert analyse(jsonpath, EVENTS, REPLACED) == (True, [])
    file = {
        "destinationTable": "Files",
        "subdir": "",
        "mimetype": "text/plain",
        "size": 10,
        "mtime": "2026-11-24T00:14",
    }
    files = [file | {"name": "a.csv", "_id": 1}, file | {"name": "b.tiff", "_id": 2, "size": 1000000}]
    files += [file | {"name": "raw_1", "subdir": "spectra", "_id": 3}]
    attributes = {"submitter": 10, "project": "1234a", "instrument": 54, "_id": 1}
    rows = [{"destinationTable": f"Transactions.{name}", "value": value} for name, value in attributes.items()]
    tag = {"destinationTable": "TransactionKeyValue", "key": "Tag", "value": "e2e"}
    matching = ingest_event(
        Identity().of(1), [*rows, *files, *([] if "not @" in jsonpath else [tag])], "2026-11-24T00:14"
    )
    other = ingest_event(Identity().of(1), [tag], "2025-01-01") | {"eventType": "org.pacifica.metadata.orm"}
    if '"TransactionKeyValue"' in jsonpath and "not @" not in jsonpath:
        other["data"] = []
    assert (Filter(jsonpath).matches(matching), Filter(jsonpath).matches(other)) == (True, False)


@pytest.mark.parametrize("path", sorted(NOTIFICATIONS.glob("*.json")), ids=lambda path: path.stem)
def test_real_notifications_have_the_known_structure(path: Path) -> None:
    """A path to any value of a real notification, with that value as a condition, is not called impossible."""

    def walk(value: object, jsonpath: str) -> None:
        children: list[tuple[str, object]] = []
        if isinstance(value, dict):
            children = [(json.dumps(name), each) for name, each in value.items()]
        elif isinstance(value, list):
            children = [(str(number), each) for number, each in enumerate(value)]
        for name, each in children:
            walk(each, f"{jsonpath}[{name}]")
        if isinstance(value, str | int):
            shown = json.dumps(value, ensure_ascii=False)
            assert not analyse(f"{jsonpath}[?(@ = {shown})]", EVENTS, REPLACED)[1], (jsonpath, shown)

    walk(json.loads(path.read_bytes()), "$")


#: Paths that a row is tested with, more than once; values of its members; and constants, of which many are equal.
PARTS = ["", *(f'["{name}"]' for name in ("name", "size", "value", "key", "destinationTable"))]
PARTS += [
    f'["name"][{call}]' for call in ("substring(0,2)", "substring(-2)", "substring(-3,1)", "charAt(0)", "length()")
]
PARTS += ['["value"]["x"]', "[*]"]
VALUES = ["a", "ab", "abc", "b", "", 0, 1, 1.25, 1.5, 2, 3, -1, True, None, [], {"x": 1}]
COMPARED = ["a", "ab", "abc", "", 1, 2, 1.5, True, None, "Files", "FileKeyValue"]
TESTS = st.builds(
    "@{} {} {}".format,
    st.sampled_from(PARTS),
    st.sampled_from(["=", "!=", "<", ">="]),
    st.sampled_from(COMPARED).map(json.dumps),
) | st.sampled_from(PARTS).map("@{}".format)
CONDITIONS = st.recursive(
    TESTS,
    lambda simpler: st.one_of(
        simpler.map("not ({})".format),
        st.builds("({}) and ({})".format, simpler, simpler),
        st.builds("({}) or ({})".format, simpler, simpler),
    ),
    max_leaves=6,
)
TEXTS, NUMBERS = st.sampled_from(VALUES[:5]), st.sampled_from(VALUES[5:12])
FILE_ROWS = st.fixed_dictionaries({"destinationTable": st.just("Files")}, optional={"name": TEXTS, "size": NUMBERS})
KEY_ROWS = st.fixed_dictionaries(
    {"destinationTable": st.just("FileKeyValue")}, optional={"key": TEXTS, "value": st.sampled_from(VALUES)}
)
ANY_ROWS = st.sampled_from(VALUES) | st.dictionaries(st.sampled_from(["name", "size"]), st.sampled_from(VALUES))


@settings(max_examples=75)
@given(conditions=CONDITIONS, rows=st.lists(FILE_ROWS | KEY_ROWS, min_size=9), others=st.lists(ANY_ROWS, min_size=3))
def test_conditions_that_hold_are_possible(conditions: str, rows: list[Any], others: list[Any]) -> None:
    """Conditions that jsonpath2 finds to hold for a generated row are possible; for other rows, not contradictory."""
    path = ROWS(conditions)
    parsed = JSONPath.parse_str(path)
    if any(True for _ in parsed.match({"data": rows})):
        assert analyse(path, EVENTS, REPLACED)[0]
    if any(True for _ in parsed.match({"data": rows + others})):
        assert analyse(path, [None], {})[0]


NAMES = st.sampled_from(["data", "eventType", "source", "destinationTable", "name", "size", "key", "value", "_id", "x"])
CONSTANTS = st.sampled_from(
    ['"Files"', '"Transactions.project"', '"org.pacifica.metadata.ingest"', '"Tag"', '"blob.bin"', '"1234a"', "10", "1"]
) | st.sampled_from(['"x"', "true", "null", "[]", '{"a": 1}', "0.5"])
OPERATORS = st.sampled_from(["=", "!=", "<", ">=", "="])


def longer(steps: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Steps with filters that are built from shorter paths."""
    inner = st.builds("".join, st.lists(steps, max_size=3))
    operands = inner.map("@{}".format) | inner.map("${}".format) | CONSTANTS
    conditions = st.recursive(
        st.builds("{} {} {}".format, operands, OPERATORS, operands) | operands,
        lambda simpler: st.one_of(
            simpler.map("(not ({}))".format),
            st.builds("({} and {})".format, simpler, simpler),
            st.builds("({} or {})".format, simpler, simpler),
        ),
        max_leaves=4,
    )
    return steps | conditions.map("[?({})]".format) | inner.map("[${}]".format)


CALLS = ["[length()]", "[keys()]", "[substring(0, 4)]", "[charAt(0)]"]
STEPS = NAMES.map('["{}"]'.format) | st.sampled_from(["[*]", "[*]", "[0]", "[-1]", "[1:]", '..["key"]', "..*", *CALLS])
PATHS = st.builds("${}".format, st.builds("".join, st.lists(longer(longer(STEPS)), max_size=4)))
EVENTS_OF_PACIFICA = [json.loads(path.read_bytes()) for path in sorted(NOTIFICATIONS.glob("*.json"))]


@settings(max_examples=50)
@given(jsonpath=PATHS)
def test_what_matches_is_never_called_impossible(jsonpath: str) -> None:
    """A random path that matches one of the real notifications is possible."""
    filter_ = Filter(jsonpath)
    possible, problems = analyse(jsonpath, EVENTS, REPLACED)
    assert possible or problems
    assert possible or not any(map(filter_.matches, EVENTS_OF_PACIFICA)), problems
