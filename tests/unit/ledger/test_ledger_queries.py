"""The time of a query does not depend on the number of jobs that it does not ask for."""

import pytest

from pacifica_notifications_consumer.jobs.job import JobState, Verdict
from pacifica_notifications_consumer.ledger import coverage, statements
from pacifica_notifications_consumer.ledger.ledger import Ledger


def test_nothing_looks_through_all_jobs(ledger: Ledger) -> None:
    """No statement scans all jobs or all notifications."""
    everything = vars(statements) | vars(coverage)
    texts = [text for name, text in everything.items() if name.isupper() and isinstance(text, str)]
    texts = [text for text in texts if text.split(maxsplit=1)[0] in ("SELECT", "UPDATE", "DELETE")]
    assert len(texts) > 20
    #: These read only as many rows as requested from the end of an index or a table, or scan small tables.
    bounded = (
        "jobs_done",
        "jobs_running",
        "jobs_handed_out",
        "notifications_in_files",
        "incidents",
        "spans",
        "gaps",
        "gaps_by_turn",
    )
    with ledger._database.reading() as connection:
        for text in texts:
            if text in (statements.JOB, statements.NEWEST_NOTIFICATIONS, statements._NOTIFICATION, statements._BACK):
                continue  # a fragment of other statements, or a scan from the end of a table
            values = (1,) * (1 if "?1" in text else text.count("?"))
            plan = connection.execute(f"EXPLAIN QUERY PLAN {text}", values).fetchall()
            scans = [step[3] for step in plan if step[3].startswith("SCAN") and not step[3].endswith(bounded)]
            # These subqueries return a single row.
            scans = [scan for scan in scans if not scan.startswith("SCAN (subquery")]
            assert scans == [], text


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (statements.NEWEST_JOBS_IN_STATE[JobState.DEAD], "jobs_dead_by_number"),
        (statements.NEWEST_JOBS_IN_STATE[JobState.CANCELLED], "jobs_cancelled_by_number"),
        (statements.NEWEST_JOBS_IN_STATE[JobState.RUNNING], "jobs_running"),
        (statements.NEWEST_JOBS_IN_STATE[JobState.FAILED], "jobs_waiting"),
        (statements.ENDED_JOBS_IN_STATE[JobState.DEAD], "jobs_dead_by_number"),
        (statements.NEWEST_OF_VERDICT[Verdict.UNREADABLE], "notifications_aside_by_number"),
        (statements.DONE_BY_MINUTE, "jobs_done"),
        (statements.DEAD_BY_MINUTE, "jobs_dead"),
    ],
)
def test_what_is_rare_is_found_by_an_index(ledger: Ledger, statement: str, index: str) -> None:
    """Queries for rare states, rare verdicts or the newest rows use an index instead of a scan."""
    with ledger._database.reading() as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", (1,) * statement.count("?")).fetchall()
    assert any(f"INDEX {index} " in f"{step[3]} " for step in plan), plan
