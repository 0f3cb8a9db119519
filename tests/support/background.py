"""Work that tests have done beside them, all the time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self


class Background:
    """Threads that work for as long as a context lasts.

    Args:
        work: What each does; it ends when `stop` is set.

    Attributes:
        stop: Ends it all when set.
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
