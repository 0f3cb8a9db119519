"""The receiver of the official pacifica-dispatcher, as its documentation sets it up: CherryPy, Celery, peewee.

Run by the Python of the real services: dispatcher_server.py DIRECTORY BROKER-URL PORT
"""

from __future__ import annotations

import sys

import cherrypy
import peewee
from pacifica.dispatcher.receiver import create_peewee_model
from pacifica.dispatcher.router import Router

directory, broker, port = sys.argv[1:]
database = peewee.SqliteDatabase(f"{directory}/dispatcher.sqlite3")
model = create_peewee_model(database)
celery_app = model.create_celery_app(Router(), "bench", "bench.receive", broker=broker)
model.create_table(safe=True)
application = model.create_cherrypy_app(celery_app.tasks["bench.receive"])
cherrypy.config.update(
    {
        "server.socket_host": "127.0.0.1",
        "server.socket_port": int(port),
        "log.screen": False,
        "engine.autoreload.on": False,
        "server.max_request_body_size": 0,
    }
)
cherrypy.quickstart(application, "/")
