"""Runs parts of the tests, two at a time, all of them although one has failed, and sums up at the end.

run_tests.py [--whole | --rest] PART ...

Tests wait more than they compute: two parts at a time take less time than one after the other, on two processors too.

Without an option, the tests that are long by nature (marked ``whole``) are left out; --rest runs only those. Two parts
always run as a whole: chaos, of which the environment variable PACIFICA_TEST_KILLS says how long, and other-systems.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

#: The arguments of each part for pytest.
PARTS = {
    "unit": ["-n", "3", "tests/unit"],
    "engines": ["-n", "3", "--dist", "loadgroup", "tests/engines"],
    "chaos": ["-n", "3", "tests/chaos"],
    "endtoend": ["-n", "3", "tests/endtoend"],
    "integration": ["tests/integration"],
    # What an author needs, without what only Linux has.
    "other-systems": [
        *("-n", "2", "-p", "tests.support.other_system.plugin", "tests/endtoend/author"),
        *(f"tests/unit/{name}" for name in ("archive", "clients", "cloudevents", "environment", "filter", "http")),
        *(f"tests/unit/{name}" for name in ("jobs", "settings", "streams", "system", "testing", "transfer")),
    ],
}
_WHOLE = ("chaos", "other-systems")
_NO_TESTS = 5  # pytest's status when all tests are deselected
_OUTCOME = re.compile(r"(\d+) (failed|passed|skipped|deselected|xfailed|xpassed|warnings?|errors?)\b")


def main() -> int:
    """Run the parts; the status is 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--whole", dest="marks", action="store_const", const="", help="run all tests of the parts")
    choice.add_argument("--rest", dest="marks", action="store_const", const="whole", help="run only the long tests")
    parser.set_defaults(marks="not whole")
    arguments = parser.parse_args()

    began = time.monotonic()
    totals: Counter[str] = Counter()
    problems: list[str] = []
    lines = []
    with ThreadPoolExecutor(max_workers=2) as pool:
        results = list(pool.map(lambda part: _run(part, arguments.marks), arguments.parts))
    for part, (status, closing, found) in zip(arguments.parts, results, strict=True):
        totals += Counter({name: int(number) for number, name in _OUTCOME.findall(closing)})
        problems += found
        if status not in (0, _NO_TESTS) and not found:
            problems.append(f"FAILED {part}: pytest ended with status {status}")
        lines.append(f"  {part:<13} {closing.strip(' =') or f'pytest ended with status {status}'}")
    seconds = time.monotonic() - began
    print("\nsummary of all parts", *lines, *problems, sep="\n")
    counts = ", ".join(f"{number} {name}" for name, number in sorted(totals.items()))
    print(f"=== {counts} in {seconds:.2f}s ({int(seconds) // 60} min {int(seconds) % 60} s) ===", flush=True)
    return 1 if problems else 0


def _run(part: str, marks: str) -> tuple[int, str, list[str]]:
    """Run a part; returns pytest's status, its closing line, and the lines about tests that failed."""
    command = [sys.executable, "-m", "pytest", *PARTS[part], "-m", "" if part in _WHOLE else marks]
    colour = ["--color=yes"] if sys.stdout.isatty() else []
    print(f"{part:>13} | {' '.join(command[1:])}", flush=True)
    closing, problems = "", []
    with subprocess.Popen([*command, *colour], stdout=subprocess.PIPE, text=True, errors="replace") as pytest:
        for line in pytest.stdout or ():
            sys.stdout.write(f"{part:>13} | {line}")
            sys.stdout.flush()
            plain = re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip()
            if re.search(r"\bin \d+\.\d+s\b", plain) and _OUTCOME.search(plain):
                closing = plain
            elif plain.startswith(("FAILED ", "ERROR ")):
                problems.append(plain)
    return pytest.returncode, closing, problems


if __name__ == "__main__":
    sys.exit(main())
