"""The start command as an operator uses it: a consumer is deployed, works, is stopped, and nothing is left behind."""

from __future__ import annotations

import json
import signal
import socket
import threading
from pathlib import Path

import pytest
import requests

from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.endtoend.conftest import (
    BIN,
    KEEPER,
    NOTIFICATIONS,
    START,
    TODAYS_EXAMPLE,
    WAITER,
    Deployment,
    Operator,
    contents,
    event,
    jobs_in,
    pack,
    send,
    wait_for_starts,
    wait_until,
)

STOPS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A consumer of every notification."""
    return pack(tmp_path / "consumer.zip", {"__main__.py": KEEPER})


def key_values_of(body: bytes) -> dict[str, object]:
    rows = json.loads(body)["data"]
    return {row["key"]: row["value"] for row in rows if row["destinationTable"] == "TransactionKeyValue"}


def test_todays_example_makes_a_new_transaction_and_leaves_its_own_alone(
    operator: Operator, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The example as shipped, in a real environment, turns one upload into exactly one new transaction."""
    archive = pack(tmp_path / "consumer.zip", contents(TODAYS_EXAMPLE))
    deployment = Deployment(operator, sandbox, archive)
    files = {"a.txt": b"alpha\n", "größe/b c/ü.txt": "straße\n".encode(), "raw.bin": bytes(range(256)), "e.txt": b""}
    before = send(sandbox, tmp_path / "instrument", files)
    after = sandbox.wait_for_transaction(after=before)
    wait_until(lambda: deployment.verdicts().get("own"), "its own upload announced to it")
    deployment.job(1)
    outcome = deployment.command.stop()
    assert outcome.status == 0
    assert sandbox.transactions() == [before, after]
    assert sandbox.read(after) == {"a.txt": b"ALPHA\n", "größe/b c/ü.txt": b"STRASSE\n", "e.txt": b""}
    assert key_values_of(sandbox.notification(after)) == {
        "Transactions._id": before,
        "pacifica-notifications-consumer": "tested",
    }
    assert deployment.verdicts() == {"matched": 1, "own": 1}
    assert deployment.jobs() == {"succeeded": 1}
    assert sandbox.subscriptions() == []
    assert operator.leftovers() == []
    # The example removes SRC and DST itself; what it printed stays.
    assert sorted(path.name for path in (deployment.state_dir / "jobs" / "1").iterdir()) == ["output.log"]


@pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)
def test_a_signal_stops_it_in_reverse_order(
    operator: Operator, sandbox: Sandbox, archive: Path, quick_python: Path, number: signal.Signals
) -> None:
    """SIGTERM and SIGINT end it with status 0: no subscription, endpoint, environment or process; the jobs stay."""
    operator.quick = None
    deployment = Deployment(operator, sandbox, archive, "--python", quick_python)
    assert deployment.post(event(1)).status_code == 202
    deployment.job(1)
    # The archive's directory, the environment's, the command, and its warm process, which may have a spare child.
    wait_until(lambda: len(set(operator.leftovers())) == 4, "nothing else runs")
    outcome = deployment.command.stop(number)
    assert outcome.status == 0
    assert outcome.stdout == ""
    assert "error" not in outcome.stderr.lower()
    assert sandbox.subscriptions() == []
    assert operator.leftovers() == []
    with pytest.raises(requests.ConnectionError):
        deployment.get("/healthz")
    kept = deployment.state_dir / "jobs" / "1"
    assert (kept / "incoming" / "notification.json").read_bytes() == event(1)
    assert (kept / "output.log").read_text() == "kept\n"


def test_a_job_that_ends_within_the_grace_period_is_not_disturbed(
    operator: Operator, sandbox: Sandbox, tmp_path: Path, quick_python: Path
) -> None:
    """A stop waits for the running job, with the endpoint and the subscription gone already."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": WAITER})
    deployment = Deployment(operator, sandbox, archive, "--python", quick_python, "--grace", "50")
    deployment.post(event(1))
    outgoing = deployment.state_dir / "jobs" / "1" / "outgoing"
    wait_until((outgoing / "began").exists, "the entry-point runs")
    deployment.command.process.send_signal(signal.SIGTERM)
    wait_until(lambda: sandbox.subscriptions() == [], "unsubscribed")
    assert deployment.command.process.poll() is None
    (outgoing / "go").touch()
    assert deployment.command.end().status == 0
    assert deployment.jobs() == {"succeeded": 1}
    assert operator.leftovers() == []


def test_a_job_beyond_the_grace_period_goes_back_and_runs_at_the_next_start(
    operator: Operator, sandbox: Sandbox, tmp_path: Path, quick_python: Path
) -> None:
    """What a stop interrupts is queued again, does not count as an attempt, and is run by the next start."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": WAITER})
    flags = ("--python", quick_python, "--grace", "0.2")
    first = Deployment(operator, sandbox, archive, *flags)
    first.post(event(1))
    outgoing = first.state_dir / "jobs" / "1" / "outgoing"
    wait_for_starts(outgoing, 1)
    assert first.command.stop().status == 0
    assert first.jobs() == {"queued": 1}
    assert operator.leftovers() == []
    (outgoing / "go").touch()
    second = Deployment(operator, sandbox, archive, *flags)
    job, directory = second.job(1)
    assert (job.attempts, job.exit_status) == (1, 0)
    assert (directory / "outgoing" / "began").read_text() == "x\nx\n"
    assert second.command.stop().status == 0
    assert operator.leftovers() == []


def test_a_second_signal_does_not_wait_for_the_job(
    operator: Operator, sandbox: Sandbox, tmp_path: Path, quick_python: Path
) -> None:
    """With an hour of grace left, the second signal ends the job, and everything is undone as ever."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": WAITER})
    deployment = Deployment(operator, sandbox, archive, "--python", quick_python, "--grace", "3600")
    deployment.post(event(1))
    wait_until((deployment.state_dir / "jobs" / "1" / "outgoing" / "began").exists, "the entry-point runs")
    deployment.command.process.send_signal(signal.SIGTERM)
    wait_until(lambda: sandbox.subscriptions() == [], "unsubscribed")
    outcome = deployment.command.stop(signal.SIGINT)
    assert outcome.status == 0
    assert deployment.jobs() == {"queued": 1}
    assert operator.leftovers() == []


def test_a_signal_during_step_2_stops_the_start(operator: Operator, archive: Path, tmp_path: Path) -> None:
    """SIGTERM while the environment is created: status 130, one sentence, nothing left."""
    slow = tmp_path / "slow-python"
    slow.write_text(f'#!/bin/sh\n[ "$3" = venv ] || exec "{BIN}/python" "$@"\necho > "$5.begun"; sleep 3600 & wait\n')
    slow.chmod(0o755)
    command = operator.command(START, archive, "--username", "alice", "--python", slow)
    wait_until(lambda: list(operator.tmp.glob("pacifica-venv-*/venv.begun")), "step 2")
    outcome = command.stop()
    assert outcome.status == 130
    assert "stopped" in outcome.error(START)
    assert operator.leftovers() == []


@pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)
def test_a_signal_during_step_3_stops_the_start(
    operator: Operator, tmp_path: Path, quick_python: Path, number: signal.Signals
) -> None:
    """A signal while init.sh runs: status 130, one sentence, its children and the environment gone."""
    script = "#!/bin/sh\necho begun\nsleep 3600 &\nsleep 3600\n"
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": KEEPER, "init.sh": script})
    command = operator.command(START, archive, "--username", "alice", "--python", quick_python)
    command.wait_for("init.sh: begun")
    outcome = command.stop(number)
    assert outcome.status == 130
    assert "stopped" in outcome.error(START)
    assert operator.leftovers() == []


@pytest.mark.parametrize("where", ["init.sh", "__main__.py"])
def test_what_the_consumer_leaves_running_goes_too(
    operator: Operator, sandbox: Sandbox, tmp_path: Path, quick_python: Path, where: str
) -> None:
    """A background process of init.sh, or of an entry-point that ended, does not outlive the start command."""
    scripts = {
        "init.sh": "#!/bin/sh\nsleep 3600 &\n",
        "__main__.py": "import subprocess\nsubprocess.Popen(['sleep', '3600'])\n",
    }
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": "", where: scripts[where]})
    deployment = Deployment(operator, sandbox, archive, "--python", quick_python)
    deployment.post(event(1))
    deployment.job(1)
    assert deployment.command.stop().status == 0
    assert operator.leftovers() == []


@pytest.mark.parametrize("path", NOTIFICATIONS, ids=lambda path: path.stem)
def test_real_notifications_drive_the_endpoint(keeper: Deployment, path: Path) -> None:
    """A notification of the real services makes a job if it matches, with SRC and DST as documented."""
    body = path.read_bytes()
    response = keeper.post(body)
    verdict = "unmatched" if path.stem == "orm-files" else "matched"
    assert (response.status_code, response.json()["verdict"]) == (202, verdict)
    if verdict == "matched":
        _, directory = keeper.job(response.json()["job"])
        seen = json.loads((directory / "outgoing" / "seen.json").read_text())
        assert (directory / "incoming" / "notification.json").read_bytes() == body
        assert seen["source"] == ["downloads", "notification.json"]
        assert seen["folders"] == (["sub0", "sub1"] if path.stem == "ingest-nested-files" else [])


def test_the_body_is_kept_byte_for_byte(keeper: Deployment) -> None:
    """Odd spacing, escapes and key order of the body arrive in SRC/notification.json unchanged."""
    body = (
        b'\r\n\t{"eventType" :"org.pacifica.metadata.ingest",\n"eventID":"caf\\u00e9 \xc3\xa9", "x": 1.0e0, "x": 2}  \n'
    )
    response = keeper.post(body)
    _, directory = keeper.job(response.json()["job"])
    assert (directory / "incoming" / "notification.json").read_bytes() == body


def test_a_notification_that_does_not_match_runs_nothing(keeper: Deployment) -> None:
    """It is answered 2xx, noted, and makes no job."""
    before = keeper.verdicts().get("unmatched", 0), sum(keeper.jobs().values())
    response = keeper.post(event(500, eventType="org.pacifica.metadata.orm"))
    assert (response.status_code, response.json()["verdict"], response.json()["job"]) == (202, "unmatched", None)
    assert (keeper.verdicts()["unmatched"], sum(keeper.jobs().values())) == (before[0] + 1, before[1])


def test_a_duplicate_runs_nothing(keeper: Deployment) -> None:
    """The same source and event id, posted four times at once, is answered 2xx each time and makes one job."""
    before = sum(keeper.jobs().values())
    answers: list[tuple[int, str]] = []

    def post() -> None:
        response = keeper.post(event(600))
        answers.append((response.status_code, response.json()["verdict"]))

    threads = [threading.Thread(target=post) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [(202, "duplicate")] * 3 + [(202, "matched")]
    assert sum(keeper.jobs().values()) == before + 1
    # The same id of another source is another notification.
    assert keeper.post(event(600, source="elsewhere")).json()["verdict"] == "matched"


def test_an_upload_of_the_consumer_runs_nothing(keeper: Deployment) -> None:
    """A notification that carries the consumer's own name is left alone; that of another consumer is not."""
    rows = [{"destinationTable": "TransactionKeyValue", "key": "pacifica-notifications-consumer", "value": "tested"}]
    own = keeper.post(event(700, data=rows))
    other = keeper.post(event(701, data=[rows[0] | {"value": "another"}]))
    assert [(answer.status_code, answer.json()["verdict"]) for answer in (own, other)] == [
        (202, "own"),
        (202, "matched"),
    ]


def test_the_entry_point_runs_in_its_environment(keeper: Deployment) -> None:
    """It finds the services' addresses, its own environment and directory, and neither password nor token."""
    response = keeper.post(event(800))
    _, directory = keeper.job(response.json()["job"])
    seen = json.loads((directory / "outgoing" / "seen.json").read_text())
    environ, venv = seen["environ"], seen["python"]
    assert Path(venv).parent.parent == keeper.operator.tmp
    assert (environ["VIRTUAL_ENV"], environ["PATH"].split(":")[0]) == (venv, f"{venv}/bin")
    assert Path(seen["cwd"]).parent.parent == keeper.operator.tmp
    expected = keeper.sandbox.environ() | {"PACIFICA_USERNAME": "alice", "PACIFICA_CONSUMER": "tested"}
    expected |= {"PACIFICA_PROGRESS_FILE": str(directory / "progress" / "progress.json")}
    found = {name: value for name, value in environ.items() if name.startswith("PACIFICA_")}
    assert found.pop("PACIFICA_JOB").startswith(f"{keeper.state_dir}:{response.json()['job']}:")
    assert found == expected
    assert keeper.token not in json.dumps(environ)


def test_health_and_readiness(keeper: Deployment) -> None:
    """Supervisors need no token."""
    assert (keeper.get("/healthz"), keeper.get("/readyz")) == ((200, b"ok\n"), (200, b"ok\n"))


def test_a_job_that_hangs_is_ended(operator: Operator, sandbox: Sandbox, tmp_path: Path, quick_python: Path) -> None:
    """--job-timeout ends a job with its children; after the last of --attempts it is dead, and kept."""
    script = "import subprocess, sys, time\nsubprocess.Popen(['sleep', '3600'])\ntime.sleep(3600)\n"
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": script})
    flags = ("--python", quick_python, "--attempts", "1", "--job-timeout", "2")
    deployment = Deployment(operator, sandbox, archive, *flags)
    deployment.post(event(1))
    job, directory = deployment.job(1, JobState.DEAD)
    assert (job.attempts, job.reason) == (1, "took longer than 2 seconds")
    assert [line for line in operator.processes().values() if "sleep" in line or str(directory) in line] == []
    assert deployment.command.stop().status == 0
    assert operator.leftovers() == []


@pytest.mark.parametrize(
    "fault", [None, "--producer-url=http://127.0.0.1:1 --register-timeout=0", "--workers=none", "--python=/bin/true"]
)
def test_json_log_lines(
    operator: Operator, sandbox: Sandbox, archive: Path, quick_python: Path, fault: str | None
) -> None:
    """With --log-format json every line on standard error is a JSON object, whatever happens."""
    flags: list[str | Path] = ["--python", quick_python, "--log-format", "json", "--verbose", "--username", "alice"]
    command = operator.command(START, archive, *flags, *(fault or "").split(), variables=sandbox.environ())
    if fault is None:
        command.wait_for("ready: ")
        command.process.send_signal(signal.SIGTERM)
    outcome = command.end()
    assert (outcome.status == 0) == (fault is None)
    documents = [json.loads(line) for line in outcome.stderr.splitlines()]
    assert {type(document) for document in documents} == {dict}
    assert {"time", "level", "message"} == set.union(*map(set, documents))
    assert [each["level"] for each in documents].count("critical") == (0 if fault is None else 1)
    assert operator.leftovers() == []


def test_the_default_state_directory_is_the_users(
    operator: Operator, sandbox: Sandbox, archive: Path, quick_python: Path
) -> None:
    """Without --state-dir and --name both derive from user, host and archive."""
    flags = ("--username", "alice", "--python", quick_python)
    command = operator.command(START, archive, *flags, variables=sandbox.environ())
    command.wait_for("ready: ")
    name = f"alice@{socket.gethostname()}:consumer"
    assert [subscription["name"] for subscription in sandbox.subscriptions()] == [name]
    assert command.stop().status == 0
    assert jobs_in(operator.home / "states" / "pacifica-notifications-consumer" / name) == {}
    assert operator.leftovers() == []
