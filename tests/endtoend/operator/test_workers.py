"""The start command with workers, as an operator uses them: each a command, with directories of its own."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.endtoend.conftest import (
    DEADLINE,
    START,
    TODAYS_EXAMPLE,
    TOOL,
    WAITER,
    Command,
    Deployment,
    Operator,
    contents,
    event,
    pack,
    send,
    wait_until,
)
from tests.engines.brokers import RedisServer

CANARY = "canary-of-the-broker"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("broker"), password=CANARY)
    server.start()
    with contextlib.closing(server):
        yield server


def url_of(broker: RedisServer) -> dict[str, str]:
    return {"PACIFICA_BROKER_URL": broker.url()}


class Fleet:
    """A consumer whose jobs are run by workers."""

    def __init__(self, operator: Operator, sandbox: Sandbox, broker: RedisServer, archive: Path, python: Path) -> None:
        self._operator, self._archive, self._python = operator, archive, python
        self._variables = url_of(broker) | sandbox.environ()
        self.workers: list[Command] = []
        (operator.home / "runner.ini").write_text(
            f"[pacifica-notifications-consumer]\nengine = celery\nbroker_url = {broker.url()}\n"
        )
        self.deployment = Deployment(operator, sandbox, archive, "--config", operator.home / "runner.ini")

    def add_worker(self, *flags: str | Path) -> Command:
        number = len(self.workers) + 1
        state_dir = self._operator.home / f"worker-{number}"
        arguments: list[str | Path] = ["--name", "tested", "--username", "alice"]
        arguments += ["--state-dir", state_dir, "--python", self._python]
        worker = self._operator.command(TOOL, "worker", self._archive, *arguments, *flags, variables=self._variables)
        self.workers.append(worker)
        worker.wait_for("ready: ")
        return worker

    def stop(self) -> list[int]:
        return [command.stop().status for command in (*self.workers, self.deployment.command)]


def test_todays_example_on_two_workers(
    operator: Operator, sandbox: Sandbox, broker: RedisServer, tmp_path: Path, quick_python: Path
) -> None:
    """The example as shipped makes each upload into one new transaction, wherever it runs, and leaves its own alone."""
    secret = tmp_path / "password"
    secret.write_text("canary-of-pacifica")
    fleet = Fleet(operator, sandbox, broker, pack(tmp_path / "consumer.zip", contents(TODAYS_EXAMPLE)), quick_python)
    for _ in range(2):
        fleet.add_worker("--password-file", secret)
    for number in range(4):
        send(sandbox, tmp_path / f"instrument {number}", {"a.txt": b"alpha %d\n" % number})
    wait_until(lambda: fleet.deployment.jobs() == {"succeeded": 4}, "all jobs have succeeded")
    wait_until(lambda: fleet.deployment.verdicts().get("own") == 4, "its own uploads announced to it")
    files = sorted(sandbox.read(number)["a.txt"] for number in sandbox.transactions())
    assert files == sorted(text % number for number in range(4) for text in (b"alpha %d\n", b"ALPHA %d\n"))
    shown = operator.run(TOOL, "jobs", "show", "1", "--state-dir", fleet.deployment.state_dir, "--output", "json")
    job = json.loads(shown.stdout)
    assert job["worker_directory"].startswith(str(operator.home / "worker-"))
    assert job["handed_out"] is False
    assert "uploaded" in operator.run(TOOL, "jobs", "log", "1", "--state-dir", fleet.deployment.state_dir).stdout
    assert "worker: " in operator.run(TOOL, "jobs", "show", "1", "--state-dir", fleet.deployment.state_dir).stdout
    titles = "\n".join(operator.processes().values())
    assert fleet.stop() == [0, 0, 0]
    assert operator.leftovers() == []
    assert sandbox.subscriptions() == []
    for canary in (CANARY, "canary-of-pacifica"):
        assert canary not in titles
        kept = [path for path in operator.home.rglob("*") if path.is_file() and path.name != "runner.ini"]
        assert [path for path in kept if canary.encode() in path.read_bytes()] == []


def test_a_job_elsewhere_is_watched(
    operator: Operator, sandbox: Sandbox, broker: RedisServer, tmp_path: Path, quick_python: Path
) -> None:
    """What a job prints elsewhere, and where that is, can be seen while it runs: by the command, and on the page."""
    entry_point = "print('hello from afar', flush=True)\n" + WAITER
    fleet = Fleet(
        operator, sandbox, broker, pack(tmp_path / "consumer.zip", {"__main__.py": entry_point}), quick_python
    )
    state_dir = fleet.deployment.state_dir
    fleet.deployment.post(event(1))
    wait_until(lambda: fleet.deployment.jobs().get("running"), "the job is out")
    assert "waits for a worker" in operator.run(TOOL, "jobs", "list", "--state-dir", state_dir).stdout
    fleet.add_worker()
    following = operator.command(TOOL, "jobs", "log", "-f", "1", "--state-dir", state_dir)
    following.wait_for("hello from afar")
    address = json.loads((state_dir / "status.json").read_text())
    with requests.Session() as session:
        session.trust_env = False
        session.get(f"{address['url']}/?token={address['token']}", timeout=DEADLINE)
        page = session.get(f"{address['url']}/jobs/1", timeout=DEADLINE).text
    (outgoing,) = (operator.home / "worker-1" / "jobs").glob("*/outgoing")
    assert "hello from afar" in page
    assert str(outgoing.parent) in page
    (outgoing / "go").touch()
    assert following.end().status == 0
    fleet.deployment.job(1)
    assert fleet.stop() == [0, 0]


def test_worker_is_stopped_while_a_job_runs(
    operator: Operator, sandbox: Sandbox, broker: RedisServer, tmp_path: Path, quick_python: Path
) -> None:
    """A second signal cuts the grace short; the job is run by another worker, also if the consumer was stopped."""
    fleet = Fleet(operator, sandbox, broker, pack(tmp_path / "consumer.zip", {"__main__.py": WAITER}), quick_python)
    worker = fleet.add_worker()
    fleet.deployment.post(event(1))
    began = operator.home / "worker-1" / "jobs"
    wait_until(lambda: list(began.glob("*/outgoing/began")), "the job has begun")
    refused = operator.run(
        TOOL, "worker", tmp_path / "consumer.zip", *_as_the_first(operator), variables=url_of(broker)
    )
    assert refused.status == 73
    assert "is in use by a worker of tested" in refused.stderr
    outcome = fleet.deployment.command.stop()
    assert (outcome.status, "goes on running on its machine" in outcome.stderr) == (0, True)
    elsewhere = operator.run(
        START,
        tmp_path / "consumer.zip",
        "--username",
        "alice",
        "--name",
        "tested",
        "--python",
        quick_python,
        "--state-dir",
        fleet.deployment.state_dir,
        variables=sandbox.environ(),
    )
    assert elsewhere.status == 73
    assert "still run on the queue 'tested' at redis://127.0.0.1" in elsewhere.error(START)
    worker.process.send_signal(signal.SIGTERM)
    worker.wait_for("stopping; running jobs are given 30 seconds")
    assert worker.stop().status == 0
    second = fleet.add_worker()
    deployment = Deployment(operator, sandbox, tmp_path / "consumer.zip", "--config", operator.home / "runner.ini")
    (running,) = wait_until(
        lambda: list((operator.home / "worker-2" / "jobs").glob("*/outgoing/began")), "the job has begun once more"
    )
    assert deployment.get("/readyz")[0] == 200
    (running.parent / "go").touch()
    job, _ = deployment.job(1)
    assert (job.state, job.attempts, job.crashes) == (JobState.SUCCEEDED, 1, 0)
    assert [second.stop().status, deployment.command.stop().status] == [0, 0]


def _as_the_first(operator: Operator) -> list[str | Path]:
    return ["--name", "tested", "--state-dir", operator.home / "worker-1", "--installer", "pip"]


@pytest.mark.parametrize(
    ("flags", "variables", "status", "expected"),
    [
        (["--name", "n"], {}, 78, "the address of the broker is missing; set --broker-url (PACIFICA_BROKER_URL)"),
        (["--broker-url", "redis://x"], {}, 78, "the consumer whose jobs are to be run is not named; set --name"),
        (["--broker-url", "http://x"], {}, 78, "cannot be this text: it must look like redis://HOST:PORT, "),
        (
            ["--broker-url", f"redis://:{CANARY}@x"],
            {},
            78,
            "has a password, which all users could read on the command line; set the variable PACIFICA_BROKER_URL",
        ),
        (
            ["--broker-url", f"redis://x/0?Passw%6frd={CANARY}"],
            {},
            78,
            "has a password, which all users could read on the command line; set the variable PACIFICA_BROKER_URL",
        ),
        (
            [],
            {"PACIFICA_BROKER_URL": f"ftp://:{CANARY}@x"},
            78,
            "(PACIFICA_BROKER_URL) cannot be this text: it must look like",
        ),
        (
            ["--broker-url", "amqp://x", "--name", "n"],
            {},
            78,
            "RabbitMQ passes jobs on, but does not keep their results",
        ),
        (["--broker-url", "redis://127.0.0.1:1", "--name", "n"], {}, 69, "the queue 'n' at redis://127.0.0.1:1 cannot"),
        (["--lost-after", "3"], {}, 78, "(PACIFICA_LOST_AFTER) cannot be '3': it must be 20 seconds or more"),
        (["--queue", "a/b"], {}, 78, "--queue (PACIFICA_QUEUE) cannot be 'a/b'"),
        (["--concurrency", "100000"], {}, 78, "it must be a whole number from 1 to 1,000"),
    ],
)
def test_bad_settings(
    operator: Operator,
    tmp_path: Path,
    quick_python: Path,
    flags: list[str],
    variables: dict[str, str],
    status: int,
    expected: str,
) -> None:
    """What is wrong with a worker's settings is said in a sentence, without a password in it, and nothing is left."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": WAITER})
    arguments: list[str | Path] = ["worker", archive, "--python", quick_python]
    arguments += ["--state-dir", operator.home / "state", *flags]
    outcome = operator.run(TOOL, *arguments, variables=variables)
    assert outcome.status == status, outcome.stderr
    assert expected in outcome.error(TOOL)
    assert CANARY not in outcome.stderr
    assert operator.leftovers() == []


@pytest.mark.parametrize("missing", ["celery", "redis"])
def test_missing_package(operator: Operator, sandbox: Sandbox, tmp_path: Path, missing: str) -> None:
    """Without the extra, the start command says what to install."""
    (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError('no', name={missing!r})")
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": WAITER})
    flags = ["--username", "alice", "--engine", "celery", "--broker-url", "redis://127.0.0.1:1"]
    outcome = operator.run(START, archive, *flags, variables=sandbox.environ() | {"PYTHONPATH": str(tmp_path)})
    assert outcome.status == 78
    assert f"the package {missing} is missing" in outcome.error(START)
    assert "install pacifica-notifications-consumer[celery]" in outcome.stderr


def test_broker_that_is_away(operator: Operator, sandbox: Sandbox, tmp_path: Path, quick_python: Path) -> None:
    """A consumer starts without its broker, takes notifications, and says what is the matter."""
    server = RedisServer(tmp_path / "late")
    with contextlib.closing(server):
        archive = pack(tmp_path / "consumer.zip", {"__main__.py": "print('done')"})
        fleet = Fleet(operator, sandbox, server, archive, quick_python)
        assert fleet.deployment.post(event(1)).status_code == 202
        wait_until(lambda: fleet.deployment.get("/readyz")[0] == 503, "it says that something is the matter")
        assert b"cannot be looked at" in fleet.deployment.get("/readyz")[1]
        assert "jobs wait: the queue 'tested'" in fleet.deployment.command.stderr
        server.start()
        fleet.add_worker()
        fleet.deployment.job(1)
        wait_until(lambda: fleet.deployment.get("/readyz")[0] == 200, "the endpoint is ready")
        assert fleet.stop() == [0, 0]
