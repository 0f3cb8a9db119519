"""RemoteWorker returns what it cannot take to the queue, refuses what it must not run, and tells how attempts end."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
from celery.exceptions import Reject

from pacifica_notifications_consumer.engines.celery import worker as worker_module
from pacifica_notifications_consumer.engines.celery.broker import Broker
from pacifica_notifications_consumer.engines.celery.message import Message
from pacifica_notifications_consumer.engines.celery.records import RecordsError
from pacifica_notifications_consumer.engines.celery.reporter import ReportedAttempt
from pacifica_notifications_consumer.engines.celery.worker import RemoteWorker
from pacifica_notifications_consumer.engines.engine import Attempt, NotStarted, Stop, Terms
from pacifica_notifications_consumer.jobs.directory import JobDirectory, StateDirectory
from pacifica_notifications_consumer.jobs.job import Ending, Fate

MESSAGE = Message(job_id=1, archive="mine", body=b"{}", terms=Terms(consumer="mine"))
TASK = "1.0123456789abcdef"


class ScriptedEngine:
    """An engine that ends each attempt as a test says."""

    end: Callable[[], Ending | None]

    def open(self, mark: str) -> int:
        return 0

    def close(self) -> None:
        pass

    def run(self, attempt: Attempt, stop: Callable[[], Stop | None]) -> Ending | None:
        return self.end()


class FaultyRecords:
    """Records that fail, or note what was refused."""

    def __init__(self, *, fail: bool = False) -> None:
        self.fail = fail
        self.refused: dict[str, str] = {}

    def claim(self, *_: object) -> None:
        raise RecordsError("gone")

    def refuse(self, task: str, reason: str) -> None:
        if self.fail:
            raise RecordsError("gone")
        self.refused[task] = reason


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def worker(tmp_path: Path, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteWorker]:
    """A worker that has no broker, and has not been entered."""
    for pause in ("_PAUSE", "_AFTER_TROUBLE"):
        monkeypatch.setattr(worker_module, pause, 0.0)
    with closing(StateDirectory(tmp_path / "state", "the test")) as state:
        worker = RemoteWorker(Broker(url="redis://none", queue="q"), engine, "mine", tmp_path / "state")
        worker._state = state
        yield worker


def raising(error: Exception) -> Callable[[], Ending]:
    def end() -> Ending:
        raise error

    return end


@pytest.mark.parametrize(
    ("end", "fate", "reason"),
    [
        (raising(ValueError("odd")), Fate.ENDED, "could not be started: odd"),
        (raising(NotStarted(11, "no processes")), Fate.PUT_OFF, "could not start it: [Errno 11] no processes"),
        (raising(OSError(24, "no files")), Fate.ENDED, "could not follow it: [Errno 24] no files"),
        (raising(ZeroDivisionError("x")), Fate.CRASHED, "a bug in the worker: ZeroDivisionError('x')"),
        (lambda: None, Fate.RETURNED, "its worker was stopped"),
    ],
)
def test_ends_of_an_attempt(
    worker: RemoteWorker, engine: ScriptedEngine, end: Callable[[], Ending | None], fate: Fate, reason: str
) -> None:
    """Only what the entry-point itself caused counts as an attempt; the reason says what happened."""
    engine.end = end
    ending = worker._attempt(TASK, MESSAGE, ReportedAttempt(TASK, worker._state.job(TASK), 0.0))
    assert ending.fate is fate
    assert reason in ending.reason
    assert ending.status is None


def test_full_disk(worker: RemoteWorker, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt for whose files the disk has no room has not begun: it is put off, for this or another machine."""

    def prepare(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    engine.end = raising(AssertionError("it was begun"))
    monkeypatch.setattr(JobDirectory, "prepare", prepare)
    ending = worker._attempt(TASK, MESSAGE, ReportedAttempt(TASK, worker._state.job(TASK), 0.0))
    assert ending.fate is Fate.PUT_OFF
    assert ending.reason.endswith("could not start it: [Errno 28] No space left on device")


def test_attempt_whose_runner_asked_for_its_end(worker: RemoteWorker, engine: ScriptedEngine) -> None:
    """An attempt that was stopped for its runner says so."""
    engine.end = lambda: None
    report = ReportedAttempt(TASK, worker._state.job(TASK), 0.0)
    report.stop = Stop.CANCEL
    assert worker._attempt(TASK, MESSAGE, report) == Ending(reason="its end was requested", fate=Fate.RETURNED)


def returned(worker: RemoteWorker, document: dict[str, Any], task: str = TASK) -> bool:
    """Whether a worker returns a message to the queue."""
    try:
        worker._take(task, document)
    except Reject as rejected:
        return bool(rejected.requeue)
    return False


def test_worker_that_ends_takes_nothing(worker: RemoteWorker) -> None:
    """A message that arrives while the worker ends is returned to the queue."""
    worker._closing.set()
    assert returned(worker, MESSAGE.document())


def test_worker_that_ends_before_it_can_claim(worker: RemoteWorker) -> None:
    """A message is returned to the queue if Redis cannot be reached until the worker ends."""

    class Ending(FaultyRecords):
        def claim(self, *_: object) -> None:
            worker._closing.set()
            raise RecordsError("gone")

    worker._records = cast("Any", Ending())
    assert returned(worker, MESSAGE.document())


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({}, "cannot read it"),
        (MESSAGE.document() | {"job_id": "1"}, "a value in it has the wrong type"),
        (
            MESSAGE.document() | {"body": MESSAGE.document()["body"][:8]},
            "the notification in it is too large, or incomplete",
        ),
        (
            attrs.evolve(MESSAGE, terms=Terms(consumer="mine", timeout=-1)).document(),
            "a limit in it is not a positive number",
        ),
        (attrs.evolve(MESSAGE, archive="other").document(), "another version"),
    ],
)
def test_message_that_is_refused(worker: RemoteWorker, document: dict[str, Any], reason: str) -> None:
    """The runner learns why a message is refused; if it cannot be told, the message is returned to the queue."""
    records = FaultyRecords()
    worker._records = cast("Any", records)
    assert not returned(worker, document)
    assert reason in records.refused[TASK]
    records.fail = True
    assert returned(worker, document)


@pytest.mark.parametrize("task", ["", "1", "../1.0123456789abcdef", "1.0123456789abcdef/..", "x" * 1000])
def test_name_that_is_none(worker: RemoteWorker, task: str, caplog: pytest.LogCaptureFixture) -> None:
    """A message whose name would be another directory is ignored, and not returned, since it would come again."""
    assert not returned(worker, MESSAGE.document(), task)
    assert "is not an attempt's name" in caplog.text
    assert list((worker.state_dir / "jobs").iterdir()) == []


def test_broker_thread_that_ends(worker: RemoteWorker, caplog: pytest.LogCaptureFixture) -> None:
    """If the thread for the broker ends by an error, that is reported, and the worker's owner is called."""
    ended = []
    worker._on_end = lambda: ended.append(True)

    class Controller:
        def start(self) -> None:
            raise OSError("broken")

    worker._controller = Controller()
    with pytest.raises(OSError, match="broken"):
        worker._serve()
    assert ended == [True]
    assert "the worker takes no more jobs" in caplog.text
