"""After a power cut between any two system calls, everything that was answered is in the ledger."""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest

from pacifica_notifications_consumer.errors import ConfigurationError
from pacifica_notifications_consumer.queue.job_book import JobBook
from tests.chaos.power_cut import can_record, none, record, replay, some
from tests.chaos.runner import SEED
from tests.support.paths import ROOT

#: A file system in memory, if there is one.
_MEMORY = "/dev/shm"  # noqa: S108  (a directory of its own is made there)
#: Accepts notifications, small, large and several at a time, and prints the numbers that would be answered with 202.
ACCEPTING = """
import contextlib, os, sys
from pathlib import Path
from pacifica_notifications_consumer.jobs.directory import StateDirectory
from pacifica_notifications_consumer.jobs.triage import Triage
from pacifica_notifications_consumer.ledger.ledger import Ledger
from tests.chaos.test_power_cuts import notification
for start in (0, 8):
    with contextlib.closing(StateDirectory(Path(sys.argv[1]), "recorded")) as state:
        with contextlib.closing(Ledger(state.ledger)) as ledger:
            for numbers in ([0], [1], [2, 3], [4], [5, 6, 7]):
                bodies = [notification(start + number) for number in numbers]
                ledger.accept([(Triage(name="n").decide(body), body) for body in bodies])
                os.write(1, b"".join(b"%d " % (start + number) for number in numbers))
"""


def notification(number: int) -> bytes:
    """Every third one is kept in a file of its own."""
    rest = "x" * (100_000 if number % 3 == 1 else 10)
    return json.dumps({"source": "s", "eventID": str(number), "data": [], "rest": rest}).encode()


def kept(state: Path) -> set[int]:
    """The notifications that a start on a state directory finds, each with its body and its job."""
    try:
        with JobBook(state) as book:
            found = {job.id: int(job.title.rpartition(" ")[2].rpartition("/")[2]) for job in book.jobs(1000)}
            for job_id, number in found.items():
                assert book.ledger.records.body(job_id) == notification(number)
            return set(found.values())
    except ConfigurationError:  # no consumer has run there
        return set()


@pytest.mark.skipif(not can_record(), reason="strace, with which system calls are recorded, is missing or forbidden")
def test_power_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else of the disk's writes survives, no notification is missing that was answered, with its body."""
    top = tmp_path / "disk"
    top.mkdir()
    state = Path("new", "parents", "state")
    calls = record(["-c", ACCEPTING, str(top / state)], tmp_path / "trace", ROOT)
    # The disks after the cuts need no syncs, which take most of the time.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    chance, cuts, answered = random.Random(SEED), 0, set[int]()
    with tempfile.TemporaryDirectory(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else tmp_path) as place:
        after = Path(place, "after")
        for disk, printed in replay(calls, top):
            answered = set(map(int, printed.split()))
            for survives in (none, some(chance)):
                disk.restore(after, survives)
                assert answered <= kept(after / state), f"after {cuts} cuts; seed {SEED}"
                shutil.rmtree(after)
                cuts += 1
    assert answered == set(range(16))
    assert cuts > 200
