"""The endpoint and the job queue as the start command composes them: job_server.py DIRECTORY PORT SCRIPT warm|cold."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path

from pacifica_notifications_consumer import Filter, JobRunner
from pacifica_notifications_consumer.endpoint import Endpoint
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_runner.endpoint import listening


def main(directory: str, port: str, script: str, way: str) -> None:
    """Serve until killed."""
    logging.basicConfig(level=logging.INFO, filename=Path(directory) / f"log-{way}")
    runner = JobRunner(
        Path(script),
        Path(directory) / f"state-{way}",
        name="bench",
        filter=Filter('$["eventID"]'),
        services=Services(),
        warm=way == "warm",
        workers=8 if way == "warm" else 2,
    )
    endpoint = Endpoint(accept=runner.accept_all, token="t", max_body=1 << 20)
    with runner, listening(endpoint, "127.0.0.1", int(port)):
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
