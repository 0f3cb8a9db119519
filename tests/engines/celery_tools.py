"""A runner that hands its jobs to a broker, and the notes of its entry-points."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.engines.celery import Broker
from pacifica_notifications_consumer.engines.celery.engine import CeleryEngine
from tests.engines.beds import Bed, WorkerProcess, pids
from tests.engines.worker import ARCHIVE
from tests.support.machine.waiting import wait_until, whole_lines

WAIT = """
import time
while not os.path.exists(place + "/end"):
    time.sleep(0.02)
"""
#: Notes when it is alive, on a clock that all processes of this machine share, until the file ``end`` exists.
LIVE = """
import time
while True:
    with open(f"{place}/life-{os.getpid()}", "a") as file:
        file.write(f"{time.monotonic()}\\n")
    if os.path.exists(place + "/end"):
        break
    time.sleep(0.02)
"""


def bed_of(broker: Broker) -> Bed:
    return Bed(make=lambda: CeleryEngine(broker, ARCHIVE), remote=True)


@contextlib.contextmanager
def running(path: Path, broker: Broker, **arguments: Any) -> Iterator[JobRunner]:
    """A runner that hands its jobs to a broker."""
    with bed_of(broker).runner(path, **arguments) as runner:
        yield runner


def lives(path: Path, after: int = 0) -> list[tuple[float, float]]:
    """The times at which entry-points were alive, in the order of their starts, without the first few entry-points."""
    found = []
    for pid in pids(path)[after:]:
        life = path / f"life-{pid}"
        times = wait_until(functools.partial(_times, life), f"a line in {life}")
        found.append((times[0], times[-1]))
    return found


def one_after_the_other(path: Path, after: int = 0) -> bool:
    """Whether each entry-point had ended before the next one was alive, without the first few entry-points."""
    return all(ended < begun for (_, ended), (begun, _) in itertools.pairwise(lives(path, after)))


def _times(life: Path) -> list[float]:
    return [float(line) for line in whole_lines(life)]


def runs_at(worker: WorkerProcess, runner: JobRunner, job_id: int) -> bool:
    place = runner.job(job_id).place
    return place is not None and place.directory.startswith(str(worker.home))


def handled(started: list[WorkerProcess]) -> tuple[int, int]:
    """How many messages workers have received, and how many of these they have dealt with."""
    logs = [worker.log for worker in started]
    received, ended = (sum(log.count(words) for log in logs) for words in (" received", " succeeded in "))
    return received, ended


def worker_of(started: list[WorkerProcess], runner: JobRunner, job_id: int) -> WorkerProcess:
    wait_until(lambda: runner.job(job_id).place is not None)
    return next(worker for worker in started if runs_at(worker, runner, job_id))
