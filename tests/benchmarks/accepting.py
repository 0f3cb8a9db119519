"""Accepting notifications: the endpoint, which commits each to disk, beside what else a site could listen with."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.contenders.servers import PORT, REDIS, REDIS_SERVER, serving
from tests.benchmarks.http_load import Load, post_for
from tests.integration.bed import PYTHON as OFFICIAL_PYTHON

_HERE = Path(__file__).parent
_CONTENDERS = _HERE / "contenders"
_ENDPOINT = "tests.benchmarks.contenders.endpoint_server"
_NOTIFICATION = _HERE.parent / "data" / "notifications" / "ingest-nested-files.json"
_SMALL, _LARGE_FILES = 2900, 5000
_WARM_UP_SECONDS, _SECONDS, _ROUNDS = 0.5, 1.5, 2
_OURS, _DISPATCHER = "the endpoint, committed to disk", "pacifica-dispatcher"
#: A directory that is on a disk, unlike that of temporary files on some machines.
_DISK = Path(__file__).parents[2]
_numbers = itertools.count(1)


def main() -> None:
    """Measure rates and delays with few and many clients, small and large notifications, kept and new connections."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory, _contenders(Path(directory)) as urls:
        for files, size in ((0, "2.9 KB"), (_LARGE_FILES, "1.1 MB")):
            for keep_alive in (True, False):
                _compare(urls, files, size, keep_alive)
        _delay_by_large_ones(urls[_OURS])
    _pending_jobs()


@contextlib.contextmanager
def _contenders(directory: Path) -> Iterator[dict[str, str]]:
    with contextlib.ExitStack() as stack:

        def serve(command: Sequence[object], path: str = "") -> str:
            return stack.enter_context(serving(command, directory)) + path

        redis = serve([REDIS_SERVER, *REDIS])
        broker = redis.replace("http", "redis") + "/0"
        urls = {
            _OURS: serve(
                [sys.executable, "-m", "tests.benchmarks.contenders.endpoint_server", directory, PORT], "/receive"
            ),
            _DISPATCHER: serve(
                [OFFICIAL_PYTHON, _CONTENDERS / "dispatcher_server.py", directory, broker, PORT], "/receive"
            ),
        }
        if webhook := shutil.which("webhook"):
            hooks = directory / "hooks.json"
            hooks.write_text(json.dumps([{"id": "h", "execute-command": "/bin/true"}]))
            command = [webhook, "-hooks", hooks, "-ip", "127.0.0.1", "-port", PORT]
            urls["webhook, running /bin/true"] = serve(command, "/hooks/h")
        else:
            print("\nwebhook is left out: install it with `apt-get install webhook`")
        for kind, name in (("committing", "http.server, one commit each"), ("as-it-comes", "http.server as it comes")):
            urls[name] = serve([sys.executable, _CONTENDERS / "plain_server.py", directory, PORT, kind])
        yield urls


def _bodies(files: int) -> Iterator[bytes]:
    """Notifications that differ in their event id only."""
    event: dict[str, Any] = json.loads(_NOTIFICATION.read_bytes())
    row = next(row for row in event["data"] if row.get("destinationTable") == "Files")
    event["data"] += [row | {"_id": number, "name": f"file-{number:06}.dat"} for number in range(files)]
    event |= {"eventID": "metadata.ingest.NUMBER", "source": "http://metadata.pacifica.org/transactions?_id=1"}
    if not files:
        event["extensions"] = {"padding": "x" * (_SMALL - len(json.dumps(event)) - 13)}
    before, after = json.dumps(event).replace("text/plain", "text/csv").encode().split(b"NUMBER")
    return (b"%b%d%b" % (before, next(_numbers), after) for _ in itertools.count())


def _compare(urls: dict[str, str], files: int, size: str, keep_alive: bool) -> None:
    connections = "kept connections" if keep_alive else "a connection each"
    print(f"\nAccepting notifications of {size}, {connections}: requests a second (50th and 99th percentile in ms)")
    print(f"  {'clients':<34} {'1':>23} {'8':>23} {'64':>23}   x {_DISPATCHER}")
    measured: dict[str, list[Load]] = {name: [] for name in urls}
    for clients in (1, 8, 64):
        loads: dict[str, list[Load]] = {name: [] for name in urls}
        for _ in range(_ROUNDS):
            for name, url in urls.items():
                post_for(_WARM_UP_SECONDS, url, _bodies(files), clients=clients, keep_alive=keep_alive)
                loads[name].append(post_for(_SECONDS, url, _bodies(files), clients=clients, keep_alive=keep_alive))
        for name, each in loads.items():
            measured[name].append(sorted(each, key=lambda load: load.rate)[len(each) // 2])
    for name, each in measured.items():
        cells = "".join(f"{load.rate:>9.0f} ({load.p50 * 1000:>5.1f}, {load.p99 * 1000:>5.1f})" for load in each)
        peers = measured[_DISPATCHER]
        ratios = " / ".join(f"{load.rate / peer.rate:.1f}" for load, peer in zip(each, peers, strict=True))
        print(f"  {name:<34} {cells}   {ratios}")


def _delay_by_large_ones(url: str) -> None:
    """How long a small notification waits while large ones come all the time."""
    print("\nA small notification, alone and while one client posts large ones: milliseconds")

    def small(what: str) -> None:
        load = post_for(3.0, url, _bodies(0), clients=1, keep_alive=True)
        figures = f"p50 {load.p50 * 1000:.1f}, p99 {load.p99 * 1000:.1f}, longest {load.longest * 1000:.1f}"
        print(f"  {what:<34} {figures}")

    small("alone")
    for files in (_LARGE_FILES, 100_000):
        stop = threading.Event()
        code = (
            "from tests.benchmarks.accepting import _bodies\nfrom tests.benchmarks.http_load import post_for\n"
            f"while True: post_for(1.0, {url!r}, _bodies({files}), clients=1, keep_alive=True)"
        )
        poster = subprocess.Popen([sys.executable, "-c", code], cwd=_HERE.parents[1])
        stop.wait(2.0)
        small(f"beside those of {files} files")
        poster.kill()
        poster.wait()


def _pending_jobs() -> None:
    """Whether jobs that wait slow down accepting."""
    print("\nAccepting beside pending jobs, 8 clients, kept connections: requests a second")
    for pending in (1, 10_000):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
            command = [sys.executable, "-m", "tests.benchmarks.contenders.endpoint_server", directory, PORT, pending]
            with serving(command, Path(directory)) as url:
                while not any("ready" in log.read_text() for log in Path(directory).glob("*.log")):
                    time.sleep(0.1)
                rates = [
                    post_for(_SECONDS, f"{url}/receive", _bodies(0), clients=8, keep_alive=True).rate for _ in range(3)
                ]
        print(f"  {pending:>6} pending  {statistics.median(rates):>8.0f}")


if __name__ == "__main__":
    main()
