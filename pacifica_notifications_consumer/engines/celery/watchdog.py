"""Watchdog: a process that kills the attempts of a worker that died or froze.

The worker writes into a pipe. When it stops writing, or closes the pipe, its attempts soon count as lost, and other
workers may run them again.
"""

from __future__ import annotations

import os
import select
import sys
import threading

from ...system.account import CURRENT_USER, Account
from ...system.orphans import end_marked
from ...system.processes import start_module

_ALIVE, _GOOD_BYE = b".", b"!"
#: The fraction of `Broker.lost_after` without a message after which the worker counts as frozen.
_PATIENCE = 0.75


class Watchdog:
    """Starts the process, and is the worker's end of the pipe; ``mark`` is the prefix of the attempts' marks."""

    def __init__(self, mark: str, lost_after: float, run_as: Account = CURRENT_USER) -> None:
        self._lock = threading.Lock()
        self._popen = start_module(__name__, mark, str(lost_after * _PATIENCE), run_as.name)

    def keep_alive(self) -> None:
        """Tell the process that the worker is healthy."""
        self._tell(_ALIVE)

    def close(self) -> None:
        """Tell the process that the worker ends normally, and wait until the process has ended."""
        self._tell(_GOOD_BYE)
        self._popen.communicate()

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._popen.poll() is None

    def _tell(self, word: bytes) -> None:
        assert self._popen.stdin  # noqa: S101  (tells mypy what PIPE means)
        with self._lock:
            try:
                self._popen.stdin.write(word)
                self._popen.stdin.flush()
            except OSError:
                return  # the worker checks `alive`


def watch(pipe: int, mark: str, patience: float, run_as: Account) -> None:
    """Read the pipe until the worker ends; kill the attempts if it died, and whenever it falls silent."""
    while True:
        heard = bool(select.select([pipe], [], [], patience)[0])
        words = os.read(pipe, 1 << 12) if heard else b""
        if _GOOD_BYE in words:
            return
        if not words:
            # At once: with time to end, it could outlast the silence, and then meet the worker's next attempts.
            end_marked(mark, 0.0, run_as)
        if heard and not words:
            return


if __name__ == "__main__":
    user = Account.find(sys.argv[3]) if sys.argv[3] else CURRENT_USER
    watch(sys.stdin.fileno(), sys.argv[1], float(sys.argv[2]), user)
