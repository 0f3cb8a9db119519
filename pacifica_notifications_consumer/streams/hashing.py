"""Hashing on a thread of its own, while the bytes are moved on: on two processors that takes half the time."""

from __future__ import annotations

import hashlib
import itertools
import queue
import threading
from collections.abc import Iterator
from typing import Self

#: How many buffers are used in turn, and the bytes of each: they should stay in the processor's cache.
_BUFFERS, _SIZE = 4, 512 << 10


def buffers() -> Iterator[memoryview]:
    """Yield some buffers in turn, for ever: what is in one stays there until three others have been filled."""
    return itertools.cycle([memoryview(bytearray(_SIZE)) for _ in range(_BUFFERS)])


class HashingThread:
    """Hashes pieces in the order in which they come.

    Args:
        digest: What hashes them.
    """

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
        """Have a piece hashed; those before the last three have been hashed when it returns."""
        self._room.acquire()
        self._pieces.put(piece)

    def hexdigest(self) -> str:
        """Wait for the hash of all pieces."""
        self._end()
        return self._digest.hexdigest()

    def _work(self) -> None:
        while (piece := self._pieces.get()) is not None:
            self._digest.update(piece)
            self._room.release()

    def _end(self) -> None:
        self._pieces.put(None)
        self._thread.join()
