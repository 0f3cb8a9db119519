"""Accepting notifications: the endpoint, which commits each to disk, beside http.server, which commits nothing."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import requests

from pacifica_notifications_consumer import Filter, JobRunner
from pacifica_notifications_consumer.services import Services
from pacifica_notifications_runner.endpoint import Endpoint, listening
from tests.benchmarks.measure import compare, seconds

_REQUESTS = 100
_NOTIFICATION = Path(__file__).parent.parent / "data" / "notifications" / "ingest-nested-files.json"


class _Plain(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    """Measure notifications a second, each over a connection of its own, as the real producer sends them."""
    event = json.loads(_NOTIFICATION.read_bytes())
    numbers = itertools.count()

    def posting(url: str) -> Callable[[], float]:
        def post_all() -> None:
            for _ in range(_REQUESTS):
                body = json.dumps(event | {"eventID": f"metadata.ingest.{next(numbers)}"})
                requests.post(url, data=body, headers={"Authorization": "Bearer t"}, timeout=30).raise_for_status()

        return lambda: _REQUESTS / seconds(post_all)

    with tempfile.TemporaryDirectory() as directory:
        entry_point = Path(directory) / "__main__.py"
        entry_point.touch()
        plain = ThreadingHTTPServer(("127.0.0.1", 0), _Plain)
        thread = Thread(target=plain.serve_forever, daemon=True)
        thread.start()
        # The filter does not match: what is measured is accepting, not running.
        runner = JobRunner(
            entry_point, Path(directory) / "s", name="b", services=Services(), filter=Filter('$["data"]["none"]')
        )
        with runner, listening(Endpoint(accept=runner.accept, token="t", max_body=1 << 20), "127.0.0.1", 0) as server:
            contenders = {
                "the endpoint: parsed, filtered, committed to disk": posting(f"{server.url}/receive"),
                "http.server as it comes, keeping nothing": posting(f"http://127.0.0.1:{plain.server_port}/"),
            }
            compare(
                "Accepting notifications of 2 KB, one client, a connection each (more is better)",
                "/s",
                contenders,
                "http.server as it comes, keeping nothing",
            )
        plain.shutdown()
        thread.join()
        plain.server_close()
