"""Mistakes in a consumer are found, with their place, and good consumers have no findings."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pacifica_notifications_consumer.archive.archive import Consumer
from pacifica_notifications_consumer.archive.checks import (
    Finding,
    Match,
    check_imports,
    check_loops,
    check_notification,
    check_parts,
)
from pacifica_notifications_consumer.archive.imports import SourceError, find_imports
from pacifica_notifications_consumer.environment.venv import Venv
from pacifica_notifications_consumer.filter.filter import Filter
from tests.support.paths import NOTIFICATIONS as FOLDER

NOTIFICATIONS = sorted(FOLDER.glob("*.json"))
GOOD = "import sys\nfrom pacifica_notifications_consumer import download, upload\nprint(sys.argv)\n"
TEXT = '$["data"][*][?(@["mimetype"] = "text/plain")]'


def consumer(directory: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in {"__main__.py": GOOD, **files}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return directory


def told(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.level.value, finding.position, f"{finding.problem}; {finding.advice}") for finding in findings]


#: The files of a consumer that differ from a good one, and the expected findings: level, place, part of the problem.
PARTS: list[tuple[str, Mapping[str, str | bytes], list[tuple[str, str, str]]]] = [
    ("good", {"jsonpath2.txt": TEXT}, []),
    ("syntax", {"__main__.py": "import sys\nsys.argv\nif:\n"}, [("error", "__main__.py:3", "invalid syntax")]),
    ("return", {"__main__.py": "import sys\nsys.argv\nreturn\n"}, [("error", "__main__.py:3", "'return' outside")]),
    ("encoding", {"__main__.py": b"import sys # sys.argv \xff\n"}, [("error", "__main__.py:", "encoding")]),
    ("other", {"lib/util.py": "def\n"}, [("warning", "lib/util.py:1", "invalid syntax")]),
    (
        "arguments",
        {"__main__.py": "print(1)\n"},
        [("warning", "__main__.py", "does not seem to use its arguments")],
    ),
    ("arguments elsewhere", {"__main__.py": "import app\n", "app.py": "import sys\nsys.argv\n"}, []),
    ("filter", {"jsonpath2.txt": "$["}, [("error", "jsonpath2.txt", "cannot parse the JSONPath")]),
    ("lines", {"jsonpath2.txt": "$\n$\n"}, [("error", "jsonpath2.txt", "more than one line")]),
    ("shell", {"init.sh": b"exit 0\r\n"}, [("error", "init.sh", "the line endings of Windows")]),
    ("preload", {"preload.txt": "no-name"}, [("error", "preload.txt", "cannot be the name of a module")]),
    (
        "several",
        {"jsonpath2.txt": "", "init.sh": b"\r\n", "__main__.py": "if"},
        [
            ("error", "jsonpath2.txt", "is empty"),
            ("error", "init.sh", "the line endings of Windows"),
            ("error", "__main__.py:1", "invalid syntax"),
            ("warning", "__main__.py", "does not seem to use its arguments"),
        ],
    ),
]


@pytest.mark.parametrize(("files", "expected"), [row[1:] for row in PARTS], ids=[row[0] for row in PARTS])
def test_parts(tmp_path: Path, files: Mapping[str, str | bytes], expected: list[tuple[str, str, str]]) -> None:
    """Each part is checked by itself, so that all mistakes are found at once."""
    found = told(list(check_parts(consumer(tmp_path, files))))
    assert len(found) == len(expected), found
    for (level, place, words), (found_level, found_place, sentence) in zip(expected, found, strict=True):
        assert (level, words in sentence) == (found_level, True), sentence
        assert found_place.startswith(place)


IMPORTS: list[tuple[str, Mapping[str, str], list[tuple[str, str, str]]]] = [
    ("standard library", {"__main__.py": "import os.path, json\nfrom xml.dom import minidom\n"}, []),
    ("ours", {"__main__.py": GOOD}, []),
    ("beside it", {"__main__.py": "import util\nfrom lib.more import x\n", "util.py": "", "lib/more.py": "x = 1"}, []),
    (
        "missing",
        {"__main__.py": "import sys\nimport nowhere_to_be_found\n"},
        [
            (
                "error",
                "__main__.py:2",
                "nowhere_to_be_found, which no requirement installs; write a requirements.txt",
            )
        ],
    ),
    (
        "other name",
        {"__main__.py": "def work():\n    from skimage import io\n", "requirements.txt": "numpy\n"},
        [("error", "__main__.py:2", "add scikit-image to requirements.txt")],
    ),
    (
        "slip",
        {"__main__.py": "import pandsa\n", "requirements.txt": "pandas\n"},
        [("error", "__main__.py:1", "did you mean pandas?")],
    ),
    (
        "optional",
        {"__main__.py": "try:\n    import nowhere\nexcept ImportError:\n    nowhere = None\n"},
        [("warning", "__main__.py:2", "imports nowhere")],
    ),
    (
        "of a module beside it",
        {"__main__.py": "import util\n", "util.py": "\n\nimport nowhere\n"},
        [("error", "util.py:3", "imports nowhere")],
    ),
    ("for types", {"__main__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import nowhere\n"}, []),
    ("module that nobody imports", {"unused.py": "import nowhere\n"}, []),
    ("preload", {"preload.txt": "nowhere json\n"}, [("warning", "preload.txt", "names the module nowhere")]),
]


@pytest.mark.parametrize(("files", "expected"), [row[1:] for row in IMPORTS], ids=[row[0] for row in IMPORTS])
def test_imports(tmp_path: Path, files: Mapping[str, str], expected: list[tuple[str, str, str]]) -> None:
    """An import that the environment lacks is found with its line, without running the modules."""
    found = told(list(check_imports(Consumer.load(consumer(tmp_path, files)), Venv(Path(sys.prefix)))))
    assert len(found) == len(expected), found
    for (level, place, words), (found_level, found_place, sentence) in zip(expected, found, strict=True):
        assert (level, place, words in sentence) == (found_level, found_place, True), sentence


def test_special_files(tmp_path: Path) -> None:
    """Named pipes are reported, and not opened, and a folder may be called like a module."""
    consumer(tmp_path, {"__main__.py": "import sys, pipe, folder\nsys.argv\n", "folder.py/data.txt": ""})
    for name in ("pipe.py", "folder.py/other.py", "init.sh"):
        os.mkfifo(tmp_path / name)
    assert told(list(check_parts(tmp_path))) == [
        ("error", "init.sh", "init.sh is a named pipe; replace it with a file, or remove it"),
        ("warning", "folder.py/other.py:0", "it is a named pipe; correct it"),
        ("warning", "pipe.py:0", "it is a named pipe; correct it"),
    ]
    (tmp_path / "__main__.py").unlink()
    os.mkfifo(tmp_path / "__main__.py")
    with pytest.raises(SourceError, match="it is a named pipe"):
        list(find_imports(tmp_path, "__main__.py"))


def test_imports_of_invalid_python(tmp_path: Path) -> None:
    """The error names a module that cannot be parsed."""
    consumer(tmp_path, {"__main__.py": "import util", "util.py": "x = ("})
    with pytest.raises(SourceError, match=r"^util.py:1: "):
        list(find_imports(tmp_path, "__main__.py"))


LOOPS: list[tuple[str, Mapping[str, str], list[tuple[str, str]]]] = [
    ("only downloads", {"__main__.py": "from pacifica_notifications_consumer import download\n"}, []),
    ("narrow", {"jsonpath2.txt": '$["data"][*][?(@["mimetype"] = "application/x-raw")]'}, []),
    ("text", {"jsonpath2.txt": TEXT}, [("note", "The consumer skips its own uploads")]),
    ("all", {}, [("warning", "without a filter it matches")]),
    (
        "another uploader",
        {"__main__.py": "from pacifica.uploader import Uploader\n", "jsonpath2.txt": TEXT},
        [("error", "it would process its own uploads in an endless loop")],
    ),
    ("another uploader, narrow", {"__main__.py": "import pacifica.uploader\n", "jsonpath2.txt": '$["nothing"]'}, []),
]


@pytest.mark.parametrize(("files", "expected"), [row[1:] for row in LOOPS], ids=[row[0] for row in LOOPS])
def test_loops(tmp_path: Path, files: Mapping[str, str], expected: list[tuple[str, str]]) -> None:
    """A consumer that would process consumers' uploads is found; the level depends on how it uploads."""
    found = told(list(check_loops(Consumer.load(consumer(tmp_path, files)))))
    assert [(level, words in sentence) for (level, words), (_, _, sentence) in zip(expected, found, strict=True)] == [
        (level, True) for level, _, _ in found
    ]


def test_notifications_are_explained(tmp_path: Path) -> None:
    """The result for a notification says whether it matches, and why; a file that is not a notification is an error."""
    nested = next(path for path in NOTIFICATIONS if path.stem == "ingest-nested-files")
    match = check_notification(Filter(TEXT), nested)
    assert isinstance(match, Match)
    assert (match.matches, match.explanation.splitlines()[0]) == (True, "it matches")
    miss = check_notification(Filter('$["data"][*]["nothing"]'), nested)
    assert isinstance(miss, Match)
    assert (miss.matches, "finds nothing" in miss.explanation) == (False, True)
    everything = check_notification(None, nested)
    assert isinstance(everything, Match)
    assert everything.matches
    (tmp_path / "list.json").write_text(json.dumps([]))
    for path, words in ((tmp_path / "list.json", "JSON array"), (tmp_path / "none.json", "cannot read it")):
        bad = check_notification(None, path)
        assert isinstance(bad, Finding)
        assert words in bad.problem
