"""A server that costs as little as possible, to measure clients; its argument is the tar of a cart.

It speaks as much of cartd and of ingest as their clients need: a cart is ready at once and sent as cartd sends it, in
chunks of 4 MB, by the kernel alone; what is uploaded is read and thrown away, and complete at once.
"""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import threading
from pathlib import Path

_CHUNK = 4_000_000
_BUFFER = 1 << 20


def main() -> None:
    """Print the port, and serve until killed."""
    cart = Path(sys.argv[1])
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            connection, _ = listening.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_serve, args=(connection, cart), daemon=True).start()


def _serve(connection: socket.socket, cart: Path) -> None:
    with connection, io.BufferedReader(connection.makefile("rb", buffering=0), _BUFFER) as requests:
        while line := requests.readline():
            method, path, _ = line.decode("ascii").split()
            headers = {}
            while (line := requests.readline()) not in (b"\r\n", b""):
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            if headers.get("expect"):
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            _throw_away(requests, headers)
            _answer(connection, method, path, cart)


def _throw_away(requests: io.BufferedReader[socket.SocketIO], headers: dict[str, str]) -> None:
    buffer = memoryview(bytearray(_BUFFER))

    def skip(size: int) -> None:
        while size:
            size -= requests.readinto(buffer[:size])

    if headers.get("transfer-encoding") == "chunked":
        while size := int(requests.readline(), 16):
            skip(size + 2)
        requests.readline()
    else:
        skip(int(headers.get("content-length", 0)))


def _answer(connection: socket.socket, method: str, path: str, cart: Path) -> None:
    if method == "GET" and not path.startswith("/get_state"):
        _send(connection, cart)
        return
    status, body = "200 OK", b"{}"
    if method == "HEAD":
        connection.sendall(
            b"HTTP/1.1 204 No Content\r\nX-Pacifica-Status: ready\r\nX-Pacifica-Message: \r\n\r\n",
        )
        return
    if path == "/upload" or path.startswith("/get_state"):
        state = {"job_id": 1, "state": "OK", "task": "ingest metadata", "task_percent": "100", "complete": True}
        body = json.dumps({**state, "exception": "", "updated": "", "created": ""}).encode()
    elif method == "POST":
        status = "201 Created"
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)


def _send(connection: socket.socket, cart: Path) -> None:
    connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with cart.open("rb") as file:
        place, end = 0, os.fstat(file.fileno()).st_size
        while place < end:
            size = min(_CHUNK, end - place)
            connection.sendall(b"%x\r\n" % size)
            stop = place + size
            while place < stop:
                place += os.sendfile(connection.fileno(), file.fileno(), place, stop - place)
            connection.sendall(b"\r\n")
        connection.sendall(b"0\r\n\r\n")


if __name__ == "__main__":
    main()
