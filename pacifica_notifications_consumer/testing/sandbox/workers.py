"""Threads that do the sandbox's work outside the requests that cause it, as Celery's workers do in Pacifica."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

_LOG = logging.getLogger(__name__)


class TaskThreads:
    """A few threads that take work from one queue, first come, first served.

    Args:
        name: What the threads are called.
        count: How many there are.
    """

    def __init__(self, name: str, count: int) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._dropping = threading.Event()
        self._threads = [
            # Daemons, since a delivery to a consumer that never answers must not keep the process alive.
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[], None]) -> None:
        """Have something done later, unless these workers are closed."""
        self._queue.put(work)

    def close(self, *, drain: bool, seconds: float) -> None:
        """End the threads.

        Args:
            drain: Whether what is queued is still done; what has begun is finished in any case.
            seconds: How long to wait for that; then what is left is given up.
        """
        if not drain:
            self._dropping.set()
        for _ in self._threads:
            self._queue.put(None)
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._dropping.set()

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            if self._dropping.is_set():
                continue
            try:
                work()
            except Exception:
                # As a crashed Celery task: it is gone, and the worker lives on.
                _LOG.exception("a task of the sandbox failed")
