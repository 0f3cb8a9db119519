"""A worker on "another machine": worker.py HOME BROKER [CONCURRENCY].

Its directories are below HOME; BROKER is the arguments of a `Broker`, in JSON.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

from kombu.transport.redis import Channel

from pacifica_notifications_consumer.engines.celery import Broker
from pacifica_notifications_consumer.engines.celery.worker import RemoteWorker
from pacifica_notifications_consumer.engines.local import LocalEngine
from pacifica_notifications_consumer.engines.warm import start as warm_start
from pacifica_notifications_consumer.environment.venv import Venv
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_runner.process.signals import StopSignals

#: Performs the task in the notification.
ENTRY_POINT = """\
import json, os, sys
event = json.load(open(sys.argv[1] + "/notification.json", encoding="utf-8"))
place = event["data"]["place"]

def note(what):
    file = os.open(place + "/notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{what} {event['eventID']} {os.getpid()}\\n".encode())
    os.close(file)

note("begin")
exec(compile(event["data"]["source"], "source", "exec"))
note("end")
"""
ARCHIVE = "0123456789abcdef"


def main(home: Path, broker: Broker, concurrency: int) -> None:
    logging.basicConfig(filename=home / "log", level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    # The tests' jobs import none of the modules that the warm process preloads; it starts faster without them.
    vars(warm_start)["DOCUMENTED"] = ()
    # Seconds between two searches for messages that were not acknowledged in time.
    Channel.unacked_restore_interval, Channel.unacked_restore_throttle = 1, 1
    entry_point = Path(os.environ.get("TEST_ENTRY_POINT", home / "__main__.py"))
    if "TEST_ENTRY_POINT" not in os.environ:
        entry_point.write_text(ENTRY_POINT)
    engine = LocalEngine(
        entry_point=entry_point,
        venv=Venv(Path(sys.prefix)),
        services=Services(username="worker", password="of the worker", cartd_url="http://cartd:1"),
        kill_after=0.3,
    )
    archive = os.environ.get("TEST_ARCHIVE", ARCHIVE)
    with StopSignals() as signals:
        stop = signals.stop
        with RemoteWorker(
            broker, engine, archive, home / "state", concurrency=concurrency, grace=0.5, on_end=stop.set
        ) as worker:
            (home / "ready").touch()
            stop.wait()
            alive = worker.alive
    if not alive:
        sys.exit("the worker has ended unexpectedly")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Broker(**json.loads(sys.argv[2])), int(sys.argv[3]) if len(sys.argv) > 3 else 4)
