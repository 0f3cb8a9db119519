"""The ledger with many jobs: what an operator looks at, and what the runner does all the time."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from pacifica_notifications_consumer.jobs.job import Ending, JobState, Verdict
from pacifica_notifications_consumer.jobs.retention import Keep
from pacifica_notifications_consumer.jobs.triage import Decision
from pacifica_notifications_consumer.ledger.ledger import Ledger
from tests.benchmarks.measure import seconds

_DISK = Path(__file__).parents[2]
_TIMES = 50
_FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
INSERT INTO notifications (received_at, source, event_id, title, verdict, reason, body)
SELECT i, 's', 'e.' || i, 'e.' || i, 'matched', '', x'7b7d' FROM n;
UPDATE jobs SET state = 'succeeded', started_at = id, ended_at = id, exit_status = 0;
"""


def main() -> None:
    """Measure each operation with a few finished jobs and with a million."""
    print("\nThe ledger with finished jobs (milliseconds, medians)")
    measured = {count: _measure(count) for count in (100, 1_000_000)}
    few, many = measured.values()
    for name, milliseconds in few.items():
        print(f"  {name:<44} {milliseconds:>8.3f} with 100 {many[name]:>8.3f} with 1,000,000")


def _measure(count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=_DISK) as directory:
        path = Path(directory) / "ledger.sqlite3"
        Ledger(path).close()
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.executescript(f"BEGIN; {_FILL.format(count=count)} COMMIT;")
        with contextlib.closing(Ledger(path)) as ledger:
            numbers = itertools.count(count + 1)

            def accept() -> None:
                name = f"e.{next(numbers)}"
                decision = Decision(verdict=Verdict.MATCHED, title=name, source="s", event_id=name)
                ledger.accept([(decision, b"{}")])

            def run() -> None:
                job = ledger.claim(60.0)
                assert job is not None
                ledger.end_attempt(job, JobState.SUCCEEDED, Ending(status=0))

            operations: dict[str, Callable[[], object]] = {
                "accept a notification": accept,
                "claim a job and end it": run,
                "count the jobs in each state": ledger.count_jobs,
                "count the notifications of each verdict": ledger.count_verdicts,
                "list the newest hundred": lambda: ledger.records.jobs(100),
                "list a hundred from the middle": lambda: ledger.records.jobs(100, before=count // 2),
                "look one up": lambda: ledger.records.job(count // 2),
                "find what is not to be kept": lambda: ledger.finished(Keep(age=0.0, count=10), 50),
            }
            return {
                name: statistics.median(seconds(act) for _ in range(_TIMES)) * 1000 for name, act in operations.items()
            }


if __name__ == "__main__":
    main()
