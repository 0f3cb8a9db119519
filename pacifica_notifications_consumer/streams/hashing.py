"""Hashes data on a second thread while the first thread copies it; with two processors that takes half the time."""

from __future__ import annotations

import hashlib
import itertools
import queue
import threading
from collections.abc import Iterator
from typing import Self

#: The number of the buffers and the size of each in bytes; together they should fit into the processor's cache.
_BUFFERS, _SIZE = 4, 512 << 10


def buffers() -> Iterator[memoryview]:
    """Yield four buffers in turn, without end: the content of one is valid until three others have been filled."""
    return itertools.cycle([memoryview(bytearray(_SIZE)) for _ in range(_BUFFERS)])


class HashingThread:
    """Hashes pieces of data in order on a thread."""

    def __init__(self, digest: hashlib._Hash) -> None:
        self._digest = digest
        self._room = threading.Semaphore(_BUFFERS - 1)
        self._pieces: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="pacifica hashing", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def update(self, piece: memoryview) -> None:
        """Queue a piece for hashing; when this returns, all pieces but the last three have been hashed."""
        self._room.acquire()
        self._pieces.put(piece)

    def hexdigest(self) -> str:
        """Wait until all pieces are hashed, and return the hash in hexadecimal."""
        self._end()
        return self._digest.hexdigest()

    def _work(self) -> None:
        while (piece := self._pieces.get()) is not None:
            self._digest.update(piece)
            self._room.release()

    def _end(self) -> None:
        self._pieces.put(None)
        self._thread.join()
