"""Background threads for tests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self


class Background:
    """Threads that run until the end of the context.

    Args:
        work: The function of each thread; it must return when `stop` is set.

    Attributes:
        stop: Ends the threads when set.
    """

    def __init__(self, *work: Callable[[], None]) -> None:
        self.stop = threading.Event()
        self._threads = [threading.Thread(target=each) for each in work]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()
