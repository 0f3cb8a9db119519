"""pacifica-notifications-consumer jobs and status: the same of a consumer that runs and of one that is stopped."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.endtoend.conftest import BIN, DEADLINE, TOOL, Deployment, Operator, Outcome, event, pack, wait_until

#: Fails for events with even numbers; 3 and above go on until they are told to end.
ENTRY_POINT = """\
import json, os, sys, time
number = int(json.load(open(sys.argv[1] + "/notification.json"))["eventID"].split(".")[-1])
print("begun", number, flush=True)
if number % 2 == 0:
    sys.exit(3)
while number > 2 and not os.path.exists(sys.argv[2] + "/go"):
    time.sleep(0.01)
print("ended", number, flush=True)
"""


@pytest.fixture
def deployment(operator: Operator, sandbox: Sandbox, tmp_path: Path, quick_python: Path) -> Iterator[Deployment]:
    """A consumer whose job 1 succeeded, and whose job 2 is dead."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": ENTRY_POINT})
    deployment = Deployment(operator, sandbox, archive, "--python", quick_python, "--grace", "0", "--workers", "1")
    for number in (1, 2):
        assert deployment.post(event(number)).status_code == 202
    deployment.job(2, JobState.DEAD)
    yield deployment
    if deployment.command.process.poll() is None:
        deployment.command.stop()


def ask(deployment: Deployment, *words: str | int) -> Outcome:
    """Give the command, to the consumer of the deployment."""
    return deployment.operator.run(TOOL, *map(str, words), "--state-dir", deployment.state_dir)


def said(outcome: Outcome) -> str:
    assert (outcome.status, outcome.stderr) == (0, "")
    return outcome.stdout


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_jobs(deployment: Deployment, running: bool) -> None:
    """Jobs are listed, shown, run again and selected, whether the consumer runs or not."""
    if not running:
        deployment.command.stop()
    status = ask(deployment, "status")
    condition = "running, subscription healthy" if running else "stopped"
    assert (status.status, status.stdout.splitlines()[0]) == (0 if running else 1, f"tested: {condition}")
    assert "0 jobs running, 0 waiting, 1 dead" in status.stdout
    assert ("?token=" in status.stdout) is running

    lines = said(ask(deployment, "jobs", "list")).splitlines()
    assert [line.split()[:2] for line in lines] == [["ID", "STATE"], ["2", "dead"], ["1", "succeeded"]]
    assert lines[1].endswith("metadata.ingest.2  exit status 3")
    listed = json.loads(said(ask(deployment, "jobs", "list", "--state", "dead", "--output", "json")))
    assert [job["id"] for job in listed["jobs"]] == [2]
    assert said(ask(deployment, "jobs", "list", "--state", "cancelled")) == "no jobs found\n"
    assert said(ask(deployment, "jobs", "list", "--limit", 1)).endswith("older ones: --before 2\n")

    shown = said(ask(deployment, "jobs", "show", 2))
    assert "  exit status:    3\n" in shown
    assert "    begun 2\n" in shown
    assert "    incoming/notification.json  " in shown
    assert json.loads(said(ask(deployment, "jobs", "show", 1, "--output", "json")))["state"] == "succeeded"
    assert (
        said(ask(deployment, "jobs", "log", 1)) == said(ask(deployment, "jobs", "log", "-f", 1)) == "begun 1\nended 1\n"
    )

    for refusal, sentence in (
        (("show", 9), "job 9 does not exist"),
        (("log", 9), "job 9 does not exist"),
        (("cancel", 1), "job 1 has ended: it is succeeded"),
        (("replay",), "select the jobs to replay"),
    ):
        refused = ask(deployment, "jobs", *refusal)
        assert refused.status == 73
        assert sentence in refused.error(TOOL)
    # A slip in one number leaves the others as they are.
    assert ask(deployment, "jobs", "retry", 2, 9).status == 73
    assert deployment.job(2, JobState.DEAD)

    matching = '$["data"][*][?(@["value"] = 1)]'
    assert said(ask(deployment, "jobs", "replay", "--match", matching, "--dry-run")) == "1 job: 1\n"
    nobody = ask(deployment, "jobs", "replay", "--dead")
    assert (nobody.status, nobody.stdout) == (78, "1 job: 2\n")
    before = deployment.job(2, JobState.DEAD)[0].started_at
    assert said(ask(deployment, "jobs", "replay", "--dead", "--yes")) == "1 job queued again\n"
    if running:
        wait_until(lambda: deployment.job(2, JobState.DEAD)[0].started_at != before, "the job to be run again")
    else:
        assert said(ask(deployment, "jobs", "cancel", 2, "--reason", "not worth it")) == "job 2: cancelled\n"
        assert deployment.job(2, JobState.CANCELLED)[0].reason == "not worth it"
        assert said(ask(deployment, "jobs", "retry", 1, 2)) == "job 1: queued again\njob 2: queued again\n"
        assert deployment.jobs() == {"queued": 2}


def test_a_running_job(deployment: Deployment) -> None:
    """Its log is followed as it comes, and it is cancelled at once."""
    deployment.post(event(3))
    deployment.job(3, JobState.RUNNING)
    follower = deployment.operator.command(TOOL, "jobs", "log", "-f", "3", "--state-dir", deployment.state_dir)
    follower.wait_for("begun 3")
    assert follower.process.poll() is None
    assert said(ask(deployment, "jobs", "list", "--state", "running")).splitlines()[1].startswith("3   running")
    deployment.let_end(3)
    assert said(follower.end()) == "begun 3\nended 3\n"

    deployment.post(event(5))
    deployment.job(4, JobState.RUNNING)
    deployment.post(event(7))
    assert said(ask(deployment, "jobs", "cancel", 4, 5)) == "job 4: cancelled\njob 5: cancelled\n"
    deployment.job(4, JobState.CANCELLED)
    deployment.job(5, JobState.CANCELLED)


def test_a_person_is_asked(deployment: Deployment) -> None:
    """At a terminal the command asks whether a replay is meant, and does nothing without a yes."""
    command = [str(BIN / TOOL), "jobs", "replay", "--dead", "--state-dir", str(deployment.state_dir)]
    before = deployment.job(2, JobState.DEAD)[0].started_at
    for answer, status in ((b"n\n", 130), (b"y\n", 0)):
        assert deployment.job(2, JobState.DEAD)[0].started_at == before
        leader, follower = pty.openpty()
        with os.fdopen(leader, "wb", buffering=0) as terminal:
            process = subprocess.Popen(command, stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            os.close(follower)
            terminal.write(answer)
            out = process.communicate(timeout=DEADLINE)[0].decode()
        assert process.returncode == status, out
        assert "Run 1 job again? [y/N]" in out
    wait_until(lambda: deployment.job(2, JobState.DEAD)[0].started_at != before, "the job to be run again")


def test_which_consumer_is_meant(operator: Operator) -> None:
    """One that is not there, and several of which none is named, are said to be so."""
    none = operator.run(TOOL, "jobs", "list")
    assert (none.status, "this user has no consumer; name one with --name" in none.error(TOOL)) == (78, True)
    other = operator.run(TOOL, "status", "--name", "nobody")
    assert (other.status, "no consumer has run in" in other.error(TOOL)) == (78, True)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("replay", "--since", "noon"), "--since: 'noon' is not usable: it must be a time such as 2026-11-24T18:00"),
        (("replay", "--until", "x"), "--until: 'x' is not usable: it must be a time such as 2026-11-24T18:00"),
        (("replay", "--match", "$["), "--match: '$[' is not usable: cannot parse the JSONPath"),
        (("list", "--limit", "0"), "--limit: '0' is not usable: it must be a whole number from 1 to 1,000"),
    ],
)
def test_wrong_argument(operator: Operator, words: tuple[str, ...], problem: str) -> None:
    """An argument that cannot be read is a wrong command line in every command."""
    outcome = operator.run(TOOL, "jobs", *words)
    assert (outcome.status, problem in outcome.stderr) == (2, True)


def test_the_only_consumer_of_a_user(operator: Operator, sandbox: Sandbox, tmp_path: Path, quick_python: Path) -> None:
    """Without a name the only one is meant, in the place where the start command keeps it."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": ""})
    arguments = ["--username", "alice", "--name", "only", "--python", str(quick_python)]
    command = operator.command(
        "start-pacifica-notifications-consumer", archive, *arguments, variables=sandbox.environ()
    )
    command.wait_for("ready: ")
    assert operator.run(TOOL, "status").stdout.startswith("only: running")
    command.stop()
    assert operator.run(TOOL, "status").stdout.startswith("only: stopped")
    assert operator.run(TOOL, "jobs", "list").stdout == "no jobs found\n"
