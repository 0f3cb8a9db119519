"""The ledger keeps every notification and job, and says plainly when it cannot."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacifica_notifications_consumer import ledger as ledger_module
from pacifica_notifications_consumer.errors import StateError
from pacifica_notifications_consumer.job import JobState, Verdict
from pacifica_notifications_consumer.ledger import Ledger
from pacifica_notifications_consumer.notification import Notification
from pacifica_notifications_consumer.progress import Progress


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with contextlib.closing(Ledger(tmp_path / "ledger.sqlite3")) as ledger:
        yield ledger


def notification(number: int, source: str = "here") -> Notification:
    return Notification.parse(json.dumps({"source": source, "eventID": f"e.{number}"}).encode())


def test_matched_notification_becomes_a_job(ledger: Ledger) -> None:
    """What matched is queued with its bytes, and claimed once."""
    receipt = ledger.accept(notification(1), Verdict.MATCHED)
    assert (receipt.verdict, receipt.job_id) == (Verdict.MATCHED, 1)
    job = ledger.claim()
    assert job is not None
    assert (job.id, job.title, job.body, job.state) == (1, "e.1", notification(1).body, JobState.RUNNING)
    assert ledger.claim() is None


@pytest.mark.parametrize("verdict", [Verdict.UNMATCHED, Verdict.OWN, Verdict.UNDECIDABLE])
def test_others_are_recorded_only(ledger: Ledger, verdict: Verdict) -> None:
    """What did not match is counted and has no job."""
    assert ledger.accept(notification(1), verdict).job_id is None
    assert ledger.claim() is None
    assert ledger.count_verdicts()[verdict] == 1


def test_duplicates(ledger: Ledger) -> None:
    """Source and event id identify a notification; without them none is another's duplicate."""
    assert ledger.accept(notification(1), Verdict.MATCHED).verdict is Verdict.MATCHED
    for _ in range(2):
        assert ledger.accept(notification(1), Verdict.MATCHED).verdict is Verdict.DUPLICATE
    assert ledger.accept(notification(1, "there"), Verdict.MATCHED).verdict is Verdict.MATCHED
    for _ in range(2):
        assert ledger.accept(Notification.parse(b"{}"), Verdict.MATCHED).verdict is Verdict.MATCHED
    assert ledger.count_jobs()[JobState.QUEUED] == 4
    assert ledger.count_verdicts()[Verdict.DUPLICATE] == 2


def test_order_and_delay(ledger: Ledger) -> None:
    """Jobs are claimed in the order of their coming; one that has to wait lets the others pass."""
    for number in (1, 2, 3):
        ledger.accept(notification(number), Verdict.MATCHED)
    first = ledger.claim()
    assert first is not None
    ledger.end_attempt(first, JobState.QUEUED, exit_status=1, reason="because", delay=1000)
    assert [job.id for job in iter(ledger.claim, None)] == [2, 3]
    due = ledger.next_due()
    assert due is not None
    again = ledger.job(1)
    assert (again.state, again.attempts, again.exit_status, again.reason) == (JobState.QUEUED, 1, 1, "because")


def test_handing_back_counts_no_attempt(ledger: Ledger) -> None:
    """A job that was interrupted is queued as if it had not begun."""
    ledger.accept(notification(1), Verdict.MATCHED)
    job = ledger.claim()
    assert job is not None
    ledger.hand_back(job)
    again = ledger.claim()
    assert again == job
    assert again.attempts == 0
    assert (ledger.hand_back_all(), ledger.hand_back_all()) == (1, 0)


def test_unknown_job(ledger: Ledger) -> None:
    """Looking up what is not there is a KeyError."""
    with pytest.raises(KeyError):
        ledger.job(1)


def test_threads_share_it(ledger: Ledger) -> None:
    """Notifications accepted by many threads at once are all kept, each identity once."""
    threads = [
        threading.Thread(target=lambda: [ledger.accept(notification(n), Verdict.MATCHED) for n in range(20)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.count_jobs()[JobState.QUEUED] == 20
    assert ledger.count_verdicts()[Verdict.DUPLICATE] == 60


def test_survives_kill(tmp_path: Path) -> None:
    """What was accepted is there after the process was killed at once."""
    script = f"""
import os, signal
from pathlib import Path
from pacifica_notifications_consumer.job import Verdict
from pacifica_notifications_consumer.ledger import Ledger
from pacifica_notifications_consumer.notification import Notification
from pacifica_notifications_consumer.progress import Progress
Ledger(Path({str(tmp_path / "l")!r})).accept(Notification.parse(b'{{"eventID": "x", "source": "y"}}'), Verdict.MATCHED)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    with contextlib.closing(Ledger(tmp_path / "l")) as ledger:
        assert ledger.count_jobs()[JobState.QUEUED] == 1


def test_commits_reach_the_disk(ledger: Ledger) -> None:
    """The database is written ahead and synchronized fully, which makes a commit outlast the loss of power."""
    connection = ledger._connection
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_ledger_of_the_first_version(tmp_path: Path) -> None:
    """A ledger that an earlier version made is gone on with, and nothing in it is lost."""
    path = tmp_path / "old.sqlite3"
    connection = sqlite3.connect(path)
    lines = [line for line in ledger_module._SCHEMA.splitlines() if not line.strip().startswith("progress ")]
    connection.executescript(
        "\n".join(lines).replace("reason TEXT NOT NULL DEFAULT '',", "reason TEXT NOT NULL DEFAULT ''")
    )
    connection.execute("INSERT INTO notifications VALUES (1, 0, 's', 'e', 'e', 'matched', '', x'7b7d')")
    connection.execute("INSERT INTO jobs (id, notification_id, state, due_at) VALUES (7, 1, 'queued', 0)")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    columns = [row[1] for row in connection.execute("PRAGMA table_info(jobs)")]
    connection.close()
    assert "progress" not in columns
    for _ in range(2):
        with contextlib.closing(Ledger(path)) as ledger:
            assert (ledger.job(7).state, ledger.job(7).progress) == (JobState.QUEUED, {})
    with contextlib.closing(Ledger(path)) as ledger:
        ledger.note_progress(7, '{"upload": {"bytes_done": 5}}')
        assert ledger.job(7).progress == {"upload": Progress(bytes_done=5)}


def test_damaged_and_later_ledgers(tmp_path: Path) -> None:
    """A file that is no ledger, or one of a later version, is refused with advice."""
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StateError, match=r"cannot be used: file is not a database; check"):
        Ledger(path)
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StateError, match="made by a later version"):
        Ledger(path)


def test_full_disk(ledger: Ledger) -> None:
    """A disk that takes no more makes accepting fail, and loses nothing that was accepted before."""
    ledger.accept(notification(1), Verdict.MATCHED)
    (pages,) = ledger._connection.execute("PRAGMA page_count").fetchone()
    ledger._connection.execute(f"PRAGMA max_page_count = {pages}")
    large = Notification.parse(json.dumps({"eventID": "large", "data": "x" * 1_000_000}).encode())
    with pytest.raises(StateError, match="full"):
        ledger.accept(large, Verdict.MATCHED)
    assert ledger.count_jobs()[JobState.QUEUED] == 1
    assert ledger.claim() is not None


def test_directory_that_is_missing(tmp_path: Path) -> None:
    """A ledger in a place that does not exist is an error, not a new place."""
    with pytest.raises(StateError, match="unable to open"):
        Ledger(tmp_path / "missing" / "ledger")
    assert os.listdir(tmp_path) == []  # noqa: PTH208
