"""After a power cut between any two system calls, all that was answered is in the ledger, and runs to its end."""

from __future__ import annotations

import json
import os
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import requests

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.errors import ConfigurationError
from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.queue.job_book import JobBook
from tests.chaos.power_cut import Call, can_record, none, record, replay, some
from tests.chaos.runner import KILLS, SEED
from tests.support.machine.ports import free_port
from tests.support.machine.scratch import scratch_directory
from tests.support.machine.waiting import DEADLINE, wait_until, whole_lines
from tests.support.paths import ROOT

#: A file system in memory, if there is one.
_MEMORY = "/dev/shm"  # noqa: S108  (a directory of its own is made there)
#: A runner, which ends when its input does.
RUNNER = """
import sys
from pathlib import Path
from pacifica_notifications_consumer.endpoint import Endpoint
from pacifica_notifications_runner.endpoint import listening
from tests.chaos.test_power_cuts import make_runner
entry_point, state, port = sys.argv[1:]
with make_runner(Path(entry_point), Path(state)) as runner:
    with listening(Endpoint(accept=runner.accept_all, token="t", max_body=1 << 20), "127.0.0.1", int(port)):
        sys.stdin.read()
"""
ENTRY_POINT = """
import os, sys
open(os.path.join(sys.argv[2], "uploads", "result"), "w").write("x")
print("done")
"""
#: The notifications of the first start, and of the second.
_STARTS = (range(8), range(8, 16))


def make_runner(entry_point: Path, state: Path) -> JobRunner:
    return JobRunner(entry_point, state, name="recorded", workers=2)


def notification(number: int) -> bytes:
    """Every third one is kept in a file of its own."""
    rest = "x" * (100_000 if number % 3 == 1 else 10)
    return json.dumps({"source": "s", "eventID": str(number), "data": [], "rest": rest}).encode()


class Producer:
    """Posts notifications, several at a time, and notes the job of each."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self.numbers: dict[int, int] = {}  #: by the jobs' ids

    def post(self, numbers: range) -> None:
        """Post them; the first waits for the endpoint."""
        with requests.Session() as session, ThreadPoolExecutor(3) as pool:
            session.trust_env = False

            def answers() -> bool:
                try:
                    return session.get(f"{self._url}/healthz", timeout=DEADLINE).ok
                except requests.ConnectionError:
                    return False

            def send(number: int) -> None:
                headers = {"Authorization": "Bearer t", "Content-Type": "application/json"}
                body = notification(number)
                answer = session.post(f"{self._url}/receive", data=body, headers=headers, timeout=DEADLINE)
                assert answer.status_code == 202, answer.text
                self.numbers[answer.json()["job"]] = number

            wait_until(answers, "the endpoint answers")
            list(pool.map(send, numbers))


def jobs_of(answers: list[bytes]) -> set[int]:
    """The jobs of the notifications that were answered with 202."""
    accepted = (answer.partition(b"\r\n\r\n")[2] for answer in answers if answer.startswith(b"HTTP/1.1 202 "))
    return {json.loads(body)["job"] for body in accepted}


def kept(state: Path, numbers: dict[int, int]) -> set[int]:
    """The jobs that a start on a state directory finds, each with the body of its notification."""
    try:
        with JobBook(state) as book:
            found = {job.id for job in book.jobs(1000)}
            for job_id in found & numbers.keys():
                assert book.ledger.records.body(job_id) == notification(numbers[job_id])
            return found
    except ConfigurationError:  # no consumer has run there
        return set()


def run_to_the_end(entry_point: Path, state: Path) -> None:
    """Start a runner; all jobs that it finds succeed."""
    with make_runner(entry_point, state) as runner:
        for job in runner.jobs(1000):
            assert runner.wait(job.id, DEADLINE).state is JobState.SUCCEEDED


@pytest.mark.skipif(not can_record(), reason="strace, with which system calls are recorded, is missing or forbidden")
def test_power_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else of the disk's writes survives, no notification is missing that was answered, with its body."""
    top, entry_point = tmp_path / "disk", tmp_path / "__main__.py"
    top.mkdir()
    entry_point.write_text(ENTRY_POINT)
    state = Path("new", "parents", "state")
    port, calls = free_port(), list[Call]()
    producer = Producer(port)

    def work(numbers: range) -> None:
        producer.post(numbers)
        outputs = [top / state / "jobs" / str(job) / "output.log" for job in producer.numbers]
        wait_until(lambda: all(map(whole_lines, outputs)), "all jobs have run")

    for numbers in _STARTS:
        program = ["-c", RUNNER, str(entry_point), str(top / state), str(port)]
        calls += record(program, tmp_path / "trace", ROOT, partial(work, numbers))
    # The disks after the cuts need no syncs, which take most of the time.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    chance, answered = random.Random(SEED), set[int]()
    points = sum(1 for _ in replay(calls, top))
    tried = {*chance.sample(range(points), min(points, 25 * KILLS)), points - 1}
    started = {*chance.sample(sorted(tried), KILLS // 2), points - 1}
    with scratch_directory(_MEMORY if os.access(_MEMORY, os.W_OK) else tmp_path) as place:
        after = place / "after"
        for point, (disk, sent) in enumerate(replay(calls, top)):
            if point not in tried:
                continue
            answered = jobs_of(sent)
            for survives in (none, some(chance)):
                disk.restore(after, survives)
                assert answered <= kept(after / state, producer.numbers), f"after {point} calls; seed {SEED}"
                if point in started:
                    run_to_the_end(entry_point, after / state)
                shutil.rmtree(after)
    assert answered == producer.numbers.keys()
    assert len(answered) == 16
