"""Runs parts of the tests as run_tests.py does, and prints which lines and branches of the product no test reaches.

measure_coverage.py PART ...

All processes that run in the environment of the tests are measured: the tests, the commands, the warm process with its
children, and workers. Entry-points in an environment of their own are not, since it has no coverage; what a process has
done before a signal ended it is not known either. The configuration is in pyproject.toml.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import coverage
from coverage.exceptions import CoverageWarning, NoDataError

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / ".coverage"
CONFIGURATION = ROOT / "pyproject.toml"
#: The folders whose faults lose notifications or results; the others follow in the order of their names.
FIRST = (
    "jobs",
    "queue",
    "ledger",
    "engines",
    "endpoint",
    "catch_up",
    "transfer",
    "clients",
    "environment",
    "subscription",
)
COUNTS = ("num_statements", "covered_lines", "num_branches", "covered_branches")


def main() -> int:
    """Run the parts and print the report; the status is that of the tests."""
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir()
    # Jobs may run as other users.
    DATA.chmod(0o1777)
    # Python starts to measure wherever the environment has coverage: see a1_coverage.pth in it.
    names = {"COVERAGE_PROCESS_START": str(CONFIGURATION), "COVERAGE_FILE": str(DATA / "data")}
    command = [sys.executable, str(ROOT / "tools" / "run_tests.py"), *sys.argv[1:]]
    status = subprocess.run(command, env=os.environ | names, cwd=ROOT, check=False).returncode
    print("\ncombining the measurements of all processes", flush=True)
    measured = coverage.Coverage(data_file=str(DATA / "data"), config_file=str(CONFIGURATION), messages=False)
    with warnings.catch_warnings(category=CoverageWarning, action="ignore"):
        # The file of a process that was killed while it wrote cannot be read.
        measured.combine()
    measured.save()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "report.json")
        try:
            measured.json_report(outfile=str(path))
        except NoDataError:
            print("no test has run anything of the product")
            return status
        files: dict[str, Any] = json.loads(path.read_text())["files"]
    report(files)
    return status


def report(files: dict[str, Any]) -> None:
    """Print what no test reaches, a folder after the other, and then the figures of all folders."""
    folders: dict[str, list[str]] = {}
    for path in sorted(files, key=lambda path: (_rank(_folder(path)), path)):
        folders.setdefault(_folder(path), []).append(path)
    table = []
    for folder, paths in folders.items():
        print(f"\n{folder}")
        for path in paths:
            if words := _missing(files[path]):
                print(f"  {Path(path).name}: {words}")
        table.append(_row(folder, [files[path] for path in paths]))
    print("\nfolder                  lines  reached         branches  reached")
    print(*table, _row("all", list(files.values())), sep="\n", flush=True)


def _folder(path: str) -> str:
    package, _, rest = path.removeprefix("runner/").partition("/")
    return "runner" if package.endswith("runner") else rest.rpartition("/")[0].partition("/")[0] or "."


def _rank(folder: str) -> tuple[int, str]:
    return FIRST.index(folder) if folder in FIRST else len(FIRST), folder


def _missing(file: dict[str, Any]) -> str:
    """The lines and the branches that are not reached; a branch that begins in such a line is not told again."""
    lines: list[int] = file["missing_lines"]
    ranges: list[list[int]] = []
    for line in lines:
        if ranges and line <= ranges[-1][1] + 1:
            ranges[-1][1] = line
        else:
            ranges.append([line, line])
    words = [f"{first}-{last}" if last > first else str(first) for first, last in ranges]
    for start, end in file["missing_branches"]:
        if start not in lines and end not in lines:
            words.append(f"{start}->{end if end > 0 else 'exit'}")
    return ", ".join(words)


def _row(name: str, files: list[dict[str, Any]]) -> str:
    total: Counter[str] = Counter()
    for file in files:
        total.update({count: file["summary"][count] for count in COUNTS})
    lines, reached, branches, taken = (total[count] for count in COUNTS)
    return f"{name:<20} {lines:>8} {_share(reached, lines)} {branches:>12} {_share(taken, branches)}"


def _share(part: int, whole: int) -> str:
    return f"{part:>6} ({100 * part / whole:5.1f}%)" if whole else f"{part:>6}         "


if __name__ == "__main__":
    sys.exit(main())
