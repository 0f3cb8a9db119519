"""Any sequence of operations gives the same result in the ledger as in a simple model."""

from contextlib import ExitStack

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from pacifica_notifications_consumer.errors import LeaseLost
from pacifica_notifications_consumer.jobs.job import Ending, Job, JobState, Verdict
from pacifica_notifications_consumer.jobs.triage import Decision
from pacifica_notifications_consumer.ledger.ledger import Ledger
from tests.support.machine.scratch import scratch_directory

CRASH_LIMIT = 2
LEASE = 1000.0
#: Seconds before the next attempt, longer than the test takes.
LATER = 10_000.0


@attrs.define
class Model:
    """The expected state of a job."""

    state: JobState
    attempts: int = 0
    deferrals: int = 0
    crashes: int = 0
    due: bool = True


class LedgerMachine(RuleBasedStateMachine):
    """Applies the operations of runners and operators, and crashes, to a ledger and to a model."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.home = self._stack.enter_context(scratch_directory())
        self.ledger = Ledger(self.home / "l")
        self.seen: set[int] = set()
        self.counts = dict.fromkeys(Verdict, 0)
        self.model: dict[int, Model] = {}
        self.held: list[Job] = []
        self.lost: list[Job] = []

    def teardown(self) -> None:
        self.ledger.close()
        self._stack.close()

    @rule(number=st.integers(1, 12), matches=st.booleans())
    def accept(self, number: int, matches: bool) -> None:
        """A notification arrives, possibly for a second time."""
        verdict = Verdict.MATCHED if matches else Verdict.UNMATCHED
        decision = Decision(verdict=verdict, title=f"{number}", source="s", event_id=f"{number}")
        (receipt,) = self.ledger.accept([(decision, b"{}")])
        expected = Verdict.DUPLICATE if number in self.seen else verdict
        self.seen.add(number)
        self.counts[expected] += 1
        assert receipt.verdict is expected
        assert (receipt.job_id is not None) == (expected is Verdict.MATCHED)
        if receipt.job_id is not None:
            assert receipt.job_id not in self.model
            self.model[receipt.job_id] = Model(JobState.QUEUED)

    @rule()
    def claim(self) -> None:
        """A worker claims a job."""
        waiting = [n for n, m in self.model.items() if m.due and m.state in (JobState.QUEUED, JobState.FAILED)]
        job = self.ledger.claim(LEASE)
        assert (job is not None) == bool(waiting)
        if job is not None:
            assert job.id in waiting
            self.model[job.id].state = JobState.RUNNING
            self.held.append(job)

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(), end=st.sampled_from(["succeeded", "failed", "dead", "deferred", "cancelled"]), due=st.booleans()
    )
    def end(self, data: st.DataObject, end: str, due: bool) -> None:
        """An attempt ends."""
        job = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        state = JobState.QUEUED if end == "deferred" else JobState(end)
        self.ledger.end_attempt(job, state, Ending(status=1), delay=0.0 if due else LATER)
        model = self.model[job.id]
        model.state, model.due = state, due
        model.deferrals += end == "deferred"
        model.attempts += end in ("succeeded", "failed", "dead")
        self.lost.append(job)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def hand_back(self, data: st.DataObject) -> None:
        """An orderly stop returns a job."""
        job = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.ledger.hand_back(job)
        self.model[job.id].state = JobState.QUEUED
        self.lost.append(job)

    @rule()
    def crash(self) -> None:
        """The runner crashes and restarts."""
        self.ledger.close()
        self.ledger = Ledger(self.home / "l")
        expected = {}
        for job in self.held:
            model = self.model[job.id]
            model.crashes += 1
            model.state = JobState.QUEUED if model.crashes <= CRASH_LIMIT else JobState.DEAD
            expected[job.id] = model.state
        assert self.ledger.recover(CRASH_LIMIT) == expected
        self.lost += self.held
        self.held = []

    @precondition(lambda self: self.lost)
    @rule(data=st.data(), how=st.sampled_from(["end", "hand back", "note"]))
    def come_too_late(self, data: st.DataObject, how: str) -> None:
        """A worker that has lost the claim of a job tries to change the job."""
        job = data.draw(st.sampled_from(self.lost))
        with pytest.raises(LeaseLost):
            if how == "end":
                self.ledger.end_attempt(job, JobState.SUCCEEDED, Ending(status=0))
            elif how == "hand back":
                self.ledger.hand_back(job)
            else:
                self.ledger.note_progress(job, "{}")

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """An operator cancels a job."""
        number = data.draw(st.sampled_from(sorted(self.model)))
        model = self.model[number]
        possible = model.state in (JobState.QUEUED, JobState.FAILED)
        assert self.ledger.cancel(number, "why not") == possible
        if possible:
            model.state = JobState.CANCELLED

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        """An operator requeues a job."""
        number = data.draw(st.sampled_from(sorted(self.model)))
        possible = self.model[number].state not in (JobState.QUEUED, JobState.RUNNING)
        assert self.ledger.requeue([number]) == [number] * possible
        if possible:
            self.model[number] = Model(JobState.QUEUED)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """Maintenance removes a job, if the job has ended."""
        number = data.draw(st.sampled_from(sorted(self.model)))
        self.ledger.forget([number])
        if self.model[number].state.final:
            del self.model[number]

    @rule()
    def renew(self) -> None:
        """The runner renews its leases, so none has expired."""
        self.ledger.renew(self.held, LEASE)
        assert self.ledger.recover(CRASH_LIMIT, expired=True) == {}

    @invariant()
    def same(self) -> None:
        """The ledger and the model have the same jobs and counts."""
        found = {job.id: job for job in self.ledger.records.jobs(1000)}
        assert found.keys() == self.model.keys()
        for number, model in self.model.items():
            job = found[number]
            seen = Model(job.state, job.attempts, job.deferrals, job.crashes, model.due)
            assert seen == model
            assert bool(job.token) == (job.state is JobState.RUNNING)
        states = [model.state for model in self.model.values()]
        assert self.ledger.count_jobs() == {state: states.count(state) for state in JobState}
        assert self.ledger.count_verdicts() == self.counts


def test_ledger_does_what_the_model_does() -> None:
    """Ledger and model agree after any sequence of operations."""
    quick = settings(max_examples=12, stateful_step_count=40)
    run_state_machine_as_test(LedgerMachine, settings=quick)
