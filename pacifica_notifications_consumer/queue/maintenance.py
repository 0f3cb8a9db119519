"""Maintenance: a thread that renews leases, recovers jobs whose lease has expired, and removes old jobs."""

from __future__ import annotations

import logging
import time

from ..errors import StateError
from ..jobs.directory import StateDirectory
from ..jobs.retention import Keep
from ..ledger.ledger import Ledger
from ..system.periodic import Periodic
from ..system.temporary import remove_tree
from .leases import LEASE, RENEWAL
from .recovery import report_recovered
from .workers import Workers

log = logging.getLogger(__name__)

_TIDYING = 60.0  # seconds between two removals of old jobs
#: The number of jobs that one transaction removes, so that it does not block the ledger for long.
_HANDFUL = 50


class Maintenance(Periodic):
    """Keeps the ledger and the state directory in order while jobs run; ``keep`` is None to keep all jobs."""

    def __init__(
        self, ledger: Ledger, state: StateDirectory, workers: Workers, crash_limit: int, keep: Keep | None
    ) -> None:
        self._ledger = ledger
        self._state = state
        self._workers = workers
        self._crash_limit = crash_limit
        self._keep = keep
        self._next_tidying = 0.0
        super().__init__(self._maintain, name="maintenance", interval=RENEWAL)

    def _maintain(self) -> None:
        try:
            self._renew()
            if self._keep and time.monotonic() >= self._next_tidying:
                self._tidy(self._keep)
                self._next_tidying = time.monotonic() + _TIDYING
        except StateError as error:
            log.critical("%s", error)

    def _renew(self) -> None:
        # Renew first: after a suspend of the machine all leases have expired, also those of jobs that still run here.
        self._ledger.renew(self._workers.running, LEASE)
        lost = self._ledger.recover(self._crash_limit, expired=True)
        report_recovered(lost)
        for _ in lost:
            self._workers.wake()

    def _tidy(self, keep: Keep) -> None:
        removed = 0
        while not self.stopping.is_set() and (found := self._ledger.finished(keep, _HANDFUL)):
            # Remove directories first: after a crash in between, the next removal finds the jobs again.
            for job_id in found:
                remove_tree(self._state.job(job_id).path)
            self._ledger.forget(found)
            removed += len(found)
        if keep.age is not None:
            self._ledger.forget_set_aside(keep.age, _HANDFUL)
        if removed:
            log.info("finished jobs that were removed with their directories, by the rule of `keep`: %d", removed)
