"""The documentation tells the truth: its code runs, its filters match, it builds, and its links lead somewhere."""

from __future__ import annotations

import ast
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import attrs
import pytest

import pacifica_notifications_consumer as library
from pacifica_notifications_consumer import Filter
from pacifica_notifications_consumer.archive.archive import ArchiveLimits
from pacifica_notifications_consumer.cloudevents.vocabulary import EVENTS, REPLACED
from pacifica_notifications_consumer.filter.analysis import analyse
from pacifica_notifications_consumer.http.limits import ServerLimits
from pacifica_notifications_consumer.settings.converters import size_limit
from pacifica_notifications_consumer.streams.tar_stream import TarStream
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from pacifica_notifications_runner.options.settings import LIMITS, OPTIONS
from tests.endtoend.doc_player import DEADLINE, Player, blocks, is_played, unplayed
from tests.support.paths import ROOT

LIBRARY = library.__name__
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
_LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")


#: What need not be played: what a program said, filters, which are tried below, and what Sphinx makes of code.
_SHOWN = re.compile(r"text|toctree|\{.*")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


#: What playing pages takes, most of it for installing, is spent on one of them in every run.
PLAYED = [
    pytest.param(page, marks=[] if page.name == "README.md" else pytest.mark.whole, id=name_of(page))
    for page in PAGES
    if any(is_played(info) for info, _ in blocks(page))
]


@pytest.mark.parametrize("page", PLAYED)
def test_pages_can_be_played(page: Path, tmp_path: Path, quick_python: Path) -> None:
    """Whoever does what a page says, block by block, sees what the page says."""
    with Sandbox() as sandbox:
        Player(page, tmp_path, sandbox, quick_python).play()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_code_is_only_shown(page: Path) -> None:
    """Every block is played, but for those that are no code."""
    assert [info for info in unplayed(page) if not _SHOWN.fullmatch(info)] == []


def composed() -> dict[str, str]:
    """The programs of the documentation that are composed of the library, by page and number.

    Entry-points are not among them: an author writes them without types, as the specification does.
    """
    return {
        f"{page.stem.replace('-', '_')}_{number}": code
        for page in PAGES
        for number, (info, code) in enumerate(blocks(page))
        if info.startswith("python") and "entry-point" not in info and f"from {LIBRARY}" in code
    }


def test_composed_programs_are_typed(tmp_path: Path) -> None:
    """Type checkers find nothing wrong with the programs of the documentation, in their strict mode."""
    programs = composed()
    assert len(programs) >= 7
    for name, code in programs.items():
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    finished = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *sorted(tmp_path.iterdir())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert finished.stdout == f"Success: no issues found in {len(programs)} source files\n"


def taken_from_library(code: str) -> Iterable[tuple[str, str]]:
    """The names that a program imports from the library, with the modules that it imports them from."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == LIBRARY:
            yield from ((node.module, each.name) for each in node.names)


def test_programs_use_public_names() -> None:
    """Each name that a program of the documentation takes from the library is exported there, or an error."""
    taken = {
        (name_of(page), *each)
        for page in PAGES
        for info, code in blocks(page)
        if info.startswith("python")
        for each in taken_from_library(code)
    }
    assert len(taken) > 20
    private = [each for each in taken if each[2] not in getattr(import_module(each[1]), "__all__", ())]
    assert [each for each in private if each[1] != f"{LIBRARY}.errors"] == []


def test_public_names_are_documented() -> None:
    """The API's page has each name that the package or a folder of it exports under one that does, and no others."""
    module, documented = "", set()
    for kind, name in re.findall(r"^\.\. (\w+):: ([\w.]+)", (ROOT / "docs/reference/api.md").read_text(), re.MULTILINE):
        if kind == "currentmodule":
            module = name
        elif kind != "automodule" and module.startswith(LIBRARY):
            documented.add((module, name))
    folders = [each.name for each in pkgutil.walk_packages(library.__path__, f"{LIBRARY}.") if each.ispkg]
    exported = {(folder, name) for folder in (LIBRARY, *folders) for name in import_module(folder).__all__}
    assert documented - exported == set()
    # The errors are all on the page, from their module.
    assert {name for _, name in exported} - {name for _, name in documented} == {"PacificaError"}


def test_documented_filters_can_match() -> None:
    """Every filter that the documentation shows can be parsed, may match, and names nothing that does not exist."""
    filters = [
        code.strip() for page in PAGES for info, code in blocks(page) if info == "text" and code[:2] in ("$[", "$.")
    ]
    assert len(filters) >= 14
    assert [each for each in filters if analyse(Filter(each).jsonpath, EVENTS, REPLACED) != (True, [])] == []


@pytest.mark.whole
def test_docs_build_without_warnings(tmp_path: Path) -> None:
    """Sphinx builds the pages, with every warning being an error, and the facts from the code are on them."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    finished = subprocess.run(
        [*command, "-d", tmp_path / "doctrees", ROOT / "docs", tmp_path / "html"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    reference = tmp_path / "html" / "reference"
    for page, fact in {
        "commands": "--password-file FILE",
        "configuration": "PACIFICA_JOB_TIMEOUT",
        "exit-codes": "RequirementError",
        "archive": "10,000",
        "api": "wait_for_transaction",
    }.items():
        assert fact in (reference / f"{page}.html").read_text(encoding="utf-8")


def table(page: str, header: str) -> list[list[str]]:
    """The rows of the table that begins with this header, up to the next empty line."""
    text = (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8").partition(header)[2]
    lines = text.splitlines()[2:]
    end = lines.index("") if "" in lines else len(lines)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:end]]


def results(tests: Iterable[str], tmp_path: Path) -> dict[str, set[str]]:
    """How unit tests end, of which one that is not there is an error."""
    report = tmp_path / "report.xml"
    command: list[str | Path] = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    told = subprocess.run([*command, *tests], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE)
    assert told.returncode == 0, told.stdout[-2000:]
    ended: dict[str, set[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314  (it is our own)
        name = f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name'].partition('[')[0]}"
        ended.setdefault(name, set()).add("passes" if len(case) == 0 else case[0].tag)
    return ended


@pytest.mark.whole
def test_table_of_rules_is_true(tmp_path: Path) -> None:
    """Every rule of CloudEvents in the reference has a test that is there, and ends as the table says."""
    rows = table("cloudevents.md", "| Rule |")
    assert len(rows) > 40
    assert [row for row in rows if len(row) != 5 or not all(row)] == []
    wanted = {f"tests/unit/{row[3].strip('`')}": row[4] for row in rows}
    assert results(wanted, tmp_path) == {name: {result} for name, result in wanted.items()}


@pytest.mark.whole
def test_table_of_limits_is_true(tmp_path: Path) -> None:
    """Every limit is in the reference, as a flag or an argument, with its default and with tests that pass."""
    rows = table("limits.md", "| What | Set by |")
    assert [row for row in rows if len(row) != 5 or not all(row)] == []
    defaults: dict[str, Any] = {option.flag: option.default for option in OPTIONS.values() if option.group == LIMITS}
    for limits in (ServerLimits, ArchiveLimits):
        # Those that are settings, too, have metadata.
        arguments = {field.name: field.default for field in attrs.fields(limits) if not field.metadata}
        defaults |= {f"{limits.__name__}.{name}": default for name, default in arguments.items()}
    defaults["TarStream.max_header"] = inspect.signature(TarStream).parameters["max_header"].default
    found = {row[1].strip("`"): size_limit(row[2]) for row in rows}
    assert found == defaults
    tests = {f"tests/unit/{name}" for row in rows for name in re.findall("`([^`]+)`", row[4])}
    ended = results(tests, tmp_path)
    assert ended.keys() == tests
    assert {word for words in ended.values() for word in words} <= {"passes"} | ({"skipped"} if os.geteuid() else set())


def test_links_lead_to_files() -> None:
    """Every relative link of the README and of the pages names a file that exists."""
    missing = []
    for page in PAGES:
        for target in _LINK.findall(page.read_text(encoding="utf-8")):
            path = target.partition("#")[0]
            if "://" not in target and path and not (page.parent / path).exists():
                missing.append((name_of(page), target))
    assert missing == []


def test_folders_are_documented_on_their_levels() -> None:
    """The contributor's guide and the design page show each folder of the library on the level that is enforced."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (
        contract
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers" and contract["containers"] == ["pacifica_notifications_consumer"]
    )
    enforced = [set(layer.split(" | ")) for layer in reversed(contract["layers"])]
    guide: list[set[str]] = []
    text = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    for level, folder in re.findall(r"^\| (\d*) ?\| `(\w+)(?:/|\.py)` \|", text, re.MULTILINE):
        guide += [set()] if level else []
        guide[-1].add(folder)
    text = (ROOT / "docs" / "explanation" / "design.md").read_text(encoding="utf-8")
    diagram = text.partition("  library   ")[2].partition("```")[0].splitlines()
    design = [set(line.strip().split("   ")[0].split("  ")) for line in reversed(diagram)]
    for shown in (guide, design):
        assert len(shown) == len(enforced)
        assert [folders - there for folders, there in zip(enforced, shown, strict=True)] == [set()] * len(enforced)


def test_readme_names_existing_targets() -> None:
    """Every ``make`` target that the README names is one of the Makefile's."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = re.findall(r"\bmake ([a-z]+)", "\n".join(re.findall(r"`make [a-z]+`|^make [a-z]+", readme, re.MULTILINE)))
    assert named
    assert set(named) <= set(targets)
