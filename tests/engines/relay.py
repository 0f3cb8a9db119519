"""A network between a broker and its clients that can be cut."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from typing import Any

_BUFFER = 1 << 16


class Network:
    """Passes bytes on between clients and a port of this machine, until it is cut.

    While it is cut, nothing passes, and nobody is told; when it is mended, connections of before are reset, as by a
    router that has forgotten them.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._cut = threading.Event()
        self._stop = threading.Event()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listening.settimeout(0.1)
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def cut(self) -> None:
        self._cut.set()

    def mend(self) -> None:
        for pair in self._pairs:
            for each in pair:
                with contextlib.suppress(OSError):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                each.close()
        self._pairs = []
        self._cut.clear()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._listening.close()
        self.mend()

    def _work(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._pairs.append((client, server))
                threading.Thread(target=self._pass, args=(client, server), daemon=True).start()

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        others: dict[Any, socket.socket] = {client: server, server: client}
        with selectors.DefaultSelector() as selector, contextlib.suppress(OSError, ValueError):
            for each in others:
                selector.register(each, selectors.EVENT_READ)
            while not self._stop.is_set():
                if self._cut.wait(0.02 if self._cut.is_set() else 0.0):
                    continue
                for key, _ in selector.select(0.1):
                    data = key.fileobj.recv(_BUFFER)  # type: ignore[union-attr]
                    if not data or self._cut.is_set():
                        if not data:
                            return self._end(client, server)
                        continue
                    others[key.fileobj].sendall(data)
        return self._end(client, server)

    def _end(self, *connections: socket.socket) -> None:
        for each in connections:
            each.close()
