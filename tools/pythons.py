"""Runs the unit tests and the specification's example on several versions of Python: pythons.py 3.11 3.12.

``tools/make-pythons`` finds or gets their interpreters.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

_ROOT = Path(__file__).resolve().parent.parent
_TESTS = ("tests/unit", "tests/endtoend/author/test_specification_example.py")


def main() -> int:
    """Test each version, print a line for each at the end, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="+", metavar="VERSION", help="such as 3.15")
    parser.add_argument("--fast", action="store_true", help="leave out the tests that are long by nature")
    arguments = parser.parse_args()
    marks = "not whole" if arguments.fast else ""
    results = [_test(version, marks) for version in arguments.versions]
    print(*(line for _, line in results), sep="\n")
    return 0 if all(passed for passed, _ in results) else 1


def _test(version: str, marks: str) -> tuple[bool, str]:
    """Whether all tests have passed on a version, and the line of its result."""
    if subprocess.run([_ROOT / "tools/make-pythons", version], cwd=_ROOT, check=False).returncode:
        return False, f"Python {version}: not available"
    python, report = _ROOT / ".pythons" / version / "bin/python", _ROOT / ".pythons" / f"{version}.xml"
    name = subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"Testing with {name}", flush=True)
    report.unlink(missing_ok=True)
    testing = [str(python), "-m", "pytest", "-n", "4", "--dist", "worksteal", "-m", marks, *_TESTS]
    status = subprocess.run([*testing, f"--junit-xml={report}"], cwd=_ROOT, check=False).returncode
    if not report.exists():
        return False, f"{name}: the tests ended with exit status {status}"
    (suite,) = ElementTree.parse(report).getroot()  # noqa: S314  (pytest has written it)
    total, failed, errors, skipped = (int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped"))
    passed = total - failed - errors - skipped
    seconds = float(suite.get("time", 0))
    return status == 0, f"{name}: {passed} passed, {failed + errors} failed, {skipped} skipped in {seconds:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
