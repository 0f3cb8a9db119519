"""The parts of the Celery engine that need no broker: copies of output, records, reports, digests."""

from __future__ import annotations

import base64
import json
import os
import threading
from pathlib import Path
from typing import Any

import attrs
import pytest

from pacifica_notifications_consumer.archive.archive import digest
from pacifica_notifications_consumer.engines.celery import records as store
from pacifica_notifications_consumer.engines.celery.broker import Broker
from pacifica_notifications_consumer.engines.celery.output import OutputCopy
from pacifica_notifications_consumer.engines.celery.records import UNKNOWN, AttemptView, Heartbeat, News
from pacifica_notifications_consumer.engines.celery.reporter import ReportedAttempt
from pacifica_notifications_consumer.engines.celery.watcher import WatchedAttempt
from pacifica_notifications_consumer.jobs.directory import JobDirectory
from pacifica_notifications_consumer.jobs.job import Ending, Fate, RemoteLocation
from pacifica_notifications_runner import engines
from pacifica_notifications_runner.options.settings import Settings


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    directory = JobDirectory(tmp_path)
    directory.make()
    return directory


def output_copy(directory: JobDirectory, task: str = "1.a", limit: int | None = None) -> OutputCopy:
    made = OutputCopy(directory, task, limit)
    made.whole = "/there on that machine"
    return made


def test_mirror_takes_each_byte_once(directory: JobDirectory) -> None:
    """Pieces that overlap, arrive twice, or arrive after a restart result in the original output."""
    first = output_copy(directory)
    first.add(0, b"abc")
    first.add(0, b"abcde")
    first.add(2, b"cde")
    second = output_copy(directory)
    second.add(1, b"bcdef")
    assert directory.output.read_bytes() == b"abcdef"
    second.finish()
    assert sorted(path.name for path in directory.path.iterdir() if path.is_file()) == ["output.log"]


def test_mirror_is_for_its_user_alone(directory: JobDirectory) -> None:
    """Nobody else can read the files of a copied output, whatever the umask."""
    before = os.umask(0)
    try:
        output_copy(directory).add(0, b"abc")
    finally:
        os.umask(before)
    files = [path for path in directory.path.iterdir() if path.is_file()]
    assert sorted(path.name for path in files) == ["output.log", "output.position"]
    assert [path for path in files if path.stat().st_mode & 0o077] == []


def test_mirror_says_what_it_has_missed(directory: JobDirectory) -> None:
    """Missing pieces are replaced by a note with their size and the place of the whole output."""
    made = output_copy(directory)
    made.add(0, b"abc")
    made.add(10, b"xyz")
    made.add(UNKNOWN, b"end")
    assert directory.output.read_text() == (
        "abc\n[… 7 bytes are left out here; see /there on that machine …]\nxyz"
        "\n[… some bytes are left out here; see /there on that machine …]\nend"
    )


def test_mirror_of_another_attempt_goes_on_below(directory: JobDirectory) -> None:
    """The output of a second attempt is appended to that of the first."""
    output_copy(directory, "1.a").add(0, b"first\n")
    output_copy(directory, "1.b").add(0, b"second\n")
    assert directory.output.read_text() == "first\nsecond\n"


def test_mirror_has_a_limit(directory: JobDirectory) -> None:
    """A copied output has the same limit as the output of a local job."""
    made = output_copy(directory, limit=10_000)
    for number in range(20):
        made.add(number * 5000, b"x" * 5000)
    made.finish()
    assert directory.output.stat().st_size < 11_000


GOOD: dict[str, Any] = json.loads(json.dumps(attrs.asdict(Ending(status=0)) | {"fate": "ended"}))


@pytest.mark.parametrize(
    ("field", "spoilt"),
    [
        ("claim", "{"),
        ("claim", "[]"),
        ("claim", '{"worker": "w"}'),
        ("ending", "x"),
        ("ending", "[]"),
        ("ending", json.dumps(GOOD | {"fate": "odd"})),
        ("ending", json.dumps(GOOD | {"status": "0"})),
        ("ending", json.dumps(GOOD | {"reason": None})),
        ("ending", json.dumps(GOOD | {"peak_memory": 1.5})),
        ("ending", json.dumps(GOOD | {"more": 1})),
        ("ending", json.dumps(GOOD | {"status": 2**70})),
        ("ending", json.dumps(GOOD | {"peak_memory": 2**70})),
        ("ending", json.dumps(GOOD | {"cpu_seconds": float("nan")})),
        ("ending", "[" * 100_000),
        ("ending", json.dumps({name: GOOD[name] for name in GOOD if name != "output_tail"})),
    ],
)
def test_spoilt_record_is_none(field: str, spoilt: str) -> None:
    """A record that cannot be parsed counts as missing."""
    names = ("open", "claim", "beat", "news", "refused", "ending")
    place = json.dumps({"worker": "w", "directory": "/d"})
    record: dict[str, str | None] = {"open": "1", "claim": place, "beat": "1", "ending": json.dumps(GOOD)}
    good = store._look([record.get(name) for name in names])
    assert good == AttemptView(
        opened=True,
        place=RemoteLocation(worker="w", directory="/d"),
        beat="1",
        ending=Ending(status=0, fate=Fate.ENDED),
    )
    record[field] = spoilt
    assert store._look([record.get(name) for name in names]) == AttemptView(opened=False)


def test_spoilt_news_are_none() -> None:
    """Reports of a worker that cannot be parsed or are too large are ignored."""
    fields = Heartbeat(task="1.a", number=1, news=News(progress="p", output_start=3, output=b"\xff\0")).fields()
    told = [str(fields[name]) for name in ("progress", "output_start", "output")]
    assert store._news(*told) == News(progress="p", output_start=3, output=b"\xff\0")
    assert store._news("p", "3", "no base64!") == News()
    assert store._news("p", "three", "") == News()
    assert store._news("p" * (2 << 20), "3", "") == News()
    assert store._news("p", "3", base64.b64encode(b"x" * (2 << 20)).decode()) == News()


def test_news_are_told_once_and_repeated_when_they_may_have_been_lost(directory: JobDirectory) -> None:
    """New progress and output are reported once, again after a fault, and again after the output has been cut."""
    report = ReportedAttempt("1.a", directory, 0.0)
    assert report.news() is None
    directory.output.write_bytes(b"abc")
    directory.progress.write_text("{}")
    assert report.news() == News(progress="{}", output_start=0, output=b"abc")
    assert report.news() is None
    report.repeat()
    assert report.news() == News(progress="{}", output_start=0, output=b"abc")
    directory.output.write_bytes(b"x" * (1 << 16) + b"end")
    news = report.news()
    assert news is not None
    assert (news.output_start, len(news.output)) == (3, 1 << 16)
    directory.output.write_bytes(b"cut")
    assert report.news() == News(progress="{}", output_start=UNKNOWN, output=b"cut")


def test_silence_is_what_was_seen() -> None:
    """Only observed time without any change counts as silence."""
    watched = WatchedAttempt("1.a", threading.Condition())
    assert watched.see(AttemptView(opened=True), 1.0)
    assert not watched.see(AttemptView(opened=True), 1.0)
    assert not watched.see(AttemptView(opened=True), 0.5)
    assert watched.silence == 1.5
    assert watched.see(AttemptView(opened=True, beat="1"), 1.0)
    assert watched.silence == 0.0


def test_digest_names_what_a_consumer_is(tmp_path: Path) -> None:
    """Two consumers have the same digest if and only if their files are the same, except for the filter."""
    made = []
    for number, (files, executable) in enumerate(
        [
            ({"a": b"x", "b/c": b"y"}, False),
            ({"b/c": b"y", "a": b"x"}, False),
            ({"a": b"x", "b/c": b"z"}, False),
            ({"a": b"x", "b/d": b"y"}, False),
            ({"a": b"x", "b/c": b"y", "e": b""}, False),
            ({"ab": b"x", "b/c": b"y"}, False),
            ({"a": b"x", "b/c": b"y"}, True),
            ({"a": b"x", "b/c": b"y", "b/jsonpath2.txt": b"$"}, False),
            ({"a": b"x", "b/c": b"y", "jsonpath2.txt": b"$"}, False),
        ]
    ):
        home = tmp_path / str(number)
        for name, content in files.items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_bytes(content)
        if executable:
            (home / "a").chmod(0o700)
        made.append(digest(home))
    assert made[0] == made[1] == made[-1]
    assert len(set(made)) == len(made) - 2


def test_how_many_jobs_run() -> None:
    """The number of jobs is the configured one, else a small number on this machine and a larger one on others."""
    assert engines.max_running(Settings()) == 2
    assert engines.max_running(Settings(engine="celery")) == 64
    assert engines.max_running(Settings(engine="celery", workers=3)) == 3


def test_queue_is_called_after_the_consumer() -> None:
    """The queue has the consumer's name by default."""
    settings = Settings(broker_url="redis://h", priority=3)
    assert engines.make_broker(settings, "mine") == Broker(url="redis://h", queue="mine", priority=3)
    assert engines.make_broker(attrs.evolve(settings, queue="other"), "mine").queue == "other"
