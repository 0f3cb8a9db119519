"""A runner to be killed: the queue and the endpoint, without what makes a start slow.

consumer.py HOME PORT CRASH-LIMIT warm|cold|celery

On Celery, the environment says which broker, in JSON. If it says where Pacifica is, the runner subscribes, watches, and
catches up, with little patience.

Its entry-point notes its beginning and its end in HOME, each in one write that no kill can tear apart, and whether
another one of the same notification is alive at the same time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from pacifica_notifications_consumer import Filter, JobRunner
from pacifica_notifications_consumer.catch_up import catch_up
from pacifica_notifications_consumer.catch_up.catch_up import CatchUpRules
from pacifica_notifications_consumer.endpoint import Endpoint
from pacifica_notifications_consumer.engines.celery import Broker
from pacifica_notifications_consumer.engines.celery.engine import CeleryEngine
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.subscription.subscription import subscribed
from pacifica_notifications_runner.endpoint import listening
from pacifica_notifications_runner.process.signals import StopSignals
from tests.engines.worker import ARCHIVE

TOKEN = "chaos"
ENTRY_POINT = """\
import fcntl, json, os, pathlib, sys, time
source, home = sys.argv[1], os.environ["CHAOS_HOME"]
event = json.loads(pathlib.Path(source, "notification.json").read_bytes())
# From a Pacifica they are rows, with texts for values.
data = event["data"] if isinstance(event["data"], dict) else {
    row["key"]: float(row["value"]) for row in event["data"] if "key" in row
}

def note(what):
    file = os.open(home + "/notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{what} {event['eventID']}\\n".encode())
    os.close(file)

note("begin")
# Its children hold it, too, and whatever ends them lets go of it.
lock = os.open(f"{home}/alive-{event['eventID']}", os.O_RDWR | os.O_CREAT, 0o600)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    note("overlap")
os.set_inheritable(lock, True)
if data.get("children"):
    if os.fork() == 0:
        os.setsid()
        time.sleep(1000)
time.sleep(data["seconds"])
tried = f"{home}/tried-{event['eventID']}"
if data.get("again") and not os.path.exists(tried):
    open(tried, "w").close()
    note("again")
    sys.exit(75)
note("end")
sys.exit(int(data["status"]))
"""
EVENTS, UPLOADS = '$["data"]["seconds"]', '$["data"][*][?(@["key"] = "seconds")]'


def main(home: Path, port: int, crash_limit: int, way: str) -> None:
    """Run until a signal."""
    logging.basicConfig(filename=home / "log", level=logging.INFO, format="%(asctime)s %(process)d %(message)s")
    logging.raiseExceptions = False
    (home / "__main__.py").write_text(ENTRY_POINT)
    pacifica = Services.from_environment()
    filter_ = Filter(UPLOADS if pacifica.policy_url else EVENTS)
    engine = None
    if way == "celery":
        engine = CeleryEngine(Broker(**json.loads(os.environ["CHAOS_BROKER"])), ARCHIVE)
    runner = JobRunner(
        home / "__main__.py",
        home / "state",
        name="chaos",
        filter=filter_,
        services=Services(),
        workers=4,
        attempts=2,
        retry_delay=0.01,
        crash_limit=crash_limit,
        grace=0.2,
        warm=way == "warm",
        engine=engine,
    )
    with contextlib.ExitStack() as stack:
        # Python's own handlers may come to run only when the main thread wakes up, which nobody else has it do.
        signals = stack.enter_context(StopSignals())
        stack.enter_context(runner)
        stack.enter_context(
            listening(Endpoint(accept=runner.accept_all, token=TOKEN, max_body=1 << 20), "127.0.0.1", port)
        )
        if pacifica.policy_url:
            subscribe(runner, pacifica, filter_, f"http://127.0.0.1:{port}/receive", stack)
        signals.stop.wait()


def subscribe(runner: JobRunner, pacifica: Services, filter_: Filter, url: str, stack: contextlib.ExitStack) -> None:
    """Have a Pacifica's transactions come, and look for those that do not."""
    catch_up._SOONEST, catch_up._LOOK, catch_up._LONGEST_PAUSE = 0.2, 0.1, 1.0
    arguments: dict[str, Any] = {"name": "chaos", "filter": filter_, "target_url": url, "token": TOKEN}
    on_incident = runner.note_incident
    stack.enter_context(subscribed(pacifica, **arguments, watch_interval=0.2, on_incident=on_incident))
    stack.enter_context(catch_up.catching_up(runner, pacifica, CatchUpRules(interval=0.5, rate=500.0)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
