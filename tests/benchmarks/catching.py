"""Catching up on the real services: transactions looked at in a second, and what that costs policy and metadata."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import requests

from pacifica_notifications_consumer.catch_up.catch_up import CatchUp, CatchUpRules
from pacifica_notifications_consumer.clients.base import make_session
from pacifica_notifications_consumer.clients.policy import Policy
from pacifica_notifications_consumer.settings.services import Services
from tests.integration.bed import Bed
from tests.integration.conftest import TRANSACTION
from tests.integration.test_catch_up import Metadata, rows_of
from tests.support.policy_tools import store_at

_COUNT = 150
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure on a bed of its own."""
    with tempfile.TemporaryDirectory() as home, Bed() as bed, store_at(Path(home)) as store:
        metadata = Metadata(bed)
        others = [metadata.put(rows_of(TRANSACTION, stay="yes")) for _ in range(_COUNT)]
        ours = [metadata.put(rows_of(TRANSACTION, go="yes")) for _ in range(_COUNT)]
        services = Services(policy_url=bed.urls["policy"], username="alice")
        with make_session(services) as session:
            policy = Policy(bed.urls["policy"], session)
            unbound = CatchUpRules(rate=1e6)
            caught = CatchUp(store, policy, "alice", unbound, threading.Event())

            def scan(numbers: list[int]) -> Callable[[], None]:
                return lambda: caught.scan(store.coverage.add_span(range(numbers[0], numbers[-1] + 1)), lambda *_: None)

            print(
                "\nLooking for missed transactions on the real services; the time is policy's and metadata's together"
            )
            _measure("one after the other, read with requests alone", bed, lambda: _plainly(bed, others))
            _measure("that do not match", bed, scan(others))
            _measure("that match, may be seen, and are queued", bed, scan(ours))
            _measure("that the ledger knows", bed, scan(ours))
            started = time.perf_counter()
            for _ in range(20):
                policy.transactions(since="2026-01-01T00:00:00")
            print(f"  a look when nothing is missing: {(time.perf_counter() - started) * 50:.1f} ms")
        assert len(store.jobs()) == _COUNT


def _plainly(bed: Bed, numbers: list[int]) -> None:
    with requests.Session() as session:
        for number in numbers:
            session.get(f"{bed.urls['policy']}/status/transactions/by_id/{number}", timeout=60).json()


def _measure(what: str, bed: Bed, work: Callable[[], None]) -> None:
    before, started = _load(bed), time.perf_counter()
    work()
    seconds, load = time.perf_counter() - started, _load(bed) - before
    print(
        f"  {what:<50} {_COUNT / seconds:7.0f} a second, {load / _COUNT * 1000:6.1f} ms of policy's and metadata's time"
    )


def _load(bed: Bed) -> float:
    """Seconds of processor time that policy and metadata have had."""
    lines = (Path(f"/proc/{bed.pid(name)}/stat").read_text() for name in ("policy", "metadata"))
    fields = (line.rpartition(")")[2].split() for line in lines)
    return sum((int(user) + int(system)) / _TICKS for *_, user, system in (field[:13] for field in fields))
