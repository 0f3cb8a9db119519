"""Maintenance: a thread that renews leases, takes back jobs whose lease ran out, and removes jobs that are not kept."""

from __future__ import annotations

import logging
import time

from ..errors import StateError
from ..jobs.directory import StateDirectory
from ..jobs.job import JobState
from ..jobs.retention import Keep
from ..ledger.ledger import Ledger
from ..system.periodic import Periodic
from ..system.temporary import remove_tree
from .workers import LEASE, Workers

log = logging.getLogger(__name__)

#: Seconds between two renewals, and between two looks for what is not kept.
_RENEWAL, _TIDYING = LEASE / 4, 60.0
#: How many jobs are removed in one go, so that nobody waits long for the ledger.
_HANDFUL = 50


class Maintenance(Periodic):
    """Keeps the ledger and the state directory in order while jobs run.

    Args:
        ledger: The ledger.
        state: Where the jobs' directories are.
        workers: Who runs the jobs.
        crash_limit: How often a job may be taken from a worker that lost it; then it is dead.
        keep: Which finished jobs are kept; None means all.
    """

    def __init__(
        self, *, ledger: Ledger, state: StateDirectory, workers: Workers, crash_limit: int, keep: Keep | None
    ) -> None:
        self._ledger = ledger
        self._state = state
        self._workers = workers
        self._crash_limit = crash_limit
        self._keep = keep
        self._next_tidying = 0.0
        super().__init__(self._maintain, name="maintenance", interval=_RENEWAL)

    def _maintain(self) -> None:
        try:
            self._renew()
            if self._keep and time.monotonic() >= self._next_tidying:
                self._tidy(self._keep)
                self._next_tidying = time.monotonic() + _TIDYING
        except StateError as error:
            log.critical("%s", error)

    def _renew(self) -> None:
        # In this order: after a long sleep of the machine all leases have run out, and those of our own come first.
        self._ledger.renew(self._workers.running, LEASE)
        lost = self._ledger.recover(self._crash_limit, expired=True)
        report_recovered(lost)
        for _ in lost:
            self._workers.wake()

    def _tidy(self, keep: Keep) -> None:
        removed = 0
        while not self.stopping.is_set() and (found := self._ledger.finished(keep, _HANDFUL)):
            # First the directories: what a crash in between leaves is found again.
            for job_id in found:
                remove_tree(self._state.job(job_id).path)
            self._ledger.forget(found)
            removed += len(found)
        if keep.age is not None:
            self._ledger.forget_set_aside(keep.age, _HANDFUL)
        if removed:
            log.info("finished jobs that were removed with their directories, by the rule of `keep`: %d", removed)


def report_recovered(states: dict[int, JobState]) -> None:
    """Log what became of jobs whose runner died."""
    again = [job_id for job_id, state in states.items() if state is not JobState.DEAD]
    if again:
        log.warning("jobs that were running when the last runner died, and are run again: %d", len(again))
    for job_id, state in states.items():
        if state is JobState.DEAD:
            log.error("job %d: dead; it was running too often when the runner or the machine died", job_id)
