"""A campaign: inputs tried on a target, one after the other, and what was found."""

from __future__ import annotations

import contextlib
import logging
import random
import signal
import time
import traceback
from collections.abc import Iterator
from types import FrameType

from tests.fuzz.targets import TARGETS

#: Seconds that one input may take.
_LONGEST = 30.0
_MOST_FINDINGS = 20


class _Records(logging.Handler):
    """Log records of bugs in the library."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.faults: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.name.startswith("pacifica"):
            self.faults.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


class Campaign:
    """Tries inputs on a target.

    Args:
        name: The target.
        seed: Repeats the inputs.
    """

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.seed = seed
        self.tried = 0
        self.seconds = self.cpu_seconds = 0.0
        self.longest = 0.0
        self.findings: list[str] = []

    def run(self, seconds: float | None = None, times: int | None = None) -> None:
        """Try for some seconds, or some times."""
        records = _Records()
        logging.getLogger().addHandler(records)
        began, cpu_before = time.monotonic(), time.process_time()
        try:
            with TARGETS[self.name]() as attempt:
                while not self._is_over(began, seconds, times):
                    self.tried += 1
                    started = time.monotonic()
                    try:
                        with _limited():
                            # Each input can be made again without those before it.
                            attempt(random.Random(f"{self.name} {self.seed} {self.tried}"))
                    except BaseException as error:
                        if isinstance(error, KeyboardInterrupt):
                            raise
                        self._note(traceback.format_exc(limit=-4))
                    self.longest = max(self.longest, time.monotonic() - started)
                    for fault in records.faults:
                        self._note(f"logged: {fault}")
                    records.faults.clear()
        finally:
            logging.getLogger().removeHandler(records)
            self.seconds = time.monotonic() - began
            self.cpu_seconds = time.process_time() - cpu_before

    def _is_over(self, began: float, seconds: float | None, times: int | None) -> bool:
        if len(self.findings) >= _MOST_FINDINGS or (times is not None and self.tried >= times):
            return True
        return seconds is not None and time.monotonic() - began >= seconds

    def _note(self, what: str) -> None:
        self.findings.append(f"input {self.tried}: {what[:3000]}")

    def summary(self) -> str:
        """What came of it."""
        head = (
            f"{self.name}: {self.tried:,} inputs in {self.seconds:.0f} s ({self.cpu_seconds:.0f} s of a processor), "
            f"the longest took {self.longest:.2f} s; seed {self.seed}; {len(self.findings)} findings"
        )
        return "\n".join([head, *self.findings])


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Raise when something takes too long."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"an input takes longer than {_LONGEST:g} seconds")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, _LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
