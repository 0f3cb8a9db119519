"""A runner to be killed: the queue and the endpoint, without what makes a start slow.

consumer.py HOME PORT CRASH-LIMIT warm|cold

Its entry-point notes its beginning and its end in HOME, each in one write that no kill can tear apart.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path

from pacifica_notifications_consumer import Filter, JobRunner
from pacifica_notifications_consumer.services import Services
from pacifica_notifications_runner.endpoint import Endpoint, listening

TOKEN = "chaos"
ENTRY_POINT = """\
import json, os, pathlib, sys, time
source, home = sys.argv[1], sys.argv[2] + "/../../../.."
event = json.loads(pathlib.Path(source, "notification.json").read_bytes())

def note(what):
    file = os.open(home + "/notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{what} {event['eventID']}\\n".encode())
    os.close(file)

note("begin")
if event["data"].get("children"):
    if os.fork() == 0:
        os.setsid()
        time.sleep(1000)
time.sleep(event["data"]["seconds"])
if event["data"].get("again") and not os.path.exists(sys.argv[2] + "/tried"):
    open(sys.argv[2] + "/tried", "w").close()
    note("again")
    sys.exit(75)
note("end")
sys.exit(event["data"]["status"])
"""


def main(home: Path, port: int, crash_limit: int, way: str) -> None:
    """Run until a signal."""
    logging.basicConfig(filename=home / "log", level=logging.INFO, format="%(asctime)s %(process)d %(message)s")
    logging.raiseExceptions = False
    (home / "__main__.py").write_text(ENTRY_POINT)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    runner = JobRunner(
        home / "__main__.py",
        home / "state",
        name="chaos",
        filter=Filter('$["data"]["seconds"]'),
        services=Services(),
        workers=4,
        attempts=2,
        retry_delay=0.01,
        crash_limit=crash_limit,
        grace=0.2,
        warm=way == "warm",
    )
    with runner, listening(Endpoint(accept=runner.accept_all, token=TOKEN, max_body=1 << 20), "127.0.0.1", port):
        stop.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
