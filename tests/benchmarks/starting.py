"""Starting entry-points: from accepting a notification to the first statement, beside a bare subprocess."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.services import Services
from tests.benchmarks.measure import compare

_SCRIPT = """
import time
first = time.time()
import sys
with open(sys.argv[2] + "/first", "w") as file:
    file.write(repr(first))
"""


def main() -> None:
    """Measure the time to an entry-point's first statement."""
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        entry_point = home / "__main__.py"
        entry_point.write_text(_SCRIPT)

        with JobRunner(entry_point, home / "state", name="b", services=Services()) as runner:

            def by_runner() -> float:
                began = time.time()
                job_id = runner.accept(json.dumps({"eventID": str(next(numbers)), "source": "s"}).encode()).job_id
                assert job_id is not None
                runner.wait(job_id, 60)
                return (float((runner.directory(job_id).destination / "first").read_text()) - began) * 1000

            def by_subprocess() -> float:
                began = time.time()
                subprocess.run([sys.executable, str(entry_point), str(home), str(home)], check=True)
                return (float((home / "first").read_text()) - began) * 1000

            compare(
                "Starting an entry-point, to its first statement (less is better)",
                "ms",
                {
                    "JobRunner: committed, queued, claimed, prepared, started": by_runner,
                    "a bare subprocess": by_subprocess,
                },
                "a bare subprocess",
            )
