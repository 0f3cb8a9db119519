"""The engine that starts entry-points in the processes of a `concurrent.futures.Executor`, on whichever machine."""

from __future__ import annotations

import concurrent.futures
import logging
from collections.abc import Callable
from pathlib import Path

import attrs

from ..jobs.job import Ending, Fate
from .engine import Attempt, NotStarted, Stop, place_ignored
from .local import LocalEngine

log = logging.getLogger(__name__)

#: Seconds between two checks whether an attempt must be stopped.
_POLL = 0.2


@attrs.define(kw_only=True)
class ExecutorEngine:
    """Calls a function in an executor's processes that runs the entry-point there.

    The processes must see the state directory, the consumer and its environment under the same paths as the runner. The
    settings of the consumer, which may contain a password, are sent with each call. The creator of the executor must
    shut it down.
    """

    executor: concurrent.futures.Executor
    engine: LocalEngine  #: runs entry-points in the executor's processes; its warm start must be off

    def open(self, mark: str) -> int:
        """See `Engine.open`; processes on other machines are not found."""
        return self.engine.open(mark)

    def close(self) -> None:
        """See `Engine.close`."""
        self.engine.close()

    def run(self, attempt: Attempt, stop: Callable[[], Stop | None]) -> Ending | None:
        """See `Engine.run`."""
        signs = _Signs.of(attempt)
        try:
            # The function needs neither the notification nor the callback, which cannot be pickled.
            sent = attrs.evolve(attempt, body=b"", placed=place_ignored)
            future = self.executor.submit(run_attempt, self.engine, sent, signs)
        except Exception as error:
            # The executor has been shut down, or one of its processes died, after which some executors are unusable.
            return Ending(reason=f"the executor does not accept the job: {error!r}", fate=Fate.PUT_OFF)
        try:
            while not concurrent.futures.wait([future], _POLL).done:
                if stop() and signs.claim():
                    # The claim proves that the function has not begun; not all executors report that from cancel().
                    future.cancel()
                    return None
                if stop():
                    signs.stop.touch(mode=0o600)
            return future.result()
        except NotStarted:
            raise
        except (Exception, concurrent.futures.CancelledError) as error:
            log.exception("job %d: the executor lost the attempt", attempt.job_id)
            return Ending(reason=f"the executor lost the attempt: {error!r}", fate=Fate.CRASHED)
        finally:
            signs.stop.unlink(missing_ok=True)
            if future.done() and not future.cancelled():
                signs.claimed.unlink(missing_ok=True)


@attrs.frozen
class _Signs:
    """Files through which the runner and an executor's process coordinate an attempt."""

    claimed: Path  #: made by the executor's process to run the attempt, or the runner to withdraw it; the first wins
    stop: Path  #: made by the runner to stop the attempt

    @classmethod
    def of(cls, attempt: Attempt) -> _Signs:
        # Each attempt has its own files, because an executor may begin an older attempt late.
        name, directory = attempt.mark.rpartition(":")[2], attempt.directory.path
        return cls(directory / f"claimed.{name}", directory / f"stop.{name}")

    def claim(self) -> bool:
        """Create the file `claimed`; returns whether this process is the first."""
        try:
            self.claimed.touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            return False
        except OSError as error:
            raise NotStarted(error.errno, error.strerror, error.filename) from error
        return True


def run_attempt(engine: LocalEngine, attempt: Attempt, signs: _Signs) -> Ending | None:
    """Run an attempt until it ends or must be stopped; called in a process of the executor.

    `NotStarted` means that the attempt may be put off. Another exception would look like a failure of the executor.
    """
    try:
        if not signs.claim():
            # Some executors call a function again after the process that ran it died.
            return Ending(reason="the executor's process died during the attempt", fate=Fate.CRASHED)
        return engine.run(attempt, lambda: Stop.CANCEL if signs.stop.exists() else None)
    except NotStarted:
        raise
    except OSError as error:
        return Ending(reason=f"could not be started: {error}")
