"""Real brokers for tests: Redis and RabbitMQ, with their own files and ports, which tests kill and start again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.support.machine import reaper
from tests.support.machine.ports import free_port
from tests.support.machine.waiting import DEADLINE, wait_until


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


class Server:
    """A process that listens on a port of this machine."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self._popen: subprocess.Popen[bytes] | None = None
        home.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        raise NotImplementedError

    def environ(self) -> dict[str, str]:
        return {}

    def ready(self) -> bool:
        return answers(self.port)

    def start(self) -> None:
        log = (self.home / "log").open("ab")
        with log:
            self._popen = subprocess.Popen(
                self.command(),
                env=os.environ | self.environ(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        # Redis overwrites its environment.
        reaper.end_process(self._popen.pid)
        wait_until(self._is_up, f"{self.command()[0]} answers")

    def _is_up(self) -> bool:
        assert self._popen
        assert self._popen.poll() is None, (self.home / "log").read_text(errors="replace")[-2000:]
        return self.ready()

    @property
    def pid(self) -> int:
        assert self._popen
        return self._popen.pid

    def end(self, number: int) -> None:
        """End the process and all processes of its session."""
        assert self._popen
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)
        self._popen.wait(DEADLINE)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen = None

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def close(self) -> None:
        if self._popen:
            self.end(signal.SIGTERM)


class RedisServer(Server):
    """A Redis that writes each command to disk before it answers."""

    def __init__(self, home: Path, password: str = "") -> None:
        super().__init__(home)
        self._password = password

    def url(self, number: int = 0) -> str:
        who = f":{self._password}@" if self._password else ""
        return f"redis://{who}127.0.0.1:{self.port}/{number}"

    def command(self) -> list[str]:
        program = shutil.which("redis-server")
        assert program, "redis-server is missing: run make test, or install it"
        words = [program, "--bind", "127.0.0.1", "--port", self.port, "--dir", self.home]
        words += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        words += ["--requirepass", self._password] if self._password else []
        return [str(word) for word in words]

    def ready(self) -> bool:
        # Redis listens before it has loaded its data.
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(100).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


class RabbitServer(Server):
    """A RabbitMQ with its own Erlang port mapper, separate from other Erlang programs on this machine."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._mapper_port, self._distribution_port = free_port(), free_port()

    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def command(self) -> list[str]:
        program = next(
            (path for path in ("/usr/lib/rabbitmq/bin/rabbitmq-server", shutil.which("rabbitmq-server")) if path), ""
        )
        assert Path(program).exists(), "rabbitmq-server is missing: run make test, or install it"
        return [program]

    def environ(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "RABBITMQ_NODENAME": "test@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self.home / "database"),
            "RABBITMQ_LOG_BASE": str(self.home / "logs"),
            "RABBITMQ_CONFIG_FILE": str(self.home / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                connection.settimeout(2.0)
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return len(connection.recv(8)) == 8
        except OSError:
            return False

    def close(self) -> None:
        super().close()
        # RabbitMQ starts the port mapper in another session, where it outlives RabbitMQ.
        with contextlib.suppress(OSError):
            subprocess.run(
                ["epmd", "-port", str(self._mapper_port), "-kill"],  # noqa: S607
                env=os.environ | self.environ(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
                timeout=DEADLINE,
            )
