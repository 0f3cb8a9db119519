"""The queries of users: lists, selections by time, and what ended in each minute."""

from types import SimpleNamespace

import pytest

from pacifica_notifications_consumer.jobs.job import JobState, NotificationRecord, Origin, Verdict
from pacifica_notifications_consumer.ledger import records
from pacifica_notifications_consumer.ledger.ledger import Ledger
from tests.unit.ledger.ledger_tools import WELL, accept, claim, decided, finish

HOUR = 3600.0
NOON = 1_700_000_000.0 // 60 * 60


def set_times(ledger: Ledger, column: str, times: list[float]) -> None:
    """Set a time of each notification or job in the order of their numbers, as if they had come or ended then."""
    table = "jobs" if column == "ended_at" else "notifications"
    for number, time in enumerate(times, 1):
        ledger._database.change(f"UPDATE {table} SET {column} = ? WHERE id = ?", time, number)  # noqa: S608


def selected(ledger: Ledger, since: float | None, until: float | None, *states: JobState) -> list[int]:
    return [job.id for job in ledger.records.ended_jobs(since, until, states)]


def test_selection_by_time(ledger: Ledger) -> None:
    """Jobs are selected by the arrival of their notifications, both ends included."""
    finish(ledger, *[JobState.SUCCEEDED] * 5)
    set_times(ledger, "received_at", [NOON + HOUR * number for number in range(1, 6)])
    assert selected(ledger, None, None) == [1, 2, 3, 4, 5]
    assert selected(ledger, NOON + 2 * HOUR, NOON + 4 * HOUR) == [2, 3, 4]
    assert selected(ledger, NOON + 2 * HOUR + 1, None) == [3, 4, 5]
    assert selected(ledger, None, NOON + 2 * HOUR - 1) == [1]
    assert selected(ledger, NOON + 6 * HOUR, None) == []


def test_selection_when_the_clock_was_set_back(ledger: Ledger) -> None:
    """Notifications whose times are not in the order of their numbers are found, too."""
    finish(ledger, *[JobState.SUCCEEDED] * 4)
    set_times(ledger, "received_at", [NOON, NOON + 100, NOON + 5, NOON + 105])
    assert selected(ledger, NOON + 50, NOON + 103) == [2]
    assert selected(ledger, NOON + 101, None) == [4]
    assert selected(ledger, None, NOON + 50) == [1, 3]


def test_selection_without_missing_numbers(ledger: Ledger) -> None:
    """The search by time copes with notifications that have no job, and with numbers that were never assigned."""
    accept(ledger, 1, Verdict.UNMATCHED)
    ledger._database.change("UPDATE notifications SET id = 40")
    ledger._arrivals._highest = 40
    accept(ledger, 2)
    ledger.end_attempt(claim(ledger), JobState.DEAD, WELL)
    ledger._database.change("UPDATE notifications SET received_at = id * 3600")
    assert selected(ledger, 40.5 * HOUR, None) == [41]
    assert selected(ledger, None, 40.5 * HOUR) == []


def test_selection_by_state(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of several states come in the order of their numbers, however many queries that takes."""
    monkeypatch.setattr(records, "_HANDFUL", 3)
    dead, done, failed = JobState.DEAD, JobState.SUCCEEDED, JobState.FAILED
    finish(ledger, dead, done, dead, done, dead, dead, done, failed)
    # This one has not ended.
    accept(ledger, 9)
    assert selected(ledger, None, None) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert selected(ledger, None, None, dead) == [1, 3, 5, 6]
    assert selected(ledger, None, None, failed, done) == [2, 4, 7, 8]


def test_lists(ledger: Ledger) -> None:
    """Jobs of a state and notifications of a verdict are listed from the newest, page by page."""
    finish(ledger, JobState.DEAD, JobState.SUCCEEDED, JobState.DEAD, JobState.DEAD)
    accept(ledger, 5, Verdict.UNREADABLE)
    accept(ledger, 6, Verdict.UNMATCHED)
    assert [job.id for job in ledger.records.jobs(2, state=JobState.DEAD)] == [4, 3]
    assert [job.id for job in ledger.records.jobs(2, 3, JobState.DEAD)] == [1]
    assert [each.id for each in ledger.records.notifications(2)] == [6, 5]
    assert [each.id for each in ledger.records.notifications(2, 5)] == [4, 3]
    assert [each.id for each in ledger.records.notifications(9, verdict=Verdict.UNREADABLE)] == [5]
    assert ledger.records.notifications(9, 5, Verdict.UNREADABLE) == []


def test_record_of_a_notification(ledger: Ledger) -> None:
    """The record has all that is known of a notification, and whether its body is kept."""
    ledger.accept([(decided(1), b"{}")], Origin.RECOVERED)
    accept(ledger, 2, Verdict.UNMATCHED, source=None)
    records_ = [ledger.records.notification(number) for number in (1, 2)]
    assert records_ == [
        NotificationRecord(
            id=1, received_at=records_[0].received_at, source="here", event_id="e.1", title="e.1",
            verdict=Verdict.MATCHED, origin=Origin.RECOVERED, kept=True, job_id=1, reason="", traceparent="",
        ),
        NotificationRecord(
            id=2, received_at=records_[1].received_at, source=None, event_id=None, title="e.2",
            verdict=Verdict.UNMATCHED, origin=Origin.DELIVERED, kept=False, job_id=None, reason="", traceparent="",
        ),
    ]  # fmt: skip
    assert (ledger.records.body(1), ledger.records.body(2)) == (b"{}", None)
    for unknown in (ledger.records.notification, ledger.records.body, ledger.records.job):
        with pytest.raises(KeyError):
            unknown(3)


def test_what_ended_in_each_minute(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chart has each of the last minutes; what ended in the last two of them is counted anew each time."""
    clock = SimpleNamespace(now=NOON + 30)
    monkeypatch.setattr(records, "time", SimpleNamespace(time=lambda: clock.now))

    def chart(minutes: int) -> list[tuple[float, int, int]]:
        ended = ledger.records.ended_by_minute(minutes)
        return [((each.minute - NOON) / 60, each.succeeded, each.dead) for each in ended]

    dead, done = JobState.DEAD, JobState.SUCCEEDED
    finish(ledger, done, dead, JobState.CANCELLED, done, JobState.FAILED)
    set_times(ledger, "ended_at", [NOON - 180, NOON - 1, NOON, NOON + 29, NOON + 1])
    assert chart(1) == [(0, 2, 0)]
    assert chart(3) == [(-2, 0, 0), (-1, 0, 1), (0, 2, 0)]
    assert chart(4) == [(-3, 1, 0), (-2, 0, 0), (-1, 0, 1), (0, 2, 0)]
    # The commit of an end comes after its time.
    for number, ended_at in ((6, NOON - 2), (7, NOON + 31)):
        accept(ledger, number)
        ledger._database.change("UPDATE jobs SET state = 'dead', ended_at = ? WHERE id = ?", ended_at, number)
    clock.now = NOON + 59
    assert chart(4) == [(-3, 1, 0), (-2, 0, 0), (-1, 0, 2), (0, 2, 1)]
    clock.now = NOON + 60
    assert chart(4) == [(-2, 0, 0), (-1, 0, 2), (0, 2, 1), (1, 0, 0)]
    clock.now = NOON + 600
    assert chart(2) == [(9, 0, 0), (10, 0, 0)]
    clock.now = NOON + 60
    assert chart(5) == [(-3, 1, 0), (-2, 0, 0), (-1, 0, 2), (0, 2, 1), (1, 0, 0)]
