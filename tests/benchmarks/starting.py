"""Starting entry-points: from the POST of a notification to the first statement, and how many a second.

The entry-point imports the three documented packages and does nothing. Beside it: what else a site could run jobs with.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

from tests.benchmarks.contenders.queue_worker import huey_queue, note, rq_queue
from tests.benchmarks.contenders.servers import PORT, REDIS, REDIS_SERVER, serving
from tests.integration.bed import PYTHON as OFFICIAL_PYTHON

_HERE = Path(__file__).parent
_CONTENDERS = _HERE / "contenders"
_JOB_SERVER = "tests.benchmarks.contenders.job_server"
_OURS, _DISPATCHER, _WEBHOOK = (
    "the runner, warm, 8 workers",
    "pacifica-dispatcher, Celery, 2 forked",
    "webhook, 2 at a time",
)
_SINGLE, _ROUNDS = 40, 3
_BURST_SECONDS = 2.0
_numbers = itertools.count(1)

#: Takes the event id from the notification, or from its second argument.
_SCRIPT = """
import json, sys
from jsonpath2 import Path
from pacifica_notifications_consumer import download, upload
from promise import Promise
import time
first = time.time()
if len(sys.argv) > 2 and sys.argv[1].startswith("/"):
    event_id = json.load(open(sys.argv[1] + "/notification.json"))["eventID"]
else:
    event_id = sys.argv[1]
with open("NOTES", "a") as file:
    file.write(f"{event_id} {first!r}\\n")
"""


@attrs.frozen
class Contender:
    """Something that runs jobs.

    Args:
        submit: Gives it an event id.
        notes: Where its jobs note their beginnings.
        clients: How many may submit at the same time.
    """

    submit: Callable[[str], object]
    notes: Path
    clients: int = 4

    def began(self) -> dict[str, float]:
        """When the jobs began, by their event ids."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return {name: float(moment) for name, moment in (line.split() for line in lines)}

    def count(self) -> int:
        """How many jobs have begun."""
        return self.notes.read_bytes().count(b"\n") if self.notes.exists() else 0

    def delay(self) -> float:
        """Submit one and wait for it; returns the milliseconds to its first statement."""
        event_id = f"single.{next(_numbers)}"
        submitted = time.time()
        self.submit(event_id)
        deadline = time.monotonic() + 30
        while event_id not in (began := self.began()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"no job began: {self.notes}")
            time.sleep(0.002)
        time.sleep(0.05)  # until it has ended, too, and all is at rest again
        return (began[event_id] - submitted) * 1000

    def rate(self, count: int) -> float:
        """Submit many and wait for all; returns jobs per second."""
        before = self.count()
        names = iter([f"many.{next(_numbers)}" for _ in range(count)])
        lock = threading.Lock()

        def submit_all() -> None:
            while True:
                with lock:
                    name = next(names, None)
                if name is None:
                    return
                self.submit(name)

        started = time.monotonic()
        threads = [threading.Thread(target=submit_all) for _ in range(self.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        while self.count() < before + count:
            if time.monotonic() > started + 60:
                raise RuntimeError("jobs are missing")
            time.sleep(0.01)
        return count / (time.monotonic() - started)


def main() -> None:
    """Measure delays, rates and memory."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory, _contenders(Path(directory)) as contenders:
        delays: dict[str, list[float]] = {name: [] for name in contenders}
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(_ROUNDS):
            for name, contender in contenders.items():
                contender.delay()
                delays[name] += [contender.delay() for _ in range(_SINGLE // _ROUNDS)]
                rough = contender.rate(20)
                rates[name].append(contender.rate(max(20, int(rough * _BURST_SECONDS))))
        print("\nFrom the event to an entry-point's first statement, and jobs that do nothing, a second")
        print(f"  {'':<58} {'p50 ms':>8} {'p95 ms':>8} {'jobs/s':>8}   x {_DISPATCHER}")
        peer = statistics.median(rates[_DISPATCHER])
        for name in contenders:
            middle, late = statistics.median(delays[name]), statistics.quantiles(delays[name], n=20)[-1]
            rate = statistics.median(rates[name])
            print(f"  {name:<58} {middle:>8.1f} {late:>8.1f} {rate:>8.0f}   {rate / peer:.2f}")
        _forks(Path(directory))
    _memory()


@contextlib.contextmanager
def _contenders(directory: Path) -> Iterator[dict[str, Contender]]:
    with contextlib.ExitStack() as stack:

        def serve(*command: object) -> str:
            return stack.enter_context(serving(command, directory))

        def run(*command: object) -> None:
            stack.enter_context(running(command, directory))

        found: dict[str, Contender] = {}
        for name, way in ((_OURS, "warm"), ("the runner, cold", "cold")):
            script, notes = _script(directory, way)
            url = serve(sys.executable, "-m", _JOB_SERVER, directory, PORT, script, way)
            found[name] = Contender(_poster(f"{url}/receive"), notes)
        redis = serve(REDIS_SERVER, *REDIS)
        broker = redis.replace("http", "redis") + "/0"
        notes = directory / "dispatcher"
        url = serve(OFFICIAL_PYTHON, _CONTENDERS / "dispatcher_server.py", directory, broker, PORT)
        run(OFFICIAL_PYTHON, _CONTENDERS / "dispatcher_worker.py", directory, broker, notes)
        found[_DISPATCHER] = Contender(_poster(f"{url}/receive"), notes)
        if shutil.which("webhook"):
            found[_WEBHOOK] = _webhook(directory, serve)
        else:
            print("\nwebhook is left out: install it with `apt-get install webhook`")
        port, notes = redis.rpartition(":")[2], directory / "rq"
        for _ in range(2):
            run(sys.executable, "-m", "tests.benchmarks.contenders.queue_worker", "rq", port)
        queue = rq_queue(port)
        found["rq, 2 workers that fork"] = Contender(lambda name: queue.enqueue(note, str(notes), name), notes)
        huey_notes = directory / "huey"
        run(sys.executable, "-m", "tests.benchmarks.contenders.queue_worker", "huey", directory / "huey.sqlite3")
        _, task = huey_queue(str(directory / "huey.sqlite3"))
        found["huey on SQLite, in its own process"] = Contender(lambda name: task(str(huey_notes), name), huey_notes)
        found["a bare subprocess, 2 at a time"] = _subprocesses(directory)
        for contender in found.values():
            contender.delay()
        yield found


@contextlib.contextmanager
def running(command: Any, directory: Path) -> Iterator[int]:
    """Run a program that listens nowhere until the context ends; yields its number."""
    with (directory / "workers.log").open("ab") as log:
        words = [str(word) for word in command]
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=_HERE.parents[1], start_new_session=True)
    try:
        yield process.pid
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _script(directory: Path, name: str) -> tuple[Path, Path]:
    script, notes = directory / name / "__main__.py", directory / f"{name}.notes"
    script.parent.mkdir()
    script.write_text(_SCRIPT.replace("NOTES", str(notes)))
    return script, notes


def _poster(url: str) -> Callable[[str], None]:
    parts = urlsplit(url)
    connections = threading.local()
    headers = {"Authorization": "Bearer t", "Content-Type": "application/json"}

    def post(event_id: str) -> None:
        # Servers close those that have been idle for a while.
        if time.monotonic() - getattr(connections, "used", 0.0) > 1.0:
            connections.connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
        event = {"cloudEventsVersion": "0.1", "eventID": event_id, "source": "/bench", "eventType": "t", "data": []}
        connections.connection.request("POST", parts.path, json.dumps(event).encode(), headers)
        answer = connections.connection.getresponse()
        if answer.status not in (200, 202, 204):
            raise RuntimeError(f"{url} answers {answer.status}")
        answer.read()
        connections.used = time.monotonic()

    return post


def _webhook(directory: Path, serve: Callable[..., str]) -> Contender:
    script, notes = _script(directory, "webhook")
    hook = {
        "id": "h",
        "execute-command": sys.executable,
        "pass-arguments-to-command": [
            {"source": "string", "name": str(script)},
            {"source": "payload", "name": "eventID"},
        ],
        # So that it answers at the end of the command, and no more run at a time than there are clients.
        "include-command-output-in-response": True,
    }
    hooks = directory / "hooks.json"
    hooks.write_text(json.dumps([hook]))
    url = serve(shutil.which("webhook"), "-hooks", hooks, "-ip", "127.0.0.1", "-port", PORT)
    return Contender(_poster(f"{url}/hooks/h"), notes, clients=2)


def _subprocesses(directory: Path) -> Contender:
    script, notes = _script(directory, "subprocess")

    def submit(event_id: str) -> None:
        subprocess.run([sys.executable, script, event_id], check=True)

    return Contender(submit, notes, clients=2)


_FORKS = """
import os, time, gc
import requests, jsonpath2, promise
from pacifica_notifications_consumer import download, upload, Filter
gc.collect(); gc.freeze()
began, count = time.perf_counter(), 300
for _ in range(count):
    if (pid := os.fork()) == 0: os._exit(0)
    os.waitpid(pid, 0)
print((time.perf_counter() - began) / count * 1000)
"""


def _forks(directory: Path) -> None:
    """The limit of all that forks: a process of these imports that forks and waits."""
    milliseconds = float(subprocess.run([sys.executable, "-c", _FORKS], capture_output=True, check=True).stdout)
    print(
        f"  {'limit: fork, end and wait, one at a time':<58} {milliseconds:>8.1f} {'':>8} {1000 / milliseconds:>8.0f}"
    )


def _memory() -> None:
    """What lies idle: a runner with one warm consumer, and a dispatcher with its worker and Redis."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        script, _ = _script(directory, "warm")
        before = _children(os.getpid())
        url = stack.enter_context(
            serving(
                [sys.executable, "-m", _JOB_SERVER, directory, PORT, script, "warm"],
                directory,
            )
        )
        _poster(f"{url}/receive")("memory")
        time.sleep(1.5)
        ours = _children(os.getpid()) - before
        mine = sum(map(_proportional_size, ours))
        redis = stack.enter_context(serving([REDIS_SERVER, *REDIS], directory))
        broker = redis.replace("http", "redis") + "/0"
        server = [OFFICIAL_PYTHON, _CONTENDERS / "dispatcher_server.py", directory, broker, PORT]
        url = stack.enter_context(serving(server, directory))
        worker = [
            OFFICIAL_PYTHON,
            _CONTENDERS / "dispatcher_worker.py",
            directory,
            broker,
            directory / "notes",
        ]
        stack.enter_context(running(worker, directory))
        _poster(f"{url}/receive")("memory")
        time.sleep(5)
        theirs = sum(map(_proportional_size, _children(os.getpid()) - before - ours))
        print("\nMemory of what is idle (proportional share)")
        print(f"  {'a runner with a warm process':<58} {mine / 2**20:>8.1f} MiB   {mine / theirs:.2f}")
        print(f"  {'pacifica-dispatcher, its worker and Redis':<58} {theirs / 2**20:>8.1f} MiB   1.00")


def _children(pid: int) -> set[int]:
    found = set()
    for path in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in map(int, (path / "children").read_text().split()):
                found |= {child} | _children(child)
    return found


def _proportional_size(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
