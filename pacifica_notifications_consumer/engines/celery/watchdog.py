"""The watchman: a process beside a worker that ends what the worker's attempts left, should it die or freeze.

It hears of the worker through a pipe. When that falls silent for too long, or is closed, the attempts count as lost
elsewhere, or soon will, and may be run once more there.
"""

from __future__ import annotations

import os
import select
import sys
import threading

from ...system.account import CURRENT_USER, Account
from ...system.orphans import end_marked
from ...system.processes import KILL_AFTER, start_module

_ALIVE, _GOOD_BYE = b".", b"!"
#: After which part of the time until its attempts count as lost a worker is taken for frozen.
_PATIENCE = 0.75


class Watchdog:
    """The worker's end of it.

    Args:
        mark: What the marks of the worker's attempts begin with.
        lost_after: Seconds after which attempts of which nothing is heard count as lost.
        run_as: The user as whom they run, if that is not this process's.
    """

    def __init__(self, mark: str, lost_after: float, run_as: Account = CURRENT_USER) -> None:
        self._lock = threading.Lock()
        self._popen = start_module(__name__, mark, str(lost_after * _PATIENCE), run_as.name)

    def keep_alive(self) -> None:
        """Be told that all is well."""
        self._tell(_ALIVE)

    def close(self) -> None:
        """Be told that the worker ends in good order, and end."""
        self._tell(_GOOD_BYE)
        self._popen.communicate()

    @property
    def alive(self) -> bool:
        """Whether it is there."""
        return self._popen.poll() is None

    def _tell(self, word: bytes) -> None:
        assert self._popen.stdin  # noqa: S101  (tells mypy what PIPE means)
        with self._lock:
            try:
                self._popen.stdin.write(word)
                self._popen.stdin.flush()
            except OSError:
                return  # whoever asks whether it is alive will learn it


def watch(pipe: int, mark: str, patience: float, run_as: Account) -> None:
    """Wait for the worker's end, and as often as it falls silent, end its attempts."""
    while True:
        heard = bool(select.select([pipe], [], [], patience)[0])
        words = os.read(pipe, 1 << 12) if heard else b""
        if _GOOD_BYE in words:
            return
        if not words:
            end_marked(mark, KILL_AFTER, run_as)
        if heard and not words:
            return


if __name__ == "__main__":
    user = Account.find(sys.argv[3]) if sys.argv[3] else CURRENT_USER
    watch(sys.stdin.fileno(), sys.argv[1], float(sys.argv[2]), user)
