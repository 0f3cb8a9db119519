"""What was uploaded while nobody told the consumer is found by it, or by the command, and runs once."""

from __future__ import annotations

import contextlib
import re
import signal
from pathlib import Path

import pytest

from pacifica_notifications_consumer.jobs.job import JobState, Origin
from pacifica_notifications_consumer.ledger.coverage import FOLLOWER
from pacifica_notifications_consumer.ledger.ledger import Ledger
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.endtoend.conftest import KEEPER, TODAYS_EXAMPLE, TOOL, Deployment, Operator, contents, pack, send, wait_until

TEXTS = '$["data"][*][?(@["mimetype"] = "text/plain")]'


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return pack(tmp_path / "consumer.zip", {"__main__.py": KEEPER, "jsonpath2.txt": TEXTS})


def jobs(deployment: Deployment) -> dict[str, tuple[str, str]]:
    """What the ledger has: the state of each job and how it came to us, by the event id."""
    with contextlib.closing(Ledger(deployment.state_dir / "ledger.sqlite3")) as ledger:
        return {job.title: (job.state.value, job.origin.value) for job in ledger.records.jobs(1000)}


def wait_for_search(deployment: Deployment, number: int) -> None:
    """Wait until the search for missed transactions has checked all up to a number."""

    def checked() -> bool:
        with contextlib.closing(Ledger(deployment.state_dir / "ledger.sqlite3")) as ledger:
            span = ledger.coverage.span(FOLLOWER)
            return span is not None and span.next > number

    wait_until(checked, f"transaction {number} is checked")


def upload(sandbox: Sandbox, tmp_path: Path, name: str) -> str:
    """Upload a file; returns the event id of its notification."""
    return f"metadata.ingest.{send(sandbox, tmp_path / name, {name: name.encode()})}"


SUCCEEDED = JobState.SUCCEEDED.value
DONE = (SUCCEEDED, Origin.DELIVERED.value)
RECOVERED = (SUCCEEDED, Origin.RECOVERED.value)


def test_stopped_and_killed(
    operator: Operator, sandbox: Sandbox, archive: Path, quick_python: Path, tmp_path: Path
) -> None:
    """After a stop, and after a kill, the next start finds what came meanwhile, and nothing from before the first."""
    upload(sandbox, tmp_path, "before.txt")
    flags = ("--python", quick_python)
    deployment = Deployment(operator, sandbox, archive, *flags)
    expected = {upload(sandbox, tmp_path, "delivered.txt"): DONE}
    wait_until(lambda: jobs(deployment) == expected, "it was delivered")
    assert deployment.command.stop().status == 0
    expected[upload(sandbox, tmp_path, "stopped.txt")] = RECOVERED
    upload(sandbox, tmp_path, "stopped.bin")
    deployment = Deployment(operator, sandbox, archive, *flags)
    wait_until(lambda: jobs(deployment) == expected, "what came while it was stopped")
    deployment.command.stop(signal.SIGKILL)
    expected[upload(sandbox, tmp_path, "killed.txt")] = RECOVERED
    deployment = Deployment(operator, sandbox, archive, *flags)
    wait_until(lambda: jobs(deployment) == expected, "what came after it was killed")
    expected[upload(sandbox, tmp_path, "again.txt")] = DONE
    wait_until(lambda: jobs(deployment) == expected, "deliveries go on")
    metrics = deployment.get("/metrics")[1].decode()
    assert 'pacifica_consumer_missed_total{fate="recovered"} 2' in metrics
    assert 'pacifica_consumer_missed_total{fate="refused"} 0' in metrics
    assert 'pacifica_consumer_jobs{state="succeeded"} 4' in metrics
    assert deployment.command.stop().status == 0
    assert "transactions that were not announced: 1 recovered (from 5 to 5), 0 match but are not for alice" in (
        deployment.command.stderr
    )


def test_own_uploads_are_not_recovered(
    operator: Operator, sandbox: Sandbox, quick_python: Path, tmp_path: Path
) -> None:
    """The documented example, stopped before its own upload is announced, does not take that for a missed one."""
    archive = pack(tmp_path / "consumer.zip", contents(TODAYS_EXAMPLE))
    deployment = Deployment(operator, sandbox, archive, "--python", quick_python)
    assert deployment.command.stop().status == 0
    source = send(sandbox, tmp_path / "a", {"a.txt": b"alpha"})
    for name in ("b.bin", "c.bin"):
        deployment = Deployment(operator, sandbox, archive, "--python", quick_python, "--catch-up-interval", "0.2")
        wait_until(lambda: len(sandbox.transactions()) > 1, "the example has made its own upload")
        wait_for_search(deployment, send(sandbox, tmp_path / name, {name: b"not a text"}))
        assert deployment.command.stop().status == 0
    assert jobs(deployment) == {f"metadata.ingest.{source}": RECOVERED}
    assert len(sandbox.transactions()) == 4


def test_by_hand(operator: Operator, sandbox: Sandbox, archive: Path, quick_python: Path, tmp_path: Path) -> None:
    """The command lists what it would run, queues it for a stopped consumer, and has a running one look."""
    uploads = [upload(sandbox, tmp_path, f"{number}.txt") for number in range(1, 7)]
    flags = ("--python", quick_python)
    deployment = Deployment(operator, sandbox, archive, *flags)
    where = ("--state-dir", deployment.state_dir)
    running = operator.run(TOOL, "catch-up", *where, "--from", "1", "--to", "2")
    assert running.status == 0
    assert running.stdout.splitlines() == [
        "the running consumer looks at the numbers from 1 to 2",
        "2 recovered; 0 match, but are not for its user; 0 in all are not known to policy yet, and are asked for again",
    ]
    wait_until(lambda: jobs(deployment) == dict.fromkeys(uploads[:2], RECOVERED), "the running consumer took them")
    assert deployment.command.stop().status == 0

    dry = operator.run(TOOL, "catch-up", *where, "--from", "2", "--to", "4", "--dry-run")
    assert dry.status == 0
    lines = [re.sub("made .* UTC", "made T UTC", line) for line in dry.stdout.splitlines()]
    assert lines == [
        "transaction 3, made T UTC: would be run",
        "transaction 4, made T UTC: would be run",
        "of the 3 numbers from 2 to 4, 2 would be run; 0 match, but are not for alice; 0 not known to policy yet",
    ]
    assert len(jobs(deployment)) == 2

    queued = operator.run(TOOL, "catch-up", *where, "--from", "2026-01-01T00:00+01:00", "--to", "5")
    assert queued.status == 0
    assert "3 queued, to run when the consumer is started" in queued.stdout
    assert list(jobs(deployment).values()).count(("queued", "recovered")) == 3
    again = operator.run(TOOL, "catch-up", *where, "--from", "1", "--to", "5")
    assert "of the 5 numbers from 1 to 5, 0 queued" in again.stdout
    nothing = operator.run(TOOL, "catch-up", *where, "--to", "2020-01-01")
    assert nothing.stdout == "this range has no transactions\n"
    deployment = Deployment(operator, sandbox, archive, *flags)
    wait_until(lambda: jobs(deployment) == dict.fromkeys(uploads[:5], RECOVERED), "they run at the next start")
    assert deployment.command.stop().status == 0


def test_from_where_told(
    operator: Operator, sandbox: Sandbox, archive: Path, quick_python: Path, tmp_path: Path
) -> None:
    """--catch-up-from has a new consumer look at what was there before it."""
    uploads = [upload(sandbox, tmp_path, f"{number}.txt") for number in range(1, 5)]
    deployment = Deployment(operator, sandbox, archive, "--python", quick_python, "--catch-up-from", "3")
    wait_until(lambda: jobs(deployment) == dict.fromkeys(uploads[2:], RECOVERED), "those from the third on")
    assert deployment.command.stop().status == 0


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 78, "this user has no consumer; name one with {either}"),
        (("--name", "nobody"), 78, "no consumer has run in {states}/nobody; correct {either}"),
    ],
)
def test_which_consumer(operator: Operator, arguments: tuple[str, ...], status: int, message: str) -> None:
    """Without a consumer that has run it says what is missing."""
    outcome = operator.run(TOOL, "catch-up", "--from", "1", *arguments)
    states = operator.home / "states" / "pacifica-notifications-consumer"
    either = "--name (PACIFICA_NAME) or --state-dir (PACIFICA_STATE_DIR)"
    assert (outcome.status, outcome.error(TOOL)) == (status, message.format(states=states, either=either))


def test_without_policy(
    operator: Operator, sandbox: Sandbox, archive: Path, quick_python: Path, tmp_path: Path
) -> None:
    """A consumer that was never told where policy is looks for nothing; the command says how to tell."""
    environ = sandbox.environ()
    del environ["PACIFICA_POLICY_URL"]

    class Blind:
        def environ(self) -> dict[str, str]:
            return environ

        def subscriptions(self) -> list[dict[str, object]]:
            return sandbox.subscriptions()

    deployment = Deployment(operator, Blind(), archive, "--python", quick_python)
    assert deployment.command.stop().status == 0
    outcome = operator.run(TOOL, "catch-up", "--state-dir", deployment.state_dir, "--from", "1")
    message = (
        f"the consumer of {deployment.state_dir} was not started with --policy-url (PACIFICA_POLICY_URL); set it here"
    )
    assert (outcome.status, outcome.error(TOOL)) == (78, message)
    flags = ("--policy-url", sandbox.policy_url, "--username", "alice")
    upload(sandbox, tmp_path, "a.txt")
    told = operator.run(TOOL, "catch-up", "--state-dir", deployment.state_dir, "--from", "1", *flags)
    assert "1 queued" in told.stdout
