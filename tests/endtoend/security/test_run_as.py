"""A consumer whose code runs as another user, who reaches what is his and nothing of the runner's."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.endtoend.conftest import (
    START,
    TODAYS_EXAMPLE,
    TOOL,
    WAITER,
    Command,
    Deployment,
    Operator,
    contents,
    event,
    jobs_in,
    link_python,
    pack,
    send,
    wait_for_starts,
    wait_until,
)
from tests.endtoend.security.conftest import Installation
from tests.engines.brokers import RedisServer
from tests.support.machine.other_user import NOBODY, as_root
from tests.support.machine.waiting import DEADLINE
from tests.support.paths import ROOT
from tests.support.runner_tools import alive

DEPLOYMENT = ROOT / "runner" / "deployment"
pytestmark = as_root

#: Tries what the user must not do, and says how far it came.
PROBE = """\
import json, os, sys
job = os.path.dirname(sys.argv[1])
state = os.path.dirname(os.path.dirname(job))
runner = int(open(state + "/jobs/runner").read())
def attempt(what):
    try:
        what()
    except OSError as error:
        return type(error).__name__
    return "done"
tried = {
    "list the state directory": lambda: os.listdir(state),
    "read the ledger": lambda: open(state + "/ledger.sqlite3"),
    "read the page's token": lambda: open(state + "/status.json"),
    "read the password file": lambda: open(os.path.dirname(state) + "/password"),
    "read the runner's variables": lambda: open(f"/proc/{runner}/environ").read(),
    "end the runner": lambda: os.kill(runner, 0),
    "put another output there": lambda: os.unlink(job + "/output.log"),
    "add to the job's directory": lambda: open(job + "/new", "w"),
    "make another job": lambda: os.mkdir(state + "/jobs/77"),
    "print to /dev/stderr": lambda: open("/dev/stderr", "a").write("to stderr\\n"),
}
told = {what: attempt(action) for what, action in tried.items()}
told |= {"user": os.getresuid(), "group": os.getresgid(), "groups": os.getgroups(), "home": os.environ["HOME"]}
told |= {"ours": sorted(name for name in os.environ if name.startswith("PACIFICA_"))}
told |= {"canaries": sorted(name for name, value in os.environ.items() if "canary" in value)}
print("PROBE", json.dumps(told), flush=True)
"""

#: What an environment runs whenever its Python starts: notes as whom, if the file is there.
NOTE_USER = "import os; open('{noted}', 'a').write(str(os.geteuid()) + ' ')"


@pytest.fixture
def operator(operator_for_all: Operator) -> Operator:
    return operator_for_all


def told_by(directory: Path) -> dict[str, Any]:
    (line,) = [line for line in (directory / "output.log").read_text().splitlines() if line.startswith("PROBE ")]
    found: dict[str, Any] = json.loads(line.removeprefix("PROBE "))
    return found


@pytest.mark.parametrize("how", ["warm", "cold"])
def test_todays_example_as_another_user(
    operator: Operator,
    sandbox: Sandbox,
    installation: Installation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """It does its work, and its user can reach neither the runner, nor its secrets, nor what it keeps."""
    files = contents(TODAYS_EXAMPLE)
    files["__main__.py"] = f"{PROBE}\n{(TODAYS_EXAMPLE / '__main__.py').read_text()}"
    files["init.sh"] = '#!/bin/sh\necho "user $(id -u), $(env | grep canary | sed s/=.*//)"\n'
    password = operator.home / "password"
    password.write_text("canary-password")
    password.chmod(0o600)
    flags: list[str | Path] = ["--password-file", password, "--python", installation.python, "--start", how]
    for name in ("AWS_SECRET_ACCESS_KEY", "UV_INDEX_LAB_PASSWORD"):
        monkeypatch.setenv(name, "canary")
    deployment = Deployment(
        operator, sandbox, pack(tmp_path / "consumer.zip", files), *flags, "--run-as", NOBODY, "--job-processes", "5000"
    )
    if how == "warm":
        deployment.command.wait_for("entry-points start warm")
    runner = deployment.state_dir / "jobs" / "runner"
    runner.write_text(str(deployment.command.process.pid))
    runner.chmod(0o644)
    nobody = pwd.getpwnam(NOBODY)
    # For its installation, it gets what packages are installed with, and nothing else that is secret.
    assert f"init.sh: user {nobody.pw_uid}, UV_INDEX_LAB_PASSWORD\n" in deployment.command.stderr
    send(sandbox, tmp_path, {"a.txt": b"alpha\n"})
    _, directory = deployment.job(1)
    wait_until(lambda: deployment.verdicts().get("own") == 1, "its own upload announced to it")
    assert [sandbox.read(number)["a.txt"] for number in sandbox.transactions()] == [b"alpha\n", b"ALPHA\n"]
    told = told_by(directory)
    assert told.pop("user") == [nobody.pw_uid] * 3
    assert told.pop("group") == [nobody.pw_gid] * 3
    assert told.pop("groups") == os.getgrouplist(NOBODY, nobody.pw_gid)
    assert told.pop("home") == nobody.pw_dir
    assert told.pop("canaries") == ["PACIFICA_PASSWORD"]
    # It needs the password, and gets it; nothing else of the runner's.
    ours = told.pop("ours")
    assert "PACIFICA_PASSWORD" in ours
    assert not {"PACIFICA_PASSWORD_FILE", "PACIFICA_RUN_AS", "PACIFICA_INSTALLER"} & set(ours)
    assert told.pop("print to /dev/stderr") == "done"
    assert set(told.values()) == {"PermissionError"}, told
    assert "to stderr" in (directory / "output.log").read_text()
    # The operator sees all of it.
    shown = operator.run(TOOL, "jobs", "log", "1", "--state-dir", deployment.state_dir)
    assert "uploaded" in shown.stdout
    assert deployment.command.stop().status == 0
    assert operator.leftovers() == []


def test_traps_for_the_next_attempt(
    operator: Operator, sandbox: Sandbox, installation: Installation, tmp_path: Path
) -> None:
    """A link that a first attempt leaves is replaced for the second one; the runner does not write where it leads."""
    precious = operator.home / "precious"
    precious.write_text("precious")
    precious.chmod(0o600)
    entry_point = (
        "import os, sys\n"
        "notification = sys.argv[1] + '/notification.json'; print('it was', os.path.islink(notification))\n"
        f"os.unlink(notification); os.symlink('{precious}', notification)\n"
        f"os.mkfifo(os.environ['PACIFICA_PROGRESS_FILE'])\n"
        "raise SystemExit(3)\n"
    )
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": entry_point})
    flags: list[str | Path] = ["--python", installation.python, "--run-as", NOBODY, "--verbose"]
    deployment = Deployment(operator, sandbox, archive, *flags)
    deployment.post(event(1))
    deployment.job(1, JobState.DEAD)
    retried = operator.run(TOOL, "jobs", "retry", "1", "--state-dir", deployment.state_dir)
    assert retried.status == 0, retried.stderr
    wait_until(
        lambda: deployment.command.stderr.count("job 1: attempt 1 of 1 failed: exit status 3") == 2, "two failures"
    )
    shown = operator.run(TOOL, "jobs", "log", "1", "--state-dir", deployment.state_dir)
    assert (shown.stdout.count("it was False"), shown.stdout.count("it was True")) == (2, 0)
    assert precious.read_text() == "precious"
    # Another job is run all the same.
    deployment.post(event(2))
    deployment.command.wait_for("job 2: attempt 1 of 1 failed: exit status 3")
    assert deployment.command.stop().status == 0


def test_what_is_installed_runs_as_the_user(operator: Operator, installation: Installation, tmp_path: Path) -> None:
    """A package can have code run when Python starts: nobody starts the environment's with more rights."""
    noted = installation.place / "noted"
    noted.touch()
    noted.chmod(0o666)
    hook = NOTE_USER.format(noted=noted)
    init = f'#!/bin/sh\necho "{hook}" > "$(echo "$VIRTUAL_ENV"/lib/python*/site-packages)/hook.pth"\n'
    init += 'ln -s /etc/hostname "$VIRTUAL_ENV/../requirements.lock" || echo refused\n'
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": "import attrs\n", "init.sh": init})
    (tmp_path / "notification.json").write_bytes(event(1))
    flags: list[str | Path] = ["--python", installation.python, "--run-as", NOBODY]
    checked = operator.run(TOOL, "check", archive, *flags, "--verbose")
    assert checked.status == 0, checked.stderr
    assert "init.sh: refused" in checked.stderr
    ran = operator.run(TOOL, "run", archive, tmp_path / "notification.json", *flags, "--username", "alice")
    assert ran.status == 0, ran.stderr
    assert set(noted.read_text().split()) == {str(pwd.getpwnam(NOBODY).pw_uid)}


def test_environments_are_not_shared_between_users(
    operator: Operator, installation: Installation, tmp_path: Path
) -> None:
    """What one user may change, another one does not run."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": "import os, sys; print(sys.prefix)\n"})
    (tmp_path / "notification.json").write_bytes(event(1))
    prefixes = []
    for user in (NOBODY, "daemon", NOBODY):
        flags: list[str | Path] = ["--run-as", user, "--python", installation.python]
        flags += ["--venv-cache", operator.home / "cache"]
        ran = operator.run(TOOL, "run", archive, tmp_path / "notification.json", *flags, "--username", "alice")
        assert ran.status == 0, ran.stderr
        prefixes.append(ran.stdout)
    assert prefixes[0] == prefixes[2] != prefixes[1]
    owners = {path.stat().st_uid for path in (operator.home / "cache").glob("*/*/venv")}
    assert owners == {pwd.getpwnam(name).pw_uid for name in (NOBODY, "daemon")}


def test_command_that_the_user_cannot_read(installation: Installation, tmp_path: Path) -> None:
    """The command's own Python may be closed to the user: what it imports meanwhile, it imports with its own rights."""
    home = Path(tempfile.mkdtemp(dir=installation.place))
    home.chmod(0o711)
    (home / "bin").mkdir()
    shutil.copy(Path(sys.executable).with_name("uv"), home / "bin" / "uv")
    files = {"__main__.py": "print('ran')\n", "init.sh": "echo begun\n", "requirements.txt": "requests\n"}
    archive = pack(tmp_path / "consumer.zip", files)
    (tmp_path / "notification.json").write_bytes(event(1))
    flags: list[str | Path] = ["--run-as", NOBODY, "--python", installation.python, "--venv-cache", home / "cache"]
    # This command is the one of the repository, and not of the installation.
    with contextlib.closing(Operator(home)) as operator:
        variables = {"PATH": f"{home / 'bin'}:{os.environ['PATH']}", "PACIFICA_INSTALLER": "uv"}
        running = [TOOL, "run", archive, tmp_path / "notification.json", *flags, "--username", "alice"]
        for _ in range(2):
            ran = operator.run(*running, variables=variables)
            assert (ran.status, ran.stdout) == (0, "ran\n"), ran.stderr
        assert "using the environment" in ran.stderr
        checked = operator.run(TOOL, "check", archive, *flags, variables=variables)
        assert checked.status == 0, checked.stderr


def test_worker_as_another_user(
    operator: Operator, sandbox: Sandbox, installation: Installation, tmp_path: Path
) -> None:
    """Where workers run the jobs, it is they who are told the user."""
    files = {"__main__.py": "import os; print('user', os.geteuid())"}
    archive = pack(tmp_path / "consumer.zip", files)
    broker = RedisServer(tmp_path / "broker")
    broker.start()
    with contextlib.closing(broker):
        there = ["--engine", "celery", "--broker-url", broker.url()]
        told_wrongly = operator.run(START, archive, *there, "--username", "alice", "--run-as", NOBODY)
        advice = "set --run-as (PACIFICA_RUN_AS) for the workers instead of here"
        assert told_wrongly.error(START) == f"the workers run the jobs; {advice}"
        deployment = Deployment(operator, sandbox, archive, *there)
        flags: list[str | Path] = ["--broker-url", broker.url(), "--name", "tested", "--username", "alice"]
        flags += ["--state-dir", operator.home / "worker", "--python", installation.python, "--run-as", NOBODY]
        worker = operator.command(TOOL, "worker", archive, *flags)
        deployment.post(event(1))
        _, directory = deployment.job(1)
        assert (directory / "output.log").read_text() == f"user {pwd.getpwnam(NOBODY).pw_uid}\n"
        assert [worker.stop().status, deployment.command.stop().status] == [0, 0]


def test_the_rights_that_it_takes(
    operator: Operator, sandbox: Sandbox, installation: Installation, tmp_path: Path
) -> None:
    """With those that the drop-in for systemd leaves it, and no more, it does all, even after it was killed."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("there is no setpriv here")
    (kept,) = re.findall(r"^CapabilityBoundingSet=(.*)$", (DEPLOYMENT / "run-as.conf").read_text(), re.MULTILINE)
    rights = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in kept.split())])
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": f"import os\nprint('user', os.getuid())\n{WAITER}"})
    flags: list[str | Path] = ["--username", "alice", "--name", "tested", "--state-dir", operator.home / "state"]
    flags += ["--python", installation.python, "--run-as", NOBODY]
    start = [setpriv, "--bounding-set", rights, "--inh-caps", "-all", installation.bin / START, archive, *flags]

    def begin() -> Command:
        command = operator.command(*start, variables=sandbox.environ())
        command.wait_for("entry-points start warm")
        command.wait_for("ready: ")
        return command

    first = begin()
    (subscription,) = sandbox.subscriptions()
    credentials = f"Bearer {subscription['auth']['header']['credentials']}"
    with requests.Session() as session:
        session.trust_env = False
        headers = {"Content-Type": "application/json", "Authorization": credentials}
        assert session.post(subscription["target_url"], event(1), headers=headers, timeout=DEADLINE).status_code == 202
    directory = operator.home / "state" / "jobs" / "1"
    wait_for_starts(directory / "outgoing", 1)
    running = [pid for pid, title in operator.processes().items() if str(directory) in title]
    assert len(running) == 1
    first.process.kill()
    first.process.wait()
    second = begin()
    assert "processes that the previous run left behind were ended: " in second.stderr
    wait_until(lambda: not alive(running[0]), "the survivor has ended")
    wait_for_starts(directory / "outgoing", 2)
    (directory / "outgoing" / "go").touch()
    wait_until(lambda: jobs_in(operator.home / "state") == {"succeeded": 1}, "it has succeeded")
    shown = operator.run(TOOL, "jobs", "log", "1", "--state-dir", operator.home / "state")
    assert shown.stdout.splitlines() == [f"user {pwd.getpwnam(NOBODY).pw_uid}"] * 2
    assert second.stop().status == 0
    assert operator.processes() == {}


def test_authors_python_that_is_closed(operator: Operator, installation: Installation, tmp_path: Path) -> None:
    """A Python that only root can reach is a sentence of the commands for authors, too."""
    closed = operator.home / "closed"
    closed.mkdir(mode=0o700)
    link_python(closed / "python", installation.bin / "python", installation.bin.parent / "lib")
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": ""})
    (tmp_path / "notification.json").write_bytes(event(1))
    commands: list[list[str | Path]] = [["check", archive]]
    commands += [["run", archive, tmp_path / "notification.json", "--username", "alice"]]
    for words in commands:
        outcome = operator.run(TOOL, *words, "--run-as", NOBODY, "--python", closed / "python")
        assert outcome.status != 0
        assert f"{closed}/python is not a usable Python for the user nobody: Permission denied" in outcome.stderr
        assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (
            ["--run-as", "nobody-at-all"],
            "the user 'nobody-at-all' does not exist on this machine; correct --run-as (PACIFICA_RUN_AS), or",
        ),
        (["--run-as", "root"], "root has all rights; set --run-as (PACIFICA_RUN_AS) to a"),
        (
            ["--run-as", NOBODY, "--state-dir", "{closed}/state"],
            "the user nobody cannot reach {closed}/state/jobs: {closed} is closed to that user; choose another",
        ),
        (
            ["--run-as", NOBODY, "--venv-cache", "{closed}/cache"],
            "the user nobody cannot reach {closed}/cache/",
        ),
        (
            ["--run-as", NOBODY, "--python", "{closed}/python"],
            "{closed}/python is not a usable Python for the user nobody: Permission denied; set --python",
        ),
    ],
)
def test_wrong_users_and_closed_places(
    operator: Operator, sandbox: Sandbox, installation: Installation, tmp_path: Path, flags: list[str], error: str
) -> None:
    """What the user cannot reach is named, with the setting that leads elsewhere."""
    closed = operator.home / "closed"
    closed.mkdir(mode=0o700)
    link_python(closed / "python", Path(installation.bin / "python"), installation.bin.parent / "lib")
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": ""})
    given = [flag.format(closed=closed) for flag in flags]
    usual = ["--username", "alice", "--python", str(installation.python)]
    outcome = operator.run(START, archive, *usual, *given, variables=sandbox.environ())
    assert outcome.status == 78
    assert outcome.error(START).startswith(error.format(closed=closed))
    assert operator.leftovers() == []
