"""Helpers of the tests of the ledger."""

import json

from pacifica_notifications_consumer.jobs.job import Ending, Job, JobState, Receipt, Verdict
from pacifica_notifications_consumer.jobs.triage import Decision
from pacifica_notifications_consumer.ledger.ledger import Ledger

LEASE = 60.0
WELL = Ending(status=0)
LARGE = json.dumps({"data": "x" * 100_000}).encode()


def decided(number: int, verdict: Verdict = Verdict.MATCHED, source: str | None = "here") -> Decision:
    event_id = None if source is None else f"e.{number}"
    return Decision(verdict=verdict, title=f"e.{number}", source=source, event_id=event_id)


def accept(
    ledger: Ledger, number: int, verdict: Verdict = Verdict.MATCHED, source: str | None = "here", body: bytes = b"{}"
) -> Receipt:
    (receipt,) = ledger.accept([(decided(number, verdict, source), body)])
    return receipt


def claim(ledger: Ledger) -> Job:
    job = ledger.claim(LEASE)
    assert job is not None
    return job


def finish(ledger: Ledger, *states: JobState) -> None:
    for number, state in enumerate(states, 1):
        accept(ledger, number)
        ledger.end_attempt(claim(ledger), state, WELL)
