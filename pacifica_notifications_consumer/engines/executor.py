"""The engine that has any `concurrent.futures.Executor` start entry-points, wherever its processes are."""

from __future__ import annotations

import concurrent.futures
import logging
from collections.abc import Callable
from pathlib import Path

import attrs

from ..jobs.job import Ending, Fate
from .engine import Attempt, Stop, place_ignored
from .local import LocalEngine

log = logging.getLogger(__name__)

#: Seconds between two looks at whether an attempt is to be ended.
_POLL = 0.2


@attrs.define(kw_only=True)
class ExecutorEngine:
    """Calls a function in an executor's processes that runs the entry-point there.

    They must see the state directory, the consumer and its environment under the same paths as the runner does; its
    settings, a password among them, travel with each call. Whoever made the executor shuts it down.

    Args:
        executor: Where it is called.
        engine: What runs entry-points there; not warm.
    """

    executor: concurrent.futures.Executor
    engine: LocalEngine

    def open(self, mark: str) -> int:
        """See `Engine.open`; what is left on other machines is not found."""
        return self.engine.open(mark)

    def close(self) -> None:
        """See `Engine.close`."""
        self.engine.close()

    def run(self, attempt: Attempt, stop: Callable[[], Stop | None]) -> Ending | None:
        """See `Engine.run`."""
        signs = _Signs.of(attempt)
        try:
            # What only the runner can use stays here.
            sent = attrs.evolve(attempt, body=b"", placed=place_ignored)
            future = self.executor.submit(run_attempt, self.engine, sent, signs)
        except Exception as error:
            # It has been shut down, or a process of it died, after which some take nothing any more.
            return Ending(reason=f"the executor takes nothing: {error!r}", fate=Fate.PUT_OFF)
        try:
            while not concurrent.futures.wait([future], _POLL).done:
                if stop() and signs.claim():
                    # Not all executors can say whether that has come too late; but we know that it has not.
                    future.cancel()
                    return None
                if stop():
                    signs.stop.touch()
            return future.result()
        except (Exception, concurrent.futures.CancelledError) as error:
            log.exception("job %d: the executor lost it", attempt.job_id)
            return Ending(reason=f"the executor lost it: {error!r}", fate=Fate.CRASHED)
        finally:
            signs.stop.unlink(missing_ok=True)
            if future.done() and not future.cancelled():
                signs.claimed.unlink(missing_ok=True)


@attrs.frozen
class _Signs:
    """Files by which the runner and an executor's process tell each other how an attempt stands.

    Args:
        claimed: Made by whoever is the first: the process that runs it, or the runner that does not want it any more.
        stop: Made by the runner when it is to be ended.
    """

    claimed: Path
    stop: Path

    @classmethod
    def of(cls, attempt: Attempt) -> _Signs:
        # Each attempt has its own: an executor may come to an older one late.
        name = attempt.mark.rpartition(":")[2]
        directory = attempt.directory.path
        return cls(directory / f"claimed.{name}", directory / f"stop.{name}")

    def claim(self) -> bool:
        """Whether we are the first."""
        try:
            self.claimed.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def run_attempt(engine: LocalEngine, attempt: Attempt, signs: _Signs) -> Ending | None:
    """Run an attempt until it ends, or is to be ended; called in a process of the executor's."""
    try:
        if not signs.claim():
            # Some executors call once more what a process of theirs died under.
            return Ending(reason="the executor's process that ran it died", fate=Fate.CRASHED)
        return engine.run(attempt, lambda: Stop.CANCEL if signs.stop.exists() else None)
    except OSError as error:
        # Raised here, it would look like a fault of the executor's.
        return Ending(reason=f"could not be started: {error}")
