"""What the end-to-end tests share: an operator who types the commands and looks for what they leave behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import uuid
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest
import requests

from pacifica_notifications_consumer import upload
from pacifica_notifications_consumer.jobs.job import Job, JobState
from pacifica_notifications_consumer.ledger.ledger import Ledger
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.support.machine.reaper import environ_of
from tests.support.machine.waiting import DEADLINE as DEADLINE
from tests.support.machine.waiting import wait_until as wait_until
from tests.support.machine.waiting import whole_lines
from tests.support.paths import DATA, PROC, ROOT, cache_variables

BIN = Path(sys.executable).parent
START = "start-pacifica-notifications-consumer"
TOOL = "pacifica-notifications-consumer"
TODAYS_EXAMPLE = ROOT / "runner" / "pacifica_notifications_runner" / "templates" / "uppercase"
NOTIFICATIONS = sorted((DATA / "notifications").glob("*.json"))
_LOG_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (DEBUG|INFO|WARNING) ")

#: An entry-point that says what it was given, and leaves everything in place.
KEEPER = """\
import json, os, sys
source, destination = sys.argv[1:]
uploads = os.path.join(destination, "uploads")
folders = sorted(os.path.relpath(os.path.join(top, name), uploads) for top, names, _ in os.walk(uploads)
                 for name in names)
seen = {"folders": folders, "cwd": os.getcwd(), "python": sys.prefix, "source": sorted(os.listdir(source)),
        "environ": dict(os.environ)}
with open(os.path.join(destination, "seen.json"), "w", encoding="utf-8") as file:
    json.dump(seen, file)
print("kept")
"""

#: An entry-point that writes a line when it starts, and ends when its directory of outgoing files holds the file `go`.
WAITER = """\
import os, sys, time
open(os.path.join(sys.argv[2], "began"), "a").write("x\\n")
while not os.path.exists(os.path.join(sys.argv[2], "go")):
    time.sleep(0.01)
"""


def pack(archive: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write a consumer.zip."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return archive


def contents(directory: Path, **changes: str) -> dict[str, str | bytes]:
    """The files of an example, some of them replaced (``requirements`` stands for requirements.txt)."""
    names = ("__main__.py", "init.sh", "jsonpath2.txt", "requirements.txt")
    files: dict[str, str | bytes] = {name: (directory / name).read_bytes() for name in names}
    return files | {f"{name}.txt": text for name, text in changes.items()}


class Outcome(NamedTuple):
    """How a command ended, and what it said."""

    status: int
    stdout: str
    stderr: str

    def error(self, program: str) -> str:
        """The one sentence with which the command ended; asserts that nothing but its log stands beside it."""
        lines = self.stderr.splitlines()
        (place,) = [number for number, line in enumerate(lines) if line.startswith(f"{program}: ")]
        assert [line for line in lines[:place] if not _LOG_LINE.match(line)] == [], self.stderr
        # What another program said on the matter is quoted below, indented.
        assert [line for line in lines[place + 1 :] if line.strip() and not line.startswith("    ")] == [], self.stderr
        sentence = lines[place].removeprefix(f"{program}: ")
        # A stop that was asked for is no error.
        assert sentence.startswith("error: ") == (self.status != 130), sentence
        return sentence.removeprefix("error: ")


class Command:
    """A command that runs as a process of its own."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], cwd: Path, logs: Path) -> None:
        self._out, self._err = logs.with_suffix(".out"), logs.with_suffix(".err")
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                arguments, env=environ, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )

    @property
    def stdout(self) -> str:
        return self._out.read_text(encoding="utf-8", errors="replace")

    @property
    def stdout_bytes(self) -> bytes:
        return self._out.read_bytes()

    @property
    def stderr(self) -> str:
        return self._err.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text: str, seconds: float = DEADLINE) -> None:
        """Wait until the command has said something."""

        def said() -> bool:
            found = text in self.stderr + self.stdout
            assert found or self.process.poll() is None, f"it ended without {text!r}:\n{self.stderr}"
            return found

        wait_until(said, f"{text!r} in what it says", seconds)

    def end(self, seconds: float = DEADLINE) -> Outcome:
        """Wait for its end."""
        status = self.process.wait(seconds)
        return Outcome(status, self.stdout, self.stderr)

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = DEADLINE) -> Outcome:
        """Send it a signal and wait for its end."""
        self.process.send_signal(number)
        return self.end(seconds)


class Operator:
    """Starts commands in a temporary directory of their own, and finds what they leave behind.

    All processes that come of them carry a mark in their environment, by which they are found wherever they went.

    Args:
        home: The directory.
        installed: Where the commands are.
        quick: The Python whose environments are kept, and the cache for them; None for a new one at each command.
    """

    def __init__(self, home: Path, installed: Path = BIN, quick: tuple[Path, Path] | None = None) -> None:
        self.home = home
        self._installed = installed
        self.quick = quick
        self.tmp = home / "tmp"
        self.tmp.mkdir(parents=True)
        self._mark = str(uuid.uuid4())
        self._commands: list[Command] = []

    def command(
        self, *arguments: str | Path, cwd: Path | None = None, variables: Mapping[str, str] | None = None
    ) -> Command:
        """Start a command as an operator would, with nothing of Pacifica's but these variables set."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("PACIFICA_", "PYTHON"))}
        # It sees what `quick_python` links.
        environ |= {"PACIFICA_INSTALLER": "pip"}
        environ |= {"E2E_MARK": self._mark, "TMPDIR": str(self.tmp), "XDG_STATE_HOME": str(self.home / "states")}
        environ |= cache_variables(self.home)
        program, *rest = map(str, arguments)
        if self.quick and str(self.quick[0]) in rest:
            environ["PACIFICA_VENV_CACHE"] = str(self.quick[1])
        program = program if "/" in program else str(self._installed / program)
        logs = self.home / f"command-{len(self._commands)}"
        command = Command([program, *rest], environ | dict(variables or {}), cwd or self.home, logs)
        self._commands.append(command)
        return command

    def run(
        self, *arguments: str | Path, cwd: Path | None = None, variables: Mapping[str, str] | None = None
    ) -> Outcome:
        """Run a command to its end."""
        return self.command(*arguments, cwd=cwd, variables=variables).end()

    def processes(self) -> dict[int, str]:
        """The command lines of the processes that come of what was started, by their ids."""
        # The programs of another user get the second one only.
        found, marks = {}, {f"E2E_MARK={self._mark}".encode(), f"TMPDIR={self.tmp}".encode()}
        for path in PROC.iterdir():
            with contextlib.suppress(OSError):
                if path.name.isdigit() and marks.intersection(environ_of(path.name)):
                    found[int(path.name)] = (path / "cmdline").read_text(errors="replace").replace("\0", " ").rstrip()
        return found

    def leftovers(self) -> list[str]:
        """What is in the temporary directory, and which processes are left."""
        return sorted(path.name for path in self.tmp.iterdir()) + list(self.processes().values())

    def close(self) -> None:
        """End what still runs."""
        for command in self._commands:
            if command.process.poll() is None:
                command.process.kill()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for command in self._commands:
            command.process.wait()


class Pacifica(Protocol):
    """A sandbox, or the real services."""

    def environ(self) -> dict[str, str]: ...

    def subscriptions(self) -> list[dict[str, Any]]: ...


class Deployment:
    """A consumer that runs under the start command, subscribed to a producer."""

    def __init__(self, operator: Operator, sandbox: Pacifica, archive: Path, *flags: str | Path) -> None:
        self.operator, self.sandbox = operator, sandbox
        self.state_dir = operator.home / "state"
        # One that was left behind is taken over, for another address.
        known = {(each["uuid"], each["target_url"]) for each in sandbox.subscriptions()}
        arguments = ["--username", "alice", "--name", "tested", "--state-dir", self.state_dir, *flags]
        self.command = operator.command(START, archive, *arguments, variables=sandbox.environ())
        self.command.wait_for("ready: ")
        (self.subscription,) = (
            each for each in sandbox.subscriptions() if (each["uuid"], each["target_url"]) not in known
        )

    @property
    def url(self) -> str:
        return str(self.subscription["target_url"]).removesuffix("/receive")

    @property
    def token(self) -> str:
        return str(self.subscription["auth"]["header"]["credentials"])

    def post(self, body: bytes, **headers: str | None) -> requests.Response:
        """Post as the producer does; a header is changed by its name, or left out with None."""
        wanted = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"} | headers
        with requests.Session() as session:
            session.trust_env = False
            given = {name: value for name, value in wanted.items() if value is not None}
            return session.post(f"{self.url}/receive", data=body, headers=given, timeout=DEADLINE)

    def get(self, path: str) -> tuple[int, bytes]:
        with requests.Session() as session:
            session.trust_env = False
            response = session.get(f"{self.url}{path}", timeout=DEADLINE)
            return response.status_code, response.content

    def verdicts(self) -> dict[str, int]:
        """How many notifications of each verdict the ledger has, those of which there are none left out."""
        with contextlib.closing(Ledger(self.state_dir / "ledger.sqlite3")) as ledger:
            return {verdict.value: count for verdict, count in ledger.count_verdicts().items() if count}

    def jobs(self) -> dict[str, int]:
        """How many jobs are in each state, those of which there are none left out."""
        return jobs_in(self.state_dir)

    def job(self, number: int, state: JobState = JobState.SUCCEEDED) -> tuple[Job, Path]:
        """Wait until a job is in a state; returns it and its directory."""

        def reached() -> Job | None:
            with contextlib.closing(Ledger(self.state_dir / "ledger.sqlite3")) as ledger, contextlib.suppress(KeyError):
                job = ledger.records.job(number)
                return job if job.state is state else None
            return None

        found = wait_until(reached, f"job {number} {state.value}")
        return found, self.state_dir / "jobs" / str(number)

    def let_end(self, number: int) -> None:
        """Let a job end that waits for the file `go`, as soon as it has a directory for that."""
        outgoing = self.state_dir / "jobs" / str(number) / "outgoing"
        wait_until(outgoing.is_dir, f"job {number} has its directories")
        (outgoing / "go").touch()


def wait_for_starts(outgoing: Path, count: int) -> None:
    """Wait until a `WAITER` has started a number of times, and has written that to its directory of outgoing files."""
    wait_until(lambda: whole_lines(outgoing / "began") == ["x"] * count, f"start {count} of the entry-point")


def jobs_in(state_dir: Path) -> dict[str, int]:
    with contextlib.closing(Ledger(state_dir / "ledger.sqlite3")) as ledger:
        return {state.value: count for state, count in ledger.count_jobs().items() if count}


def event(number: int, **changes: Any) -> bytes:
    """A notification with a single text file, as the producer writes it."""
    document: dict[str, Any] = {
        "cloudEventsVersion": "0.1",
        "eventType": "org.pacifica.metadata.ingest",
        "source": f"http://metadata.pacifica.org/transactions?_id={number}",
        "eventID": f"metadata.ingest.{number}",
        "eventTime": "2026-11-24T00:14:31",
        "extensions": {},
        "contentType": "application/json",
        "data": [
            {"destinationTable": "Transactions.submitter", "value": 10},
            {"destinationTable": "Transactions._id", "value": number},
        ],
    }
    return json.dumps(document | changes).encode("ascii")


def send(sandbox: Sandbox, home: Path, files: Mapping[str, bytes], **changes: Any) -> int:
    """Upload a transaction as an instrument would, and return its number."""
    for name, content in files.items():
        path = home / "uploads" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    attributes = {"submitter": 10, "project": "1234a", "instrument": 54} | changes
    services = Services.from_environment(sandbox.environ() | {"PACIFICA_USERNAME": "alice"})
    rows = {f"Transactions.{name}": value for name, value in attributes.items() if value is not None}
    upload(home, rows, {}, services=services).get()
    return sandbox.transactions()[-1]


@pytest.fixture(scope="session")
def quick_cache(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Where all tests keep the environments of `quick_python`; None where the environment itself is tested."""
    return tmp_path_factory.mktemp("quick") / "environments"


@pytest.fixture
def operator(tmp_path: Path, quick_python: Path, quick_cache: Path | None) -> Iterator[Operator]:
    quick = (quick_python, quick_cache) if quick_cache else None
    with contextlib.closing(Operator(tmp_path / "operator", quick=quick)) as operator:
        yield operator


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "sandbox", users={"alice": 10}) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def quick_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python for ``--python`` whose environments see the installed packages, so that pip has nothing to install.

    For tests of what comes after the environment; those of the environment itself use the real one.
    """
    packages = Path(sysconfig.get_path("purelib"))
    return link_python(tmp_path_factory.mktemp("quick") / "python", Path(sys.executable), packages)


def link_python(script: Path, python: Path, packages: Path) -> Path:
    """Make a Python whose environments see the packages of another environment."""
    below = packages.relative_to(python.parent.parent)
    runs, sees = shlex.quote(str(python)), shlex.quote(str(packages))
    script.write_text(
        "#!/bin/sh\n"
        f'[ "$3" = venv ] || exec {runs} "$@"\n'
        f'{runs} -I -m venv --without-pip "$5" && echo {sees} > "$5/{below}/linked.pth"\n'
    )
    script.chmod(0o755)
    return script


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory, quick_python: Path) -> Iterator[Deployment]:
    """A running consumer of notifications of Pacifica's ingest, shared by the tests that only post to its endpoint."""
    home = tmp_path_factory.mktemp("keeper")
    jsonpath = '$[?(@["eventType"] = "org.pacifica.metadata.ingest")]'
    archive = pack(home / "consumer.zip", {"__main__.py": KEEPER, "jsonpath2.txt": jsonpath})
    with Sandbox(home / "sandbox") as sandbox, contextlib.closing(Operator(home / "operator")) as operator:
        yield Deployment(operator, sandbox, archive, "--python", quick_python, "--max-body", "100000", "--workers", "1")
