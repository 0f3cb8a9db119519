"""What one writes in an afternoon on http.server: as it comes, or with each notification committed by itself.

plain_server.py DIRECTORY PORT as-it-comes|committing
"""

from __future__ import annotations

import json
import socketserver
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class AsItComes(BaseHTTPRequestHandler):
    """Keeps nothing."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.take(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def take(self, body: bytes) -> None:
        pass

    def log_message(self, format: str, *args: object) -> None:
        pass


class Committing(AsItComes):
    """Reads the JSON and commits each notification to SQLite, sending its answer in one write and without delay."""

    wbufsize = -1
    disable_nagle_algorithm = True
    database: sqlite3.Connection
    lock = threading.Lock()

    def take(self, body: bytes) -> None:
        event = json.loads(body)
        with self.lock:
            row = (event["source"], event["eventID"], body)
            self.database.execute("INSERT INTO notifications VALUES (?, ?, ?)", row)
            self.database.commit()


def main(directory: str, port: str, kind: str) -> None:
    """Serve until killed."""
    socketserver.TCPServer.request_queue_size = 128
    Committing.database = sqlite3.connect(Path(directory) / f"{kind}.sqlite3", check_same_thread=False)
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"):
        Committing.database.execute(statement)
    Committing.database.execute("CREATE TABLE notifications (source, event_id, body, UNIQUE (source, event_id))")
    handler = AsItComes if kind == "as-it-comes" else Committing
    ThreadingHTTPServer(("127.0.0.1", int(port)), handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
