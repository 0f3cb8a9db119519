"""Recovery after a kill -9 or a power cut.

The killed runner's jobs are still running in the ledger. The next start on the same state directory, whose lock shows
that no other runner is alive, ends the orphans: the processes of these jobs. Then it counts a crash for each job, and
queues the job again, or makes it dead after more than ``crash_limit`` crashes. Jobs on other machines go on there: they
are queued without a crash, and their next claim waits for the result. Cancelled jobs on other machines are ended.
"""

from __future__ import annotations

import logging

from ..engines.engine import Engine, RemoteEngine
from ..errors import StateError
from ..jobs.job import JobState
from ..ledger.ledger import Ledger
from .job_book import ENGINE

log = logging.getLogger(__name__)


def recover(ledger: Ledger, engine: Engine, mark: str, *, last_engine: str, crash_limit: int) -> None:
    """Open the engine, and take over the jobs of the previous run, whose engine has a name if it was a `RemoteEngine`.

    Raises:
        StateError: Jobs are still on the machines of another engine.
    """
    name = engine.name if isinstance(engine, RemoteEngine) else ""
    # Only their own engine can wait for these jobs; without it they would be run twice.
    if last_engine != name and (out := [job for job in ledger.handed_out() if not job.state.final]):
        raise StateError(
            f"jobs of this consumer still run on {last_engine or 'other machines'}: {len(out)}",
            "start it with that engine until they end, or cancel them with: pacifica-notifications-consumer jobs",
        )
    if orphans := engine.open(mark):
        log.warning("processes that the previous run left behind were ended: %d", orphans)
    report_recovered(ledger.recover(crash_limit))
    ledger.remove_orphans()
    ledger.coverage.put_fact(ENGINE, {"place": name})
    abandon_cancelled(ledger, engine)


def abandon_cancelled(ledger: Ledger, engine: Engine) -> None:
    """End the cancelled jobs on other machines for which no worker thread waits."""
    for handed_out in ledger.handed_out():
        if handed_out.state.final:
            if isinstance(engine, RemoteEngine):
                engine.abandon(handed_out.task)
            ledger.take_in(handed_out)


def report_recovered(states: dict[int, JobState]) -> None:
    """Log the new states of jobs for which a crash was counted."""
    dead = [job_id for job_id, state in states.items() if state is JobState.DEAD]
    if again := len(states) - len(dead):
        log.warning("jobs that were running when the previous run died, and are run again: %d", again)
    for job_id in dead:
        log.error("job %d: dead; more crashes than `crash_limit` while it was running", job_id)
