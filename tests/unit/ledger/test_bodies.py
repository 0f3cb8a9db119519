"""Notifications that are committed together, and the files of large ones: on the disk in time, and private."""

import os
import stat
from pathlib import Path

import pytest

from pacifica_notifications_consumer.errors import StateError
from pacifica_notifications_consumer.jobs.job import JobState, Verdict
from pacifica_notifications_consumer.jobs.retention import Keep
from pacifica_notifications_consumer.ledger.ledger import Ledger
from tests.unit.ledger.ledger_tools import LARGE, LEASE, accept, claim, decided


def test_several_at_once(ledger: Ledger, tmp_path: Path) -> None:
    """The receipts of notifications that are committed together are in their order; each first one has its job."""
    accept(ledger, 3)
    wanted = [decided(1), decided(2, Verdict.UNMATCHED), decided(3), decided(1), decided(4)]
    receipts = ledger.accept(list(zip(wanted, [b"one", b"two", LARGE, LARGE, LARGE], strict=True)))
    verdicts = [Verdict.MATCHED, Verdict.UNMATCHED, Verdict.DUPLICATE, Verdict.DUPLICATE, Verdict.MATCHED]
    assert [receipt.verdict for receipt in receipts] == verdicts
    assert [receipt.notification_id for receipt in receipts] == [2, 3, 4, 5, 6]
    assert [receipt.job_id for receipt in receipts] == [2, None, None, None, 6]
    assert [(job.title, job.body) for job in (claim(ledger), claim(ledger), claim(ledger))] == [
        ("e.3", b"{}"),
        ("e.1", b"one"),
        ("e.4", LARGE),
    ]
    # The file of the last one; the duplicates have none.
    assert len(list((tmp_path / "notifications").iterdir())) == 1
    assert [ledger.records.body(number) for number in (2, 3, 4, 6)] == [b"one", None, None, LARGE]


def test_files_are_private(ledger: Ledger, tmp_path: Path) -> None:
    """Other users cannot read notifications, neither in the database nor in files."""
    accept(ledger, 1, body=LARGE)
    (file,) = (tmp_path / "notifications").iterdir()
    paths = {tmp_path / "ledger.sqlite3": 0o600, tmp_path / "notifications": 0o700, file: 0o600}
    assert {path: stat.S_IMODE(path.stat().st_mode) for path in paths} == paths


def test_large_bodies_survive_a_power_failure(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large notification is accepted only when both the content and the name of its file are on the disk."""
    accept(ledger, 1, body=LARGE)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    before = set((tmp_path / "notifications").iterdir())
    accept(ledger, 2, body=LARGE)
    (file,) = set((tmp_path / "notifications").iterdir()) - before
    assert synced == [file.stat().st_ino, (tmp_path / "notifications").stat().st_ino]

    def fail(handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StateError, match=r"cannot write a notification to .*: Input/output error; check the disk"):
        accept(ledger, 3, body=LARGE)
    assert ledger.count_jobs()[JobState.QUEUED] == 2
    assert set((tmp_path / "notifications").iterdir()) == {file, *before}


def test_failed_commit_leaves_no_file(ledger: Ledger, tmp_path: Path) -> None:
    """The file of a large notification that cannot be committed is removed."""
    ledger._database.change("CREATE TRIGGER full BEFORE INSERT ON notifications BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(StateError, match="cannot be used: full"):
        accept(ledger, 1, body=LARGE)
    assert list((tmp_path / "notifications").iterdir()) == []


def test_empty_body(ledger: Ledger) -> None:
    """The body of an empty notification, which is set aside, is empty, and not missing."""
    accept(ledger, 1, Verdict.UNREADABLE, body=b"")
    assert ledger.records.notification(1).kept
    assert ledger.records.body(1) == b""


def test_claim_of_a_job_on_another_machine(ledger: Ledger) -> None:
    """A job that was handed out is claimed again with its task, the time of its beginning, and a new lease."""
    accept(ledger, 1)
    first = ledger.claim(LEASE, to_hand_out=True)
    assert first is not None
    assert first.task == f"1.{first.token}"
    ledger.hand_back(first)
    again = ledger.claim(LEASE, to_hand_out=True)
    assert again is not None
    assert (again.task, again.started_at, again.token == first.token) == (first.task, first.started_at, False)
    assert ledger.recover(3, expired=True) == {}
    assert ledger.records.job(1).state is JobState.RUNNING
    # The death of the runner is not the job's.
    assert ledger.recover(3) == {}
    assert (ledger.records.job(1).state, ledger.records.job(1).crashes) == (JobState.QUEUED, 0)


def test_old_bodies_are_removed_a_few_at_a_time(ledger: Ledger) -> None:
    """At most the requested number of old bodies that were set aside is removed at once; younger ones stay."""
    for number in (1, 2, 3):
        accept(ledger, number, Verdict.UNREADABLE, body=b"x")
    ledger.forget_set_aside(1000.0, 10)
    assert [ledger.records.notification(number).kept for number in (1, 2, 3)] == [True, True, True]
    ledger.forget_set_aside(-1.0, 2)
    assert [ledger.records.notification(number).kept for number in (1, 2, 3)] == [False, False, True]
    ledger.forget_set_aside(-1.0, 2)
    assert [ledger.records.body(number) for number in (1, 2, 3)] == [None, None, None]


def test_jobs_that_crashes_ended_grow_old(ledger: Ledger) -> None:
    """A job that crashes made dead is removed by its age like any other dead job."""
    accept(ledger, 1)
    claim(ledger)
    assert ledger.recover(0) == {1: JobState.DEAD}
    accept(ledger, 2)
    assert ledger.crash(claim(ledger), 0, "its worker died") is JobState.DEAD
    assert ledger.finished(Keep(age=1000.0), 10) == []
    assert ledger.finished(Keep(age=0.0), 10) == [1, 2]
