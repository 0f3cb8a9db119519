"""Run the unit tests and the specification's example on several versions of Python: python tools/pythons.py 3.11 3.12.

``tools/make-pythons`` finds or gets their interpreters.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_TESTS = ("tests/unit", "tests/endtoend/author/test_specification_example.py")


def main(versions: list[str]) -> int:
    """Test each version; returns the exit status."""
    results = {version: _test(version) for version in versions}
    for version, (_, summary) in results.items():
        print(f"Python {version}: {summary}")
    return 0 if all(passed for passed, _ in results.values()) else 1


def _test(version: str) -> tuple[bool, str]:
    """Whether all tests have passed, and what pytest's last line says."""
    if subprocess.run([_ROOT / "tools/make-pythons", version], cwd=_ROOT, check=False).returncode:
        return False, "not available"
    python = _ROOT / ".pythons" / version / "bin/python"
    found = subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"Testing with {found}", flush=True)
    last, start = "", time.monotonic()
    command = [str(python), "-m", "pytest", "-n", "2", *_TESTS]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as testing:
        for line in testing.stdout or ():
            print(line, end="", flush=True)
            last = line.strip(" =\n") or last
    return testing.returncode == 0, f"{last} ({found}, {time.monotonic() - start:.0f} s in all)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
