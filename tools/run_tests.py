"""Runs parts of the tests, four at a time, all of them although one has failed, and sums up at the end.

run_tests.py [--whole | --rest] PART ...

Tests wait more than they compute: four parts at a time take less time than one after the other, on two processors too.

Without an option, the tests that are long by nature (marked ``whole``) are left out; --rest runs only those. The part
chaos always runs as a whole; the environment variable PACIFICA_TEST_KILLS says how long. The part other-systems, whose
tests all run elsewhere with what Linux has, leaves out the long ones unless there is --whole.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.machine import reaper  # noqa: E402

#: The arguments of each part for pytest.
PARTS = {
    # Tests of one module mostly run in the same process, so that the fixtures of the module are made once.
    "unit": ["-n", "3", "--dist", "worksteal", "tests/unit"],
    "engines": ["-n", "3", "--dist", "loadgroup", "tests/engines"],
    "chaos": ["-n", "3", "tests/chaos"],
    "endtoend": ["-n", "3", "tests/endtoend"],
    "integration": ["tests/integration"],
    # What an author needs, without what only Linux has.
    "other-systems": [
        *("-n", "3", "--dist", "worksteal", "-p", "tests.support.other_system.plugin", "tests/endtoend/author"),
        *(f"tests/unit/{name}" for name in ("archive", "clients", "cloudevents", "environment", "filter", "http")),
        *(f"tests/unit/{name}" for name in ("jobs", "settings", "streams", "system", "testing", "transfer")),
    ],
}
_SHORT, _LONG, _ALL = "not whole", "whole", ""
#: What parts run instead of what the options say.
_INSTEAD = {("chaos", _SHORT): _ALL, ("chaos", _LONG): _ALL, ("other-systems", _LONG): _SHORT}
# The statuses of pytest when somebody interrupts it, and when all tests are deselected.
_INTERRUPTED, _NO_TESTS = 2, 5
_OUTCOME = re.compile(r"(\d+) (failed|passed|skipped|deselected|xfailed|xpassed|warnings?|errors?)\b")


def main() -> int:
    """Run the parts; the status is 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--whole", dest="marks", action="store_const", const=_ALL, help="run all tests of the parts")
    choice.add_argument("--rest", dest="marks", action="store_const", const=_LONG, help="run only the long tests")
    parser.set_defaults(marks=_SHORT)
    arguments = parser.parse_args()

    # A shell makes its background jobs ignore SIGINT, as in `tests/conftest.py`.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # If this process is killed, the tests end, too.
    reaper.start()
    # Not the folder of all test runs of this user, which others fill and clear at the same time.
    # Its name is short, for the sake of Unix sockets.
    own = Path(tempfile.gettempdir(), f"pnc-{os.getuid()}-{zlib.crc32(bytes(ROOT)):08x}")
    own.mkdir(mode=0o700, exist_ok=True)
    # For `make clean`.
    Path(sys.prefix, ".tests").write_text(f"{own}\n")
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(own)

    began = time.monotonic()
    with ThreadPoolExecutor(max_workers=4) as pool:
        results = {part: pool.submit(_run, part, arguments.marks) for part in arguments.parts}
        try:
            wait(results.values())
        except KeyboardInterrupt:
            # Ctrl-C reaches pytest as well, which ends by itself.
            pool.shutdown(cancel_futures=True)
    return _sum_up(results, time.monotonic() - began)


Result = tuple[int, str, list[str]]


def _run(part: str, marks: str) -> Result:
    """Run a part; returns pytest's status, its closing line, and the lines about tests that failed."""
    command = [sys.executable, "-m", "pytest", *PARTS[part], "-m", _INSTEAD.get((part, marks), marks)]
    colour = ["--color=yes"] if sys.stdout.isatty() else []
    print(f"{part:>13} | {' '.join(command[1:])}", flush=True)
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*command, *colour], stdout=pipe, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as run:
        closing, problems = read(part, run.stdout or ())
    return run.returncode, closing, problems


def read(part: str, lines: Iterable[str]) -> tuple[str, list[str]]:
    """Print what pytest says, and find its closing line and the lines about tests that failed."""
    closing, problems, in_summary = "", [], False
    for line in lines:
        sys.stdout.write(f"{part:>13} | {line}")
        sys.stdout.flush()
        plain = re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip()
        # Before it, such lines are what tests have logged.
        in_summary = in_summary or "= short test summary info =" in plain
        if re.search(r"\bin \d+\.\d+s\b", plain) and _OUTCOME.search(plain):
            closing = plain
        elif in_summary and plain.startswith(("FAILED ", "ERROR ")):
            problems.append(plain)
    return closing, problems


def _sum_up(results: dict[str, Future[Result]], seconds: float) -> int:
    totals: Counter[str] = Counter()
    print("\nsummary of all parts")
    problems = []
    for part, result in results.items():
        if result.cancelled():
            print(f"  {part:<13} not run")
            problems.append(f"FAILED {part}: interrupted before it began")
            continue
        status, closing, found = result.result()
        totals += Counter({name: int(number) for number, name in _OUTCOME.findall(closing)})
        problems += found
        ended = f"pytest ended with status {status}{', interrupted' if status == _INTERRUPTED else ''}"
        # All is said by the names of the tests that failed.
        if status not in (0, _NO_TESTS) and not (status == 1 and found and closing):
            problems.append(f"FAILED {part}: {ended}")
        print(f"  {part:<13} {closing.strip(' =') or ended}")
    print(*problems, sep="\n")
    counts = ", ".join(f"{number} {name}" for name, number in sorted(totals.items()))
    print(f"=== {counts} in {seconds:.2f}s ({int(seconds) // 60} min {int(seconds) % 60} s) ===", flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
