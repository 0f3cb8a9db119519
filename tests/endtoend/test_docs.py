"""The documentation tells the truth: its examples run, its filters match, it builds, and its links lead somewhere.

Every block fenced as ``python`` is a complete script and is run, in a directory that the blocks of a page share.
One fenced as ``python entry-point`` is an entry-point: it becomes the directory's ``__main__.py``, and is run with
``SRC`` and ``DST``. What is not to be run is fenced as ``text``; such a block that begins with ``$[`` is a filter.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacifica_notifications_consumer import Filter, upload
from pacifica_notifications_consumer.sandbox import Sandbox
from pacifica_notifications_consumer.services import Services
from pacifica_notifications_consumer.settings import PREFIX

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
TRANSACTION = {"Transactions.submitter": 10, "Transactions.project": "1234a", "Transactions.instrument": 54}
DEADLINE = 120.0
_FENCED = re.compile(r"^```(?P<info>[a-z][^\n]*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a page: the words behind the fence, and the code."""
    for found in _FENCED.finditer(page.read_text(encoding="utf-8")):
        yield found["info"].strip(), found["code"]


def scripts(page: Path) -> list[tuple[str, str]]:
    return [(info, code) for info, code in blocks(page) if info.split()[0] == "python"]


def environment(sandbox: Sandbox, home: Path) -> dict[str, str]:
    # The home directory stays: pip finds its configuration there.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return inherited | sandbox.environ() | {"PACIFICA_USERNAME": "alice", "TMPDIR": str(home)}


def event_directories(home: Path, sandbox: Sandbox) -> tuple[Path, Path]:
    """SRC and DST as a runner makes them, for a transaction with a file in a folder."""
    source, destination = home / "SRC", home / "DST"
    for path in (source / "uploads" / "spectra" / "probe.txt", destination / "uploads" / "spectra" / "probe.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
    (source / "uploads" / "spectra" / "probe.txt").write_text("beta 2.5\nalpha 1.0\n")
    upload(source, TRANSACTION, services=Services.from_environment(sandbox.environ())).get()
    return source, destination


@pytest.mark.parametrize("page", [page for page in PAGES if scripts(page)], ids=name_of)
def test_examples_run(page: Path, tmp_path: Path) -> None:
    """Every script and every entry-point of a page ends with status 0, on a sandbox."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with Sandbox() as sandbox:
        environ = environment(sandbox, temporary)
        for number, (info, code) in enumerate(scripts(page)):
            assert info in ("python", "python entry-point")
            arguments: list[str | Path] = []
            script = tmp_path / f"script{number}.py"
            extra = {}
            if info == "python entry-point":
                script = tmp_path / "__main__.py"
                arguments = [*event_directories(tmp_path, sandbox)]
                extra = {"HOME": str(tmp_path), "PACIFICA_CONSUMER": "documented"}
            script.write_text(code, encoding="utf-8")
            finished = subprocess.run(
                [sys.executable, script.name, *arguments],
                cwd=tmp_path,
                env=environ | extra,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=DEADLINE,
            )
            assert (finished.returncode, finished.stderr) == (0, ""), code


def test_documented_filters_match() -> None:
    """Every filter that the documentation shows can be parsed and matches a real notification."""
    event = json.loads((ROOT / "tests" / "data" / "notifications" / "ingest-nested-files.json").read_bytes())
    filters = [code.strip() for page in PAGES for info, code in blocks(page) if info == "text" and code[:2] == "$["]
    assert len(filters) >= 8
    assert [jsonpath for jsonpath in filters if not Filter(jsonpath).matches(event)] == []


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


def test_links_lead_to_files() -> None:
    """Every relative link of the README and of the pages names a file that exists."""
    missing = []
    for page in PAGES:
        for target in _LINK.findall(page.read_text(encoding="utf-8")):
            path = target.partition("#")[0]
            if "://" not in target and path and not (page.parent / path).exists():
                missing.append((name_of(page), target))
    assert missing == []


def test_readme_names_existing_targets() -> None:
    """Every ``make`` target that the README names is one of the Makefile's."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = re.findall(r"\bmake ([a-z]+)", "\n".join(re.findall(r"`make [a-z]+`|^make [a-z]+", readme, re.MULTILINE)))
    assert named
    assert set(named) <= set(targets)
