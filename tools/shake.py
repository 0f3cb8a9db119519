"""Runs `make test` again and again while the machine has other work: first its processors, then its disk.

shake.py [--busy N] [--disk N]: how often with busy processors (by default 5 times), and with a busy disk (3 times).
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

#: Both programs end when the one that started them was killed.
_LOOP = """
import os
parent = os.getppid()
while os.getppid() == parent:
    pass
"""
#: Writes 64 MiB and waits until they are on the disk, without end.
_WRITER = """
import os, sys
parent = os.getppid()
with open(sys.argv[1], "wb", buffering=0) as file:
    while os.getppid() == parent:
        file.seek(0)
        for _ in range(64):
            file.write(os.urandom(1 << 20))
        os.fsync(file.fileno())
"""


@contextlib.contextmanager
def _beside(*programs: list[str]) -> Iterator[None]:
    """Run programs beside the tests, and end them."""
    with contextlib.ExitStack() as stack:
        for words in programs:
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", *words]))
            stack.callback(process.kill)
        yield


def main() -> int:
    """Run the tests; the status is the number of runs that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=5, metavar="N")
    parser.add_argument("--disk", type=int, default=3, metavar="N")
    arguments = parser.parse_args()
    lines, failed = [], 0
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        kinds = ["four busy loops"] * arguments.busy + ["a busy disk"] * arguments.disk
        for kind in kinds:
            disk = kind == "a busy disk"
            with _beside([_WRITER, f"{directory}/file"]) if disk else _beside(*[[_LOOP]] * 4):
                began = time.monotonic()
                status = subprocess.run(["make", "test"], check=False).returncode  # noqa: S607
            failed += status != 0
            lines.append(f"  beside {kind:<16} {'failed' if status else 'passed'} in {time.monotonic() - began:.0f} s")
            print("\nruns so far", *lines, sep="\n", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
