"""How far jobs on other machines go: what each part costs, what the model makes of that, and what is measured.

All of it is on this machine, so its processors are one of the limits. The model has five numbers, each measured where
nothing else is in the way; the rates with 1, 2, 4 and 8 workers are then foretold, and measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.engines.celery import Broker
from pacifica_notifications_consumer.engines.celery.engine import CeleryEngine
from pacifica_notifications_consumer.settings.services import Services
from tests.engines.beds import WorkerProcess
from tests.engines.brokers import RabbitServer, RedisServer
from tests.engines.worker import ARCHIVE

_DISK = Path(__file__).parents[2]
_WORKERS = (1, 2, 4, 8)
_SLOTS = 2
#: How long a job takes by itself: one that does nothing, and one that waits for something else.
_SECONDS = 0.5
_JOBS = 400
_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE = 300.0


@attrs.frozen(kw_only=True)
class Costs:
    """What a job costs, in seconds; beside what its entry-point does.

    Args:
        runner: Of a processor, for the runner.
        worker: Of a processor, for a worker with all of its processes.
        broker: Of a processor, for the broker and the place of results.
        slot: For which a slot of a worker is taken.
        delay: Until the runner hears of the end, and hands out another one.
    """

    runner: float
    worker: float
    broker: float
    slot: float
    delay: float

    def rate(self, slots: int, out: int, seconds: float, processors: int) -> tuple[float, str]:
        """Jobs a second that the model foretells, and what sets the limit."""
        limits = {
            "slots": slots / (seconds + self.slot),
            "jobs out": out / (seconds + self.slot + self.delay),
            # Python does one thing at a time, and so does Redis.
            "the runner's processor": 1 / self.runner,
            "the broker's processor": 1 / self.broker,
            "this machine": processors / (self.runner + self.worker + self.broker),
        }
        what = min(limits, key=lambda name: limits[name])
        return limits[what], what


def main() -> None:
    """Measure with each broker."""
    for kind in ("redis", "rabbitmq"):
        with tempfile.TemporaryDirectory(dir=_DISK) as directory, _broker(kind, Path(directory)) as (broker, pids):
            _measure(kind, Path(directory), broker, pids)


@contextlib.contextmanager
def _broker(kind: str, home: Path) -> Iterator[tuple[Broker, list[int]]]:
    with contextlib.ExitStack() as stack:
        redis = RedisServer(home / "redis")
        redis.start()
        stack.enter_context(contextlib.closing(redis))
        broker, servers = Broker(url=redis.url(), queue="bench"), [redis.pid]
        if kind == "rabbitmq":
            rabbit = RabbitServer(home / "rabbitmq")
            rabbit.start()
            stack.enter_context(contextlib.closing(rabbit))
            broker = attrs.evolve(broker, url=rabbit.url(), results_url=redis.url())
            servers.append(rabbit.pid)
        yield broker, servers


def _measure(kind: str, home: Path, broker: Broker, servers: list[int]) -> None:
    print(f"\nJobs on other machines, through {kind}; {_SLOTS} slots each worker, all on {os.cpu_count()} processors")
    with _workers(home, broker, 1, slots=1):
        slot = _run(home, broker, 100, 0.0, out=20) / 100
        delay = _run(home, broker, 20, 0.0, out=1) / 20 - slot
        print(f"  from a notification to the first statement of its entry-point: {_starting(home, broker):.1f} ms")
    with _workers(home, broker, 1) as started:
        before = _used(servers), _used([started[0].process.pid]), time.process_time()
        _run(home, broker, _JOBS, 0.0, out=20)
        runner = (time.process_time() - before[2]) / _JOBS
        worker = (_used([started[0].process.pid]) - before[1]) / _JOBS
        spent = (_used(servers) - before[0]) / _JOBS
        costs = Costs(runner=runner, worker=worker, broker=spent, slot=slot, delay=max(0.0, delay))
    print(
        f"  a job costs: runner {costs.runner * 1000:.1f} ms, worker {costs.worker * 1000:.1f} ms, "
        f"broker {costs.broker * 1000:.1f} ms of a processor; a slot is taken for {costs.slot * 1000:.0f} ms more than "
        f"its entry-point, and the runner hears of it {costs.delay * 1000:.0f} ms later"
    )
    processors = os.cpu_count() or 1
    for seconds in (_SECONDS, 0.0):
        print(f"  jobs that take {seconds:g} s:")
        for count in _WORKERS:
            with _workers(home, broker, count):
                jobs = min(_JOBS, int(40 * count * _SLOTS)) if seconds else _JOBS
                out = 4 * count * _SLOTS if seconds else 32
                took = _run(home, broker, jobs, seconds, out=out)
            foretold, what = costs.rate(count * _SLOTS, out, seconds, processors)
            rate = jobs / took
            print(
                f"    {count} workers: {rate:>6.1f} a second, foretold {foretold:>6.1f} ({what}), "
                f"{rate / foretold:.2f} of it"
            )


@contextlib.contextmanager
def _workers(home: Path, broker: Broker, count: int, slots: int = _SLOTS) -> Iterator[list[WorkerProcess]]:
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(contextlib.closing(WorkerProcess(home / f"worker {number}", broker, slots)))
            for number in range(count)
        ]
        for worker in started:
            worker.wait()
        # Their entry-points start warm.
        for worker in started:
            while worker.log.count("entry-points start warm") < worker.log.count("Connected to"):
                time.sleep(0.05)
        yield started


_runs = iter(range(1_000_000))


def _starting(home: Path, broker: Broker) -> float:
    """Milliseconds from a notification to the first statement of its entry-point, one at a time; the median."""
    place = home / f"run {next(_runs)}"
    place.mkdir()
    data = {"source": "import time; open(place + '/began', 'a').write(f'{time.monotonic()}\\n')", "place": str(place)}
    accepted = []
    engine = CeleryEngine(broker, ARCHIVE)
    with JobRunner(home, place / "state", name="bench", services=Services(), engine=engine) as runner:
        for number in range(40):
            accepted.append(time.monotonic())
            job_id = runner.accept(json.dumps({"source": "s", "eventID": f"e.{number}", "data": data}).encode()).job_id
            assert job_id is not None
            runner.wait(job_id, _PATIENCE)
            time.sleep(0.05)
    began = [float(line) for line in (place / "began").read_text().split()]
    return 1000 * statistics.median(end - start for start, end in zip(accepted, began, strict=True))


def _run(home: Path, broker: Broker, jobs: int, seconds: float, out: int) -> float:
    """Run jobs; returns how long all took."""
    place = home / f"run {next(_runs)}"
    place.mkdir()
    data = {"source": f"import time; time.sleep({seconds})" if seconds else "", "place": str(place)}
    bodies = [json.dumps({"source": "s", "eventID": f"e.{n}", "data": data}).encode() for n in range(jobs)]
    engine = CeleryEngine(broker, ARCHIVE)
    with JobRunner(home, place / "state", name="bench", services=Services(), workers=out, engine=engine) as runner:
        began = time.perf_counter()
        ids = [receipt.job_id for receipt in runner.accept_all(bodies)]
        for job_id in ids:
            assert job_id is not None
            runner.wait(job_id, _PATIENCE)
        return time.perf_counter() - began


def _used(pids: list[int]) -> float:
    """Seconds of a processor that processes and all of theirs have used."""
    parents = {}
    used = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            parents[int(path.name)] = int(fields[1])
            used[int(path.name)] = sum(map(int, fields[11:15])) / _TICKS
    wanted = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in wanted} - wanted:
        wanted |= more
    return sum(used.get(pid, 0.0) for pid in wanted)


if __name__ == "__main__":
    main()
