"""Take away whatever stands between an upload and its job, at random: what was uploaded is what was processed, once.

The producer hears nothing, the subscription is switched off or deleted, policy is down, the runner is killed or
stopped, all while uploads go on, some of which fail and leave a number out.
"""

from __future__ import annotations

import collections
import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica_notifications_consumer.http.server import Handler
from pacifica_notifications_consumer.jobs.job import JobState, Origin
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.chaos.runner import KILLS, SEED, Runner
from tests.support.background import Background
from tests.support.faults import FaultServer, fault_server
from tests.support.machine.waiting import DEADLINE, wait_until
from tests.support.sandbox_tools import bundle, key_value, records_of

_FAULTS = ("kill", "kill", "stop", "deaf", "deaf", "disable", "delete", "policy down")
_FILES = {"a.txt": b"alpha"}


class Instruments(Background):
    """Upload to a sandbox all the time, some of it useless and some of it broken."""

    def __init__(self, sandbox: Sandbox, chance: random.Random) -> None:
        self._sandbox = sandbox
        self._chance = chance
        super().__init__(*[self._upload_all] * 2)
        self.uploads = 0

    def _upload_all(self) -> None:
        while not self.stop.wait(self._chance.random() * 0.2):
            seconds = self._chance.choice(["0", "0", "0.02", "0.3"])
            rows = [key_value("seconds", seconds), key_value("status", "0")]
            rows = [] if self._chance.random() < 0.2 else rows
            body = bundle(_FILES, records_of(_FILES, *rows))
            body = body[:1000] if self._chance.random() < 0.1 else body
            requests.post(f"{self._sandbox.ingest_url}/upload", data=body, timeout=DEADLINE).raise_for_status()
            self.uploads += 1


class Outages:
    """A sandbox, a runner, and what may happen to them."""

    def __init__(self, sandbox: Sandbox, runner: Runner, policy: FaultServer, chance: random.Random) -> None:
        self._sandbox, self.runner, self._policy, self._chance = sandbox, runner, policy, chance
        self.process: subprocess.Popen[bytes] = runner.start()
        #: How often a job had begun when it was first seen to have succeeded.
        self.begun: dict[str, int] = {}

    def strike(self, fault: str) -> None:
        pause = self._chance.random() * self._chance.choice([0.1, 0.5, 1.5])
        match fault:
            case "kill" | "stop":
                self.process.kill() if fault == "kill" else self.process.terminate()
                self.process.wait(DEADLINE)
                time.sleep(pause)
                self._look_for_repeats()
                self.process = self.runner.start()
            case "deaf":
                with deaf(self._sandbox):
                    time.sleep(pause)
            case "policy down":
                with silenced(self._policy):
                    time.sleep(pause)
            case _:
                self._spoil_subscription(delete=fault == "delete")
                time.sleep(pause)

    def _spoil_subscription(self, *, delete: bool) -> None:
        for subscription in self._sandbox.subscriptions():
            url = f"{self._sandbox.producer_url}/eventmatch/{subscription['uuid']}"
            headers = {"Http-Remote-User": "alice"}
            if delete:
                requests.delete(url, headers=headers, timeout=DEADLINE)
            else:
                spoilt = {"disabled": "2026-11-25T00:00:00", "error": "spoilt", "auth": subscription["auth"]}
                requests.put(url, json=spoilt, headers=headers, timeout=DEADLINE)

    def _look_for_repeats(self) -> None:
        if not (self.runner.home / "state" / "ledger.sqlite3").exists():
            return
        began = self.runner.notes()["begin"]
        for title, job in self.runner.jobs().items():
            if job.state is JobState.SUCCEEDED:
                assert self.begun.setdefault(title, began[title]) == began[title], title


@contextlib.contextmanager
def deaf(sandbox: Sandbox) -> Iterator[None]:
    """Have the producer hear of no transaction, as when its web service is down."""
    producer: Any = sandbox._producer
    producer._dispatch = lambda _: None
    try:
        yield
    finally:
        del producer._dispatch


@contextlib.contextmanager
def silenced(policy: FaultServer) -> Iterator[None]:
    """Have policy fail."""
    answer, policy.answer = policy.answer, lambda handler, _: handler.reply(503, b"down")
    try:
        yield
    finally:
        policy.answer = answer


def passing_on(url: str) -> Callable[[Handler, bytes], None]:
    """Answer what another server answers."""

    def answer(handler: Handler, body: bytes) -> None:
        headers = {"Content-Type": handler.headers.get("Content-Type", "")}
        with requests.Session() as session:
            session.trust_env = False
            told = session.request(handler.command, url + handler.path, data=body, headers=headers, timeout=DEADLINE)
        handler.reply(told.status_code, told.content, told.headers["Content-Type"])

    return answer


def expected_of(sandbox: Sandbox) -> set[str]:
    """The event ids of the transactions that concern the consumer."""
    events = (json.loads(sandbox.notification(number)) for number in sandbox.transactions())
    return {event["eventID"] for event in events if any(row.get("key") == "seconds" for row in event["data"])}


@pytest.mark.timeout(600 + 5 * KILLS)
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_outages_lose_nothing(tmp_path: Path) -> None:
    """After any number of outages what was uploaded is what was processed, and nothing was processed again."""
    print(f"\nseed {SEED}, {KILLS} outages")
    chance = random.Random(SEED)
    with (
        Sandbox(tmp_path / "sandbox", users={"alice": 10}) as sandbox,
        fault_server(passing_on(sandbox.policy_url)) as policy,
    ):
        variables = sandbox.environ() | {"PACIFICA_USERNAME": "alice", "PACIFICA_POLICY_URL": policy.url}
        runner = Runner(tmp_path.resolve(), "warm", variables=variables)
        outages = Outages(sandbox, runner, policy, chance)
        struck: collections.Counter[str] = collections.Counter()
        try:
            # Before it has subscribed for the first time, nothing is its business.
            wait_for(lambda: sandbox.subscriptions() and started(runner), "it has begun")
            with Instruments(sandbox, random.Random(SEED + 1)) as instruments:
                for _ in range(KILLS):
                    time.sleep(chance.random() * 0.6)
                    fault = chance.choice(_FAULTS)
                    outages.strike(fault)
                    struck[fault] += 1
            wait_for(lambda: ended(runner) == len(expected_of(sandbox)), "every upload has been processed")
        finally:
            outages.process.terminate()
            outages.process.wait(DEADLINE)
        outages._look_for_repeats()
        jobs, expected = runner.jobs(), expected_of(sandbox)
        recovered = sum(job.origin is Origin.RECOVERED for job in jobs.values())
        print(f"{instruments.uploads} uploads, {len(jobs)} jobs, {recovered} recovered, struck {dict(struck)}")
        assert jobs.keys() == expected
        assert {job.state for job in jobs.values()} == {JobState.SUCCEEDED}
        assert all(runner.notes()["end"][title] >= 1 for title in expected)
        assert sandbox.subscriptions() == []
        assert recovered > 0


def started(runner: Runner) -> bool:
    with runner.ledger() as ledger:
        return ledger.coverage.newest is not None


def ended(runner: Runner) -> int:
    with runner.ledger() as ledger:
        return ledger.count_jobs()[JobState.SUCCEEDED]


def wait_for(condition: Callable[[], Any], what: str) -> None:
    wait_until(condition, f"{what}; seed {SEED}", 2 * DEADLINE)
