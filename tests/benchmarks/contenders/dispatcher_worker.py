"""The worker of the official pacifica-dispatcher, with a handler that notes when it began.

Run by the Python of the real services: dispatcher_worker.py DIRECTORY BROKER-URL NOTES
"""

from __future__ import annotations

import sys
import time

import peewee
from cloudevents.model import Event
from jsonpath2.path import Path as JSONPath
from pacifica.dispatcher.receiver import create_peewee_model
from pacifica.dispatcher.router import Router

directory, broker, notes = sys.argv[1:]


class Noter:
    """Notes when it is called."""

    def handle(self, event: Event) -> None:
        """Note the time."""
        line = f"{event.event_id} {time.time()!r}\n"
        with open(notes, "a") as file:  # noqa: PTH123
            file.write(line)


router = Router()
router.add_route(JSONPath.parse_str('$["eventID"]'), Noter())
database = peewee.SqliteDatabase(f"{directory}/dispatcher.sqlite3")
model = create_peewee_model(database)
celery_app = model.create_celery_app(router, "bench", "bench.receive", broker=broker)
model.create_table(safe=True)
# It logs what it does, as the runner beside it does.
celery_app.worker_main(["worker", "--pool=prefork", "--concurrency=2", "--loglevel=INFO"])
