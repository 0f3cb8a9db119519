"""Kill the runner, its jobs, and other machines, at random moments: nothing is lost, nothing runs amok.

PACIFICA_TEST_KILLS says how often (`make chaos` many times, otherwise a few), PACIFICA_TEST_SEED repeats a run.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica_notifications_consumer.jobs.job import JobState, Verdict
from tests.chaos.consumer import TOKEN
from tests.chaos.machines import Machines, machines
from tests.chaos.runner import KILLS, SEED, Runner, settle
from tests.support.background import Background
from tests.support.machine.waiting import DEADLINE, wait_until

#: What is struck, and how often of ten.
_TARGETS = ("runner",) * 6 + ("job",) * 2 + ("orderly stop", "stop and kill")
_TARGETS_OF = {
    "cold": _TARGETS,
    "warm": (*_TARGETS, *("warm process",) * 2),
    # A broker takes its time to come back, with much that has piled up before it.
    "redis": (*_TARGETS, *("worker",) * 4, *("worker stop",) * 2, "broker"),
    "rabbitmq": (*_TARGETS, *("worker",) * 4, *("worker stop",) * 2, "broker"),
}


class Producer(Background):
    """Posts notifications as fast as it gets answers, some of them twice, and remembers which were accepted."""

    def __init__(self, port: int, chance: random.Random) -> None:
        self._url = f"http://127.0.0.1:{port}/receive"
        self._chance = chance
        self._lock = threading.Lock()
        self._numbers = iter(range(1, 1_000_000))
        self.sent: dict[str, dict[str, Any]] = {}
        self.accepted: dict[str, dict[str, Any]] = {}
        self.errors: list[str] = []
        self.posts = 0
        super().__init__(*[self._post_all] * 3)

    def wait_for(self, number: int) -> None:
        """Wait until so many more notifications are accepted."""
        before = len(self.accepted)
        wait_until(lambda: len(self.accepted) >= before + number, f"{number} more notifications")

    def _post_all(self) -> None:
        with requests.Session() as session:
            session.trust_env = False
            while not self.stop.is_set():
                with self._lock:
                    event = self._event(next(self._numbers))
                    self.sent[event["eventID"]] = event
                    copies = 2 if self._chance.random() < 0.2 else 1
                    pause = self._chance.random() * 0.2
                for _ in range(copies):
                    self._post(session, event)
                self.stop.wait(pause)

    def _event(self, number: int) -> dict[str, Any]:
        data = {
            "seconds": self._chance.choice([0, 0, 0, 0, 0.02, 0.02, 0.3, 1.0]),
            "status": self._chance.choice([0, 0, 0, 0, 1]),
            "children": self._chance.random() < 0.1,
            "again": self._chance.random() < 0.1,
            # Some are large, so that they have files of their own.
            "padding": "x" * self._chance.choice([0, 0, 0, 100_000]),
        }
        if self._chance.random() < 0.1:
            del data["seconds"]  # does not match
        return {"source": "chaos", "eventID": f"e.{number}", "data": data}

    def _post(self, session: requests.Session, event: dict[str, Any]) -> None:
        self.posts += 1
        try:
            answer = session.post(self._url, json=event, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30)
        except requests.RequestException:
            return  # the runner is dead, or died meanwhile
        with self._lock:
            if answer.ok:
                self.accepted[event["eventID"]] = event
            else:
                self.errors.append(f"{answer.status_code} {answer.text}")


def strike(target: str, runner: Runner, process: subprocess.Popen[bytes], chance: random.Random) -> int | None:
    """Kill something; returns the job that was hit, if it was one."""
    if target in ("job", "warm process"):
        jobs = {pid: job for pid, job in runner.processes().items() if (job == 0) == (target == "warm process")}
        if not jobs:
            return None
        pid = chance.choice(sorted(jobs))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return jobs[pid]
    if target != "runner":
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60 if target == "orderly stop" else chance.random() * 0.3)
    process.kill()
    process.wait()
    return None


@pytest.mark.timeout(600 + 5 * KILLS)
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
@pytest.mark.parametrize("way", list(_TARGETS_OF))
def test_kills_lose_nothing(tmp_path: Path, way: str) -> None:
    """After any number of kills every accepted notification ran to an end, none ran after it had succeeded."""
    print(f"\nseed {SEED}, {KILLS} kills, {way}")
    with machines(way, tmp_path.resolve()) as behind:
        kill_again_and_again(tmp_path.resolve(), way, behind)


def kill_again_and_again(home: Path, way: str, behind: Machines) -> None:
    """Kill the runner, its jobs, and what is behind it; then see that nothing is lost, and nothing run too often."""
    chance = random.Random(SEED)
    runner = Runner(home, "celery" if behind.workers else way, variables=behind.variables)
    ends_at_success: dict[str, int] = {}
    struck_jobs: set[int] = set()
    process = runner.start()
    struck: collections.Counter[str] = collections.Counter()
    try:
        with Producer(runner.port, random.Random(SEED + 1)) as producer:
            # The first kill may fall into the making of the ledger. The others wait until the runner is up: on a busy
            # machine a start can take longer than all kills.
            time.sleep(chance.random())
            strike("runner", runner, process, chance)
            process = runner.start()
            runner.wait_until_up(process)
            producer.wait_for(3)
            while sum(struck.values()) < KILLS:
                time.sleep(chance.random() * chance.choice([0.1, 0.6, 1.2]))
                target = chance.choice(_TARGETS_OF[way])
                struck[target] += 1
                if target in ("worker", "worker stop", "broker"):
                    behind.strike(target, chance)
                    continue
                struck_jobs.add(strike(target, runner, process, chance) or 0)
                if process.poll() is None:
                    continue
                # What has succeeded by now must never run again.
                began = runner.notes()["begin"]
                for title, job in runner.jobs().items():
                    if job.state is JobState.SUCCEEDED:
                        assert ends_at_success.setdefault(title, began[title]) == began[title], title
                process = runner.start()
                if chance.random() < 0.7:
                    # However slow a start is on this machine, some notifications are taken between two kills.
                    runner.wait_until_up(process)
                    producer.wait_for(3)
        settle(runner, process, behind.restart_workers)
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE)
        finally:
            behind.close()
    print(f"{producer.posts} posts, {len(producer.accepted)} accepted, struck {dict(struck)}")
    assert producer.errors == []
    check(runner, producer, ends_at_success, struck_jobs)


def check(runner: Runner, producer: Producer, ends_at_success: dict[str, int], struck_jobs: set[int]) -> None:
    """Hold the ledger and what the entry-points noted against what was accepted."""
    jobs, notes = runner.jobs(), runner.notes()
    assert runner.processes() == {}
    assert notes["overlap"] == {}
    for event_id, event in producer.accepted.items():
        if "seconds" not in event["data"]:
            assert event_id not in jobs
            continue
        job, status = jobs[event_id], event["data"]["status"]
        assert job.deferrals <= notes["again"][event_id]
        if job.state is JobState.SUCCEEDED:
            assert (notes["end"][event_id] >= 1, status) == (True, 0), event_id
        if job.id not in struck_jobs:
            # Neither crashes nor stops count as attempts, nor does asking to be tried again.
            expected = (JobState.DEAD, 2) if status else (JobState.SUCCEEDED, 1)
            assert (job.state, job.attempts) == expected, event_id
        else:
            assert job.state in (JobState.SUCCEEDED, JobState.DEAD)
            assert 1 <= job.attempts <= 2
    for event_id, began in ends_at_success.items():
        assert notes["begin"][event_id] == began, f"{event_id} ran again after it had succeeded"
    with runner.ledger() as ledger:
        counts = ledger.count_verdicts()
        assert sum(ledger.count_jobs().values()) == counts[Verdict.MATCHED] == len(jobs)
    large = sum(bool(producer.sent[title]["data"]["padding"]) for title in jobs)
    # The directory is made for the first large notification.
    assert len(list((runner.home / "state").glob("notifications/*"))) == large
