"""The endpoint with its queue, as the start command composes them.

endpoint_server.py DIRECTORY PORT [PENDING-JOBS]

With pending jobs, so many wait in the queue, and every notification makes another.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from pacifica_notifications_consumer import Filter, JobRunner
from pacifica_notifications_consumer.endpoint import Endpoint
from pacifica_notifications_consumer.engines.engine import Attempt, Stop
from pacifica_notifications_consumer.jobs.job import Ending
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_runner.endpoint import listening

#: The documented expression, which finds nothing in what is posted: what is measured is accepting, not running.
_TEMPLATES = Path(__file__).parents[3] / "runner" / "pacifica_notifications_runner" / "templates"
_FILTER = _TEMPLATES / "uppercase" / "jsonpath2.txt"


class _Busy:
    """An engine all of whose jobs take for ever."""

    def run(self, attempt: Attempt, stop: Callable[[], Stop | None]) -> Ending | None:
        pause = threading.Event()
        while not stop():
            pause.wait(0.5)
        return None

    def open(self, mark: str) -> int:
        return 0

    def close(self) -> None:
        pass


def main(directory: str, port: str, pending: str = "0") -> None:
    """Serve until killed."""
    logging.basicConfig(level=logging.INFO, filename=Path(directory) / "log")
    expression = '$["eventID"]' if int(pending) else _FILTER.read_text().replace('"text/plain"', '"text/none"')
    runner = JobRunner(
        Path(directory) / "__main__.py",
        Path(directory) / f"state-{port}",
        name="bench",
        filter=Filter(expression),
        services=Services(),
        engine=_Busy(),
    )
    endpoint = Endpoint(accept=runner.accept_all, token="t", max_body=1 << 28)
    with runner, listening(endpoint, "127.0.0.1", int(port)):
        for number in range(int(pending)):
            runner.accept(json.dumps({"source": "pending", "eventID": f"pending.{number}"}).encode())
        print("ready", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
