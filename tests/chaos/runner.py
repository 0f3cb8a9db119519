"""What the tests share that kill: how often, the runner, and how to see what came of it."""

from __future__ import annotations

import collections
import contextlib
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pacifica_notifications_consumer.jobs.job import Job
from pacifica_notifications_consumer.ledger.ledger import Ledger
from tests.support.machine.ports import free_port
from tests.support.machine.reaper import environ_of
from tests.support.machine.waiting import DEADLINE, wait_until, whole_lines

KILLS = int(os.environ.get("PACIFICA_TEST_KILLS", "40"))
SEED = int(os.environ.get("PACIFICA_TEST_SEED", str(random.randrange(1_000_000))))
_ROOT = Path(__file__).parents[2]


class Runner:
    """A runner that is started again and again on one state directory.

    Args:
        home: Where that is, and where its entry-points note what they do.
        way: ``warm``, ``cold`` or ``celery``.
        crash_limit: How many crashes a job may see.
        variables: Lead it to a Pacifica, to which it then subscribes.
    """

    def __init__(
        self, home: Path, way: str, crash_limit: int = 10_000, variables: Mapping[str, str] | None = None
    ) -> None:
        self.home = home
        self._environ = os.environ | dict(variables or {}) | {"CHAOS_HOME": str(home)}
        self.way = way
        self.crash_limit = crash_limit
        self.port = free_port()

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.chaos.consumer", self.home, self.port, self.crash_limit, self.way]
        return subprocess.Popen(
            [str(word) for word in command], cwd=_ROOT, env=self._environ, stderr=subprocess.DEVNULL
        )

    def wait_until_up(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it listens."""

        def up() -> bool:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                return True
            return process.poll() is not None

        wait_until(up, "the runner listens")

    @contextlib.contextmanager
    def ledger(self) -> Iterator[Ledger]:
        with contextlib.closing(Ledger(self.home / "state" / "ledger.sqlite3")) as ledger:
            yield ledger

    def jobs(self) -> dict[str, Job]:
        """All jobs by the event ids of their notifications."""
        with self.ledger() as ledger:
            return {job.title: job for job in ledger.records.jobs(1_000_000)}

    def processes(self) -> dict[int, int]:
        """The processes that are alive: their ids, and their jobs' numbers, which is 0 for a warm process."""
        mark = re.compile(rb"PACIFICA_JOB=" + re.escape(os.fsencode(self.home)) + rb"/[^:]*state:(\d+)")
        found = {}
        for path in Path("/proc").iterdir():
            variables = environ_of(path.name) if path.name.isdigit() else []
            if marked := next(filter(None, map(mark.match, variables)), None):
                found[int(path.name)] = int(marked[1])
        return found

    def notes(self) -> dict[str, collections.Counter[str]]:
        """How often entry-points began, ended, asked to be tried again, and were not alone, by event ids."""
        words = ("begin", "end", "again", "overlap")
        counts: dict[str, collections.Counter[str]] = {word: collections.Counter() for word in words}
        for line in whole_lines(self.home / "notes"):
            what, event_id = line.split()
            counts[what][event_id] += 1
        return counts


def settle(runner: Runner, process: subprocess.Popen[bytes], meanwhile: Callable[[], object]) -> None:
    """Wait until every job has come to its end; there may be many, but one must end now and then."""
    before, deadline = -1, 0.0
    with runner.ledger() as ledger:
        while True:
            counts = ledger.count_jobs()
            ended = sum(count for state, count in counts.items() if state.final)
            if ended == sum(counts.values()):
                return
            if ended != before:
                before, deadline = ended, time.monotonic() + 2 * DEADLINE
            assert process.poll() is None, "the runner has ended by itself"
            meanwhile()
            assert time.monotonic() < deadline, f"no job ends any more: {counts}; seed {SEED}"
            time.sleep(0.1)
