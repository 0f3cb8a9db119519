"""How notifications become jobs and when their attempts begin, and what they leave."""

import errno
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer.cloudevents.announcement import Identity
from pacifica_notifications_consumer.cloudevents.notification import PROVENANCE_KEY
from pacifica_notifications_consumer.engines.local import LocalEngine
from pacifica_notifications_consumer.errors import NotificationError, StateError
from pacifica_notifications_consumer.jobs.directory import JobDirectory
from pacifica_notifications_consumer.jobs.job import JobState, Origin, Verdict
from pacifica_notifications_consumer.ledger.ledger import Ledger
from pacifica_notifications_consumer.queue import workers
from pacifica_notifications_consumer.queue.prometheus import write_metrics
from tests.support.machine.waiting import DEADLINE, wait_until
from tests.support.policy_tools import UNKNOWN, transaction
from tests.support.runner_tools import body, make_runner, run_one


def test_recovered_transaction(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A transaction that was not announced gets a job as if it had been, and both records say where it came from."""
    caplog.set_level(logging.INFO)
    with make_runner(tmp_path, "") as runner:
        announced = runner.triage_transaction(json.dumps(transaction(3), indent=1).encode(), Identity())
        assert announced is not None
        receipt = runner.recover(announced)
        assert receipt.verdict is Verdict.MATCHED
        job = runner.wait(receipt, DEADLINE)
        notification = runner.ledger.records.notification(receipt.notification_id)
        assert (runner.directory(job.id).source / "notification.json").read_bytes() == announced.body
        assert 'pacifica_consumer_missed_total{fate="recovered"} 1\n' in write_metrics(runner)
        assert runner.recover(announced).verdict is Verdict.DUPLICATE
        assert runner.triage_transaction(json.dumps(UNKNOWN).encode(), Identity()) is None
    assert (job.state, job.origin, notification.origin) == (JobState.SUCCEEDED, Origin.RECOVERED, Origin.RECOVERED)
    assert f"notification {notification.title}: recovered, job {job.id}" in caplog.messages


def test_several_notifications(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Several notifications that are accepted together are jobs of their own, in their order."""
    caplog.set_level(logging.INFO)
    bodies = [body(1), body(2), b"not JSON", body(1), body(3)]
    with make_runner(tmp_path, "", workers=1) as runner:
        receipts = runner.accept_all(bodies)
        for number in (1, 2, 5):
            runner.wait(number, DEADLINE)
        started = [(job.started_at, job.id) for job in runner.jobs()]
        with pytest.raises(NotificationError, match=r"^notification 4 has no job, because it is duplicate; wait only"):
            runner.wait(receipts[3])
        with pytest.raises(NotificationError, match=r"^notification 3 has no job, because it is unreadable: .+; wait"):
            runner.wait(receipts[2])
    assert [receipt.job_id for receipt in receipts] == [1, 2, None, None, 5]
    assert {f"notification e.{number}: matched, job {job}" for number, job in ((1, 1), (2, 2), (3, 5))} <= set(
        caplog.messages
    )
    assert [number for _, number in sorted(started, key=lambda each: each[0] or 0.0)] == [1, 2, 5]


def test_next_attempt_begins_when_it_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that waits for the next attempt at a job does not sleep longer than until it is due."""
    monkeypatch.setattr(workers, "_LONGEST_IDLE", 2 * DEADLINE)
    source = "import os, sys; n = len(os.listdir(sys.argv[2])); open(f'{sys.argv[2]}/{n}', 'w'); sys.exit(n < 3)"
    job = run_one(make_runner(tmp_path, source, attempts=3, retry_delay=0.05, workers=1))
    assert (job.state, job.attempts) == (JobState.SUCCEEDED, 3)


def test_rules_of_triage(tmp_path: Path) -> None:
    """A runner's filter, name, strictness and depth decide about its notifications."""
    rules: dict[str, Any] = {"filter": '$["data"][*]["a"]', "strict": False, "max_depth": 3}
    own = {"destinationTable": "TransactionKeyValue", "key": PROVENANCE_KEY, "value": "mine", "a": 1}
    rows: list[dict[str, Any]] = [{"a": 1}, {"b": 1}, {"a": []}, own]
    expected = [Verdict.MATCHED, Verdict.UNMATCHED, Verdict.MALFORMED, Verdict.OWN]
    with make_runner(tmp_path, "", **rules) as runner:
        assert [runner.accept(body(number, row)).verdict for number, row in enumerate(rows)] == expected
    with make_runner(tmp_path, "", strict=True) as runner:
        assert runner.accept(body(9)).verdict is Verdict.MALFORMED


@pytest.mark.parametrize("method", ["claim", "end_attempt"])
def test_ledger_that_fails_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Workers go on after a fault of the ledger, whether they look for a job or record its end; no attempt is lost."""
    monkeypatch.setattr(workers, "_PAUSE_AFTER_FAULT", 0.01)
    real, faults = getattr(Ledger, method), [StateError("a fault", "wait"), StateError("again", "wait")]

    def fail(ledger: Ledger, *arguments: Any, **options: Any) -> Any:
        if faults:
            raise faults.pop()
        return real(ledger, *arguments, **options)

    monkeypatch.setattr(Ledger, method, fail)
    job = run_one(make_runner(tmp_path, "", workers=1))
    assert (job.state, job.attempts, job.crashes, faults) == (JobState.SUCCEEDED, 1, 0, [])


def test_no_arrival_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that arrives after a worker has looked for one, and before it sleeps, keeps it from sleeping."""
    monkeypatch.setattr(workers, "_LONGEST_IDLE", 2 * DEADLINE)
    look, arrived = Ledger.next_due, list[int]()

    def look_too_early(ledger: Ledger) -> float | None:
        due = look(ledger)
        if len(arrived) < 3:
            arrived.append(runner.accept(body(len(arrived) + 1)).job_id or 0)
        return due

    runner = make_runner(tmp_path, "", workers=1)
    monkeypatch.setattr(Ledger, "next_due", look_too_early)
    with runner:
        wait_until(lambda: len(arrived) == 3)
        assert runner.wait(arrived[-1], DEADLINE).state is JobState.SUCCEEDED


def test_only_the_first_attempt_has_waited(tmp_path: Path) -> None:
    """The time from arrival to attempt is measured once for each job, the time of attempts for each of them."""
    source = "import os, sys; n = len(os.listdir(sys.argv[2])); open(f'{sys.argv[2]}/{n}', 'w'); sys.exit(n < 2)"
    with make_runner(tmp_path, source, attempts=2) as runner:
        job = runner.wait(runner.accept(body()), DEADLINE)
        waits, attempts = runner.histograms.waits.read(), runner.histograms.attempts.read()
    assert (job.attempts, waits.count, attempts.count) == (2, 1, 2)
    assert job.started_at is not None
    assert 0 <= waits.total <= job.started_at - job.received_at
    assert attempts.total > 0


def test_nothing_is_left_of_progress(tmp_path: Path) -> None:
    """The directory of a job without downloads and uploads has only what is documented."""
    with make_runner(tmp_path, "") as runner:
        job = runner.wait(runner.accept(body()), DEADLINE)
        directory = runner.directory(job.id)
    assert {path.name for path in directory.path.iterdir()} == {"incoming", "outgoing", "output.log"}


@pytest.mark.parametrize(("state", "seconds"), [("ended_at = started_at - 5", 0.0), ("ended_at = started_at + 5", 5.0)])
def test_duration_when_the_clock_is_set_back(tmp_path: Path, state: str, seconds: float) -> None:
    """An attempt never takes a negative time."""
    with make_runner(tmp_path, "") as runner:
        job = runner.wait(runner.accept(body()), DEADLINE)
        runner.ledger._database.change(f"UPDATE jobs SET {state}")  # noqa: S608
        assert runner.job(job.id).seconds == pytest.approx(seconds)


def test_one_module_to_preload(tmp_path: Path) -> None:
    """The name of a single module is not taken for a sequence of letters."""
    engine = make_runner(tmp_path, "", preload="json")._engine
    assert isinstance(engine, LocalEngine)
    assert engine.preload == ["json"]


def lack(monkeypatch: pytest.MonkeyPatch, kind: type[Any], method: str, times: int) -> None:
    """No file can be opened so many times."""
    usual, left = getattr(kind, method), [None] * times

    def lacking(*arguments: Any) -> Any:
        if left:
            left.pop()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return usual(*arguments)

    monkeypatch.setattr(kind, method, lacking)


def test_lack_after_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that may have run is not put off without a count."""
    lack(monkeypatch, LocalEngine, "run", 1)
    job = run_one(make_runner(tmp_path, "", attempts=1))
    assert (job.state, job.attempts, job.reason) == (
        JobState.DEAD,
        1,
        "could not be started: [Errno 24] Too many open files",
    )


def test_limit_of_deferrals_after_a_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that was put off more often than it may ask for it does not go on asking for ever."""
    lack(monkeypatch, JobDirectory, "prepare", 2)
    job = run_one(make_runner(tmp_path, "raise SystemExit(75)", deferrals=1))
    assert (job.state, job.deferrals) == (JobState.DEAD, 2)
