"""The engines on which the common test suite runs, each with its workers and brokers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import attrs
import pytest

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.engines.celery import Broker
from pacifica_notifications_consumer.engines.celery.engine import CeleryEngine
from pacifica_notifications_consumer.engines.engine import Engine
from pacifica_notifications_consumer.engines.warm import start as warm_start
from pacifica_notifications_consumer.jobs.directory import JobDirectory
from pacifica_notifications_consumer.jobs.job import Job
from pacifica_notifications_consumer.settings.services import Services
from tests.engines.worker import ARCHIVE, ENTRY_POINT
from tests.support.machine.waiting import DEADLINE, wait_until, whole_lines

_ROOT = Path(__file__).parents[2]
#: Seconds after which workers count as lost, for tests that lose some; for others nothing is lost before `DEADLINE`.
LOST_AFTER = 6.0
SERVICES = Services(username="worker", password="of the worker", cartd_url="http://cartd:1")


@attrs.define(kw_only=True)
class Bed:
    """An engine to be tested.

    Args:
        make: Makes it; None for the local one.
        remote: Whether attempts outlive the runner.
        warm: Whether entry-points start warm.
    """

    make: Callable[[], Engine | Executor | None] = lambda: None
    remote: bool = False
    warm: bool = False

    def runner(self, path: Path, **arguments: Any) -> JobRunner:
        """A runner on this engine, with its files below a directory."""
        consumer = path / "consumer"
        consumer.mkdir(exist_ok=True)
        (consumer / "__main__.py").write_text(ENTRY_POINT)
        options: dict[str, Any] = {
            "name": "mine",
            "services": SERVICES,
            "retry_delay": 0.0,
            "grace": 0.0,
            "warm": self.warm,
        }
        options["engine"] = self.make()
        return JobRunner(consumer / "__main__.py", path / "state", **(options | arguments))

    def directory(self, runner: JobRunner, job: Job) -> JobDirectory:
        """The directory of the attempt."""
        return JobDirectory(Path(job.place.directory)) if job.place else runner.directory(job.id)


def body(path: Path, source: str, number: int = 1, **more: Any) -> bytes:
    """A notification with the entry-point's task and the directory for its notes."""
    data = {"source": source, "place": str(path)} | more
    return json.dumps({"source": "here", "eventID": f"e.{number}", "data": data}, ensure_ascii=False).encode()


def accept(runner: JobRunner, path: Path, source: str, number: int = 1) -> int:
    job_id = runner.accept(body(path, source, number)).job_id
    assert job_id is not None
    return job_id


def notes(path: Path) -> Counter[str]:
    """Count the starts and the ends of entry-points."""
    return Counter(line.split()[0] for line in whole_lines(path / "notes"))


def pids(path: Path) -> list[int]:
    """The process ids of the entry-points, in the order of their starts."""
    return [int(line.split()[2]) for line in whole_lines(path / "notes") if line.startswith("begin")]


class WorkerProcess:
    """A worker in a separate process, with its own directories."""

    def __init__(self, home: Path, broker: Broker, concurrency: int = 4, **environ: str) -> None:
        self.home = home
        self._broker = broker
        self._concurrency = concurrency
        self._environ = environ
        home.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self) -> None:
        (self.home / "ready").unlink(missing_ok=True)
        settings = json.dumps(attrs.asdict(self._broker))
        command = [sys.executable, "-m", "tests.engines.worker", self.home, settings, self._concurrency]
        with (self.home / "errors").open("ab") as errors:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                cwd=_ROOT,
                env=os.environ | {"PYTHONPATH": os.pathsep.join((str(_ROOT), str(_ROOT / "runner")))} | self._environ,
                stderr=errors,
            )

    def wait(self) -> WorkerProcess:
        """Wait until it takes attempts."""

        def ready() -> bool:
            assert self.process.poll() is None, (self.home / "errors").read_text()[-2000:]
            return (self.home / "ready").exists()

        wait_until(ready, "the worker takes attempts")
        return self

    @property
    def log(self) -> str:
        return (self.home / "log").read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)

    def close(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(DEADLINE)


@contextlib.contextmanager
def workers(path: Path, broker: Broker, count: int = 2, concurrency: int = 4) -> Iterator[list[WorkerProcess]]:
    """Some workers, ready to take attempts."""
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(contextlib.closing(WorkerProcess(path / f"worker {n + 1}", broker, concurrency)))
            for n in range(count)
        ]
        yield [worker.wait() for worker in started]


@contextlib.contextmanager
def celery_bed(path: Path, broker: Broker) -> Iterator[Bed]:
    """Celery with two workers."""
    with workers(path, broker):
        yield Bed(make=lambda: CeleryEngine(broker, ARCHIVE), remote=True)


@contextlib.contextmanager
def quick_warm_start() -> Iterator[None]:
    """Let the warm process preload no modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warm_start, "DOCUMENTED", ())
        yield


__all__ = ["DEADLINE", "LOST_AFTER", "Bed", "WorkerProcess", "accept", "body", "celery_bed", "workers"]
