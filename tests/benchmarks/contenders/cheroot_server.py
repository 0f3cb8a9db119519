"""What `wire_server` is, on the web server that the real services run on; runs in their environment.

`.bed/bin/python cheroot_server.py CART.tar`
"""

import json
import shutil
import sys
from pathlib import Path

from cheroot import wsgi

_CHUNK = 4_000_000  # what cartd and ingest read and write at once
_STATE = {"job_id": 1, "state": "OK", "task": "ingest metadata", "task_percent": "100", "complete": True}


class _Nowhere:
    def write(self, data):
        return len(data)


def main():
    cart = Path(sys.argv[1])
    state = json.dumps({**_STATE, "exception": "", "updated": "", "created": ""}).encode()

    def answer(environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if method == "HEAD":
            start_response("204 No Content", [("X-Pacifica-Status", "ready"), ("X-Pacifica-Message", "")])
            return []
        if method == "GET" and path != "/get_state":
            start_response("200 OK", [("Content-Type", "application/octet-stream")])
            return _pieces(cart)
        if method in ("POST", "PUT"):
            shutil.copyfileobj(environ["wsgi.input"], _Nowhere(), _CHUNK)
        status = "201 Created" if method == "POST" and path != "/upload" else "200 OK"
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(state)))])
        return [state]

    server = wsgi.Server(("127.0.0.1", 0), answer, numthreads=4)
    server.prepare()
    print(server.bind_addr[1], flush=True)
    server.serve()


def _pieces(cart):
    with cart.open("rb") as file:
        while piece := file.read(_CHUNK):
            yield piece


if __name__ == "__main__":
    main()
