"""Background threads of the sandbox, in place of Pacifica's Celery workers."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

_LOG = logging.getLogger(__name__)


class TaskThreads:
    """Threads that run tasks from a queue in order of submission."""

    def __init__(self, name: str, count: int) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._dropping = threading.Event()
        self._threads = [
            # Daemon threads: a delivery to a consumer that never answers must not keep the process alive.
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[], None]) -> None:
        """Queue a task; it is dropped if the threads are closed."""
        self._queue.put(work)

    def close(self, *, drain: bool, seconds: float) -> None:
        """End the threads; with ``drain`` they run the queued tasks first, as far as the seconds suffice."""
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
                # As in Celery, a failed task does not end its worker.
                _LOG.exception("a task of the sandbox raised an error")
