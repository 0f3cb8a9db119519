"""The ledger keeps every notification and job, and raises an error when it cannot."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest

from pacifica_notifications_consumer.errors import LeaseLost, StateError
from pacifica_notifications_consumer.jobs.job import Ending, JobState, Origin, Verdict
from pacifica_notifications_consumer.jobs.retention import Keep
from pacifica_notifications_consumer.jobs.triage import Decision
from pacifica_notifications_consumer.ledger import schema
from pacifica_notifications_consumer.ledger.ledger import Ledger
from pacifica_notifications_consumer.streams.progress import Progress
from pacifica_notifications_consumer.subscription.incident import Incident, IncidentKind
from tests.support.machine.waiting import wait_until
from tests.unit.ledger.ledger_tools import LARGE, LEASE, WELL, accept, claim, finish


@pytest.mark.parametrize("body", [b'{"a": 1}', LARGE], ids=["small", "large"])
def test_matched_notification_becomes_a_job(ledger: Ledger, body: bytes) -> None:
    """A matching notification of any size becomes a job with its exact body, which is claimed once."""
    receipt = accept(ledger, 1, body=body)
    assert (receipt.verdict, receipt.job_id) == (Verdict.MATCHED, 1)
    job = claim(ledger)
    assert (job.id, job.title, job.body, job.state) == (1, "e.1", body, JobState.RUNNING)
    assert ledger.claim(LEASE) is None
    ledger.end_attempt(job, JobState.SUCCEEDED, WELL)
    assert (ledger.records.job(1).state, ledger.records.job(1).attempts, ledger.records.job(1).exit_status) == (
        JobState.SUCCEEDED,
        1,
        0,
    )


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict is not Verdict.MATCHED])
def test_others_are_recorded_only(ledger: Ledger, verdict: Verdict) -> None:
    """A notification that does not match is counted and has no job."""
    assert accept(ledger, 1, verdict).job_id is None
    assert ledger.claim(LEASE) is None
    assert ledger.count_verdicts()[verdict] == 1


def test_what_was_announced_comes_first(ledger: Ledger) -> None:
    """Jobs of recovered notifications are claimed after all due jobs of delivered ones."""

    def recover(number: int) -> None:
        decision = Decision(verdict=Verdict.MATCHED, title=f"e.{number}", source="here", event_id=f"e.{number}")
        ledger.accept([(decision, b"{}")], Origin.RECOVERED)

    for number in (1, 2):
        recover(number)
    for number in (3, 4):
        accept(ledger, number)
    recover(3)
    ledger.end_attempt(claim(ledger), JobState.FAILED, Ending(status=1), delay=1000)
    jobs = [claim(ledger) for _ in range(3)]
    assert [(job.title, job.origin.value) for job in jobs] == [
        ("e.4", "delivered"),
        ("e.1", "recovered"),
        ("e.2", "recovered"),
    ]
    assert ledger.next_due() == pytest.approx(time.time() + 1000, abs=60)
    # The third recovered notification had been delivered before.
    assert ledger.coverage.counts().recovered == 2


def test_duplicates(ledger: Ledger) -> None:
    """Source and event id identify a notification; notifications without them are never duplicates."""
    assert accept(ledger, 1).verdict is Verdict.MATCHED
    for _ in range(2):
        assert accept(ledger, 1).verdict is Verdict.DUPLICATE
    assert accept(ledger, 1, source="there").verdict is Verdict.MATCHED
    for _ in range(2):
        assert accept(ledger, 1, source=None).verdict is Verdict.MATCHED
    assert ledger.count_jobs()[JobState.QUEUED] == 4
    assert ledger.count_verdicts()[Verdict.DUPLICATE] == 2


def test_accepting_while_another_write_fails(ledger: Ledger) -> None:
    """Notifications that share a commit with each other, and with work that fails, are accepted once each."""
    entered, go = threading.Event(), threading.Event()

    def slow(_: sqlite3.Connection) -> None:
        entered.set()
        assert go.wait(LEASE)

    def fail(_: sqlite3.Connection) -> None:
        raise LookupError

    database = ledger._database
    with ThreadPoolExecutor(12) as pool:
        pool.submit(database.write, slow)
        entered.wait(LEASE)
        accepted = [pool.submit(accept, ledger, number // 2) for number in range(10)]
        failed = pool.submit(database.write, fail)
        wait_until(lambda: len(database._waiting) == 11)
        go.set()
        receipts = [each.result() for each in accepted]
    assert isinstance(failed.exception(), LookupError)
    assert len({receipt.notification_id for receipt in receipts}) == 10
    assert [receipt.verdict for receipt in receipts].count(Verdict.DUPLICATE) == 5
    assert ledger.count_jobs()[JobState.QUEUED] == 5


def files(tmp_path: Path) -> list[str]:
    directory = tmp_path / "notifications"
    return os.listdir(directory) if directory.exists() else []  # noqa: PTH208


def test_large_bodies_leave_no_files_behind(ledger: Ledger, tmp_path: Path) -> None:
    """A large body has a file while it may be needed; files of duplicates and files without a row are removed."""
    accept(ledger, 1, body=LARGE)
    accept(ledger, 1, body=LARGE)
    accept(ledger, 2, Verdict.UNMATCHED, body=LARGE)
    (kept,) = files(tmp_path)
    (tmp_path / "notifications" / "stray.json").touch()
    ledger.remove_orphans()
    assert files(tmp_path) == [kept]
    ledger.end_attempt(claim(ledger), JobState.SUCCEEDED, WELL)
    ledger.forget([1])
    assert files(tmp_path) == []


def test_body_that_went_missing(ledger: Ledger, tmp_path: Path) -> None:
    """A job whose file of the notification is missing is put off with a reason, and holds up no other job."""
    accept(ledger, 1, body=LARGE)
    accept(ledger, 2)
    (name,) = files(tmp_path)
    (tmp_path / "notifications" / name).unlink()
    before = time.time()
    with pytest.raises(StateError, match=f"{name}: No such file or directory; restore"):
        ledger.claim(LEASE)
    after = time.time()
    put_off = ledger.records.job(1)
    assert (put_off.state, put_off.attempts, put_off.crashes) == (JobState.QUEUED, 0, 0)
    assert f"{name}: No such file or directory" in put_off.reason
    assert claim(ledger).id == 2
    assert before + 60 <= (ledger.next_due() or 0) <= after + 60


def test_order_and_delay(ledger: Ledger) -> None:
    """Jobs are claimed in the order of their arrival, except those that wait for their next attempt."""
    for number in (1, 2, 3):
        accept(ledger, number)
    before = time.time()
    ledger.end_attempt(claim(ledger), JobState.FAILED, Ending(status=1, reason="because"), delay=1000)
    assert [claim(ledger).id, claim(ledger).id, ledger.claim(LEASE)] == [2, 3, None]
    due = ledger.next_due()
    assert due is not None
    assert 990 < due - before < 1010
    again = ledger.records.job(1)
    assert (again.state, again.attempts, again.exit_status, again.reason) == (JobState.FAILED, 1, 1, "because")


def test_what_is_kept_of_an_attempt(ledger: Ledger) -> None:
    """The record of an attempt has exit status, reason, duration, processor time, memory and last lines."""
    accept(ledger, 1)
    ending = Ending(status=-9, reason="signal 9", cpu_seconds=1.5, peak_memory=1 << 30, output_tail="λ\nlast")
    ledger.end_attempt(claim(ledger), JobState.DEAD, ending)
    job = ledger.records.job(1)
    assert job.ending == ending
    assert job.seconds is not None
    assert 0 <= job.seconds < 60


def test_texts_that_are_none(ledger: Ledger) -> None:
    """What cannot be kept as text is kept with escapes."""
    accept(ledger, 1)
    ending = Ending(status=1, reason="a\ud800", output_tail="\udcff\n")
    ledger.end_attempt(claim(ledger), JobState.DEAD, ending)
    kept = ledger.records.job(1).ending
    assert (kept.reason, kept.output_tail) == ("a\\ud800", "\\udcff\n")


def test_deferral_counts_no_attempt(ledger: Ledger) -> None:
    """A job that asks to be tried again later is queued again, and counted as a deferral, not as an attempt."""
    accept(ledger, 1)
    ledger.end_attempt(claim(ledger), JobState.QUEUED, Ending(status=75, reason="later"))
    again = claim(ledger)
    assert (again.attempts, again.deferrals) == (0, 1)


def test_handing_back_counts_nothing(ledger: Ledger) -> None:
    """An interrupted job is queued as if it had not begun."""
    accept(ledger, 1)
    ledger.hand_back(claim(ledger))
    again = claim(ledger)
    assert (again.attempts, again.deferrals, again.crashes) == (0, 0, 0)


def test_every_change_is_guarded_by_the_claim(ledger: Ledger) -> None:
    """A runner that has lost the claim of a job cannot change the job in any way."""
    accept(ledger, 1)
    lost = claim(ledger)
    assert ledger.recover(3) == {1: JobState.QUEUED}
    job = claim(ledger)
    changes: list[Callable[[], object]] = [
        lambda: ledger.end_attempt(lost, JobState.SUCCEEDED, WELL),
        lambda: ledger.crash(lost, 3, "its worker died"),
        lambda: ledger.hand_back(lost),
        lambda: ledger.note_progress(lost, "{}"),
    ]
    for change in changes:
        with pytest.raises(LeaseLost, match="the claim of job 1 is lost"):
            change()
    assert ledger.records.job(1) == attrs.evolve(job, body=b"")
    ledger.end_attempt(job, JobState.SUCCEEDED, WELL)


def test_leases(ledger: Ledger) -> None:
    """A claim is lost when its lease has expired, unless the lease was renewed."""
    for number in (1, 2):
        accept(ledger, number)
    expired, renewed = ledger.claim(0.0), ledger.claim(0.0)
    assert expired is not None
    assert renewed is not None
    ledger.renew([renewed], LEASE)
    assert ledger.recover(3, expired=True) == {expired.id: JobState.QUEUED}
    assert ledger.records.job(renewed.id).state is JobState.RUNNING


def test_crash_limit(ledger: Ledger) -> None:
    """A job that was running during crashes is queued again up to the crash limit, and then is dead."""
    accept(ledger, 1)
    for crash in (1, 2):
        claim(ledger)
        assert ledger.recover(2) == {1: JobState.QUEUED}
        assert ledger.records.job(1).crashes == crash
    claim(ledger)
    assert ledger.recover(2) == {1: JobState.DEAD}
    job = ledger.records.job(1)
    assert (job.attempts, job.reason) == (0, "was running when the runner or the machine died (3 times)")


def test_cancelling_and_queueing_anew(ledger: Ledger) -> None:
    """Only waiting jobs can be cancelled; only ended or failed jobs can be requeued, which resets all their counts."""
    assert not ledger.cancel(1, "no such job")
    accept(ledger, 1)
    assert not ledger.requeue([1])
    job = claim(ledger)
    assert not ledger.cancel(1, "it is running")
    assert not ledger.requeue([1])
    ledger.end_attempt(job, JobState.FAILED, Ending(status=1, reason="x"), delay=1000)
    assert ledger.cancel(1, "enough")
    assert not ledger.cancel(1, "twice")
    assert (ledger.records.job(1).state, ledger.records.job(1).reason) == (JobState.CANCELLED, "enough")
    assert ledger.requeue([1])
    again = claim(ledger)
    assert (again.attempts, again.state) == (0, JobState.RUNNING)


def test_retention_by_count(ledger: Ledger) -> None:
    """The newest finished jobs stay; dead and unfinished jobs are neither counted nor removed."""
    finish(ledger, JobState.DEAD, *[JobState.SUCCEEDED] * 3, JobState.CANCELLED, JobState.FAILED)
    accept(ledger, 7)
    assert ledger.finished(Keep(count=5), 100) == []
    assert ledger.finished(Keep(count=2), 100) == [2, 3]
    assert ledger.finished(Keep(count=2), 1) == [2]
    assert sorted(ledger.finished(Keep(count=0), 100)) == [2, 3, 4, 5]


def test_retention_by_age(ledger: Ledger) -> None:
    """Jobs that ended long enough ago are removed, dead ones too; jobs that have not ended stay."""
    finish(ledger, JobState.DEAD, JobState.SUCCEEDED, JobState.FAILED)
    accept(ledger, 4)
    assert ledger.finished(Keep(age=1000.0), 100) == []
    assert sorted(ledger.finished(Keep(age=0.0), 100)) == [1, 2]


def test_forgotten_jobs(ledger: Ledger) -> None:
    """A removed job is not counted, but its notification is still recognized; unfinished jobs cannot be removed."""
    finish(ledger, JobState.SUCCEEDED, JobState.FAILED)
    ledger.forget([1, 2, 99])
    with pytest.raises(KeyError):
        ledger.records.job(1)
    assert ledger.records.job(2).state is JobState.FAILED
    assert {state: n for state, n in ledger.count_jobs().items() if n} == {JobState.FAILED: 1}
    assert accept(ledger, 1).verdict is Verdict.DUPLICATE


def test_set_aside_bodies_go_with_age(ledger: Ledger, tmp_path: Path) -> None:
    """Bodies of notifications that were set aside are removed when they are old."""
    accept(ledger, 1, Verdict.MALFORMED, body=LARGE)
    ledger.forget_set_aside(1000.0, 10)
    assert len(files(tmp_path)) == 1
    ledger.forget_set_aside(-1.0, 10)
    assert files(tmp_path) == []
    assert ledger.count_verdicts()[Verdict.MALFORMED] == 1


def test_listing(ledger: Ledger) -> None:
    """Jobs are listed from the newest, and a second page continues the first."""
    for number in range(1, 6):
        accept(ledger, number)
    assert [job.id for job in ledger.records.jobs(2)] == [5, 4]
    assert [job.id for job in ledger.records.jobs(2, before=4)] == [3, 2]


def test_incidents(ledger: Ledger) -> None:
    """Incidents of the subscription are stored and counted."""
    first = Incident(kind=IncidentKind.DISABLED, since=1.5, until=2.5, detail="said so")
    second = Incident(kind=IncidentKind.DELETED, since=None, until=3.0)
    for incident in (first, second):
        ledger.note_incident(incident)
    assert ledger.incidents(10) == [second, first]
    assert ledger.incidents(1) == [second]
    assert {kind for kind, count in ledger.count_incidents().items() if count} == {first.kind, second.kind}


def test_closed_ledger(tmp_path: Path) -> None:
    """A ledger that is used after its end has an error like any other that it cannot read."""
    ledger = Ledger(tmp_path / "l")
    ledger.close()
    with pytest.raises(StateError, match="cannot be used: Cannot operate on a closed database"):
        ledger.count_jobs()


def test_unknown_job(ledger: Ledger) -> None:
    """Looking up an unknown number raises KeyError."""
    with pytest.raises(KeyError):
        ledger.records.job(1)


def test_survives_kill(tmp_path: Path) -> None:
    """An accepted notification is in the ledger even if the process is killed immediately afterwards."""
    script = f"""
import os, signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pacifica_notifications_consumer.jobs.job import Verdict
from pacifica_notifications_consumer.jobs.triage import Decision
from pacifica_notifications_consumer.ledger.ledger import Ledger
Ledger(Path({str(tmp_path / "l")!r})).accept([(Decision(verdict=Verdict.MATCHED, title="x"), b"x" * 100_000)])
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    with contextlib.closing(Ledger(tmp_path / "l")) as ledger:
        assert claim(ledger).body == b"x" * 100_000


@pytest.mark.parametrize("version", range(1, len(schema.STEPS)))
def test_ledgers_of_earlier_versions(tmp_path: Path, version: int) -> None:
    """A ledger of an earlier version is migrated without lost entries or wrong counts."""
    path = tmp_path / "old.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript("".join(schema.STEPS[:version]))
        for number, (verdict, body) in enumerate([("matched", b"{}"), ("matched", b"[]"), ("unmatched", None)], 1):
            row = (number, f"e.{number}", verdict, body)
            connection.execute(
                "INSERT INTO notifications (id, received_at, source, event_id, title, verdict, reason, body) "
                "VALUES (?, 0, 'here', ?, 'e', ?, '', ?)",
                row,
            )
        # Later versions have made the jobs by a trigger.
        connection.execute("DELETE FROM jobs")
        connection.execute("INSERT INTO jobs (id, notification_id, state, due_at) VALUES (7, 1, 'queued', 0)")
        connection.execute("INSERT INTO jobs (id, notification_id, state, due_at) VALUES (8, 2, 'running', 0)")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.commit()
    for _ in range(2):
        with contextlib.closing(Ledger(path)) as ledger:
            assert (ledger.records.job(7).state, ledger.records.job(7).progress) == (JobState.QUEUED, {})
    with contextlib.closing(Ledger(path)) as ledger:
        assert ledger.recover(3) == {8: JobState.QUEUED}
        assert {state: n for state, n in ledger.count_jobs().items() if n} == {JobState.QUEUED: 2}
        assert {verdict: n for verdict, n in ledger.count_verdicts().items() if n} == {
            Verdict.MATCHED: 2,
            Verdict.UNMATCHED: 1,
        }
        assert accept(ledger, 3).verdict is Verdict.DUPLICATE
        job = claim(ledger)
        ledger.note_progress(job, '{"upload": {"bytes_done": 5}}')
        assert ledger.records.job(7).progress == {"upload": Progress(bytes_done=5)}
