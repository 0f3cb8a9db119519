"""The other machines of a runner that is to be killed: brokers and workers, to be killed as well."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from pacifica_notifications_consumer.engines.celery import Broker
from tests.chaos.consumer import ENTRY_POINT
from tests.engines.beds import WorkerProcess
from tests.engines.brokers import RabbitServer, RedisServer, Server

#: Long enough for a broker to start again: what cannot be heard of for half of it is ended.
_LOST_AFTER = 8.0
_WORKERS = 2


@attrs.frozen
class Machines:
    """What stands behind a runner; nothing for one that runs its jobs itself."""

    servers: list[Server] = attrs.field(factory=list)
    workers: list[WorkerProcess] = attrs.field(factory=list)
    variables: dict[str, str] = attrs.field(factory=dict)

    def strike(self, target: str, chance: random.Random) -> None:
        """Kill one of them, or stop it, and start it again after a while."""
        if target == "broker":
            server = chance.choice(self.servers)
            server.kill()
            time.sleep(chance.random() * 0.5)
            server.start()
            return
        worker = chance.choice(self.workers)
        if target == "worker stop":
            worker.close()
        else:
            worker.kill()
        time.sleep(chance.random() * 0.5)
        worker.start()

    def restart_workers(self) -> None:
        """Start workers again that have ended by themselves, as a service manager does.

        They end if the broker is down when they start, and kombu may fail while it connects again.
        """
        for worker in self.workers:
            if worker.process.poll() is not None:
                worker.start()

    def close(self) -> None:
        """Stop the workers."""
        for worker in self.workers:
            worker.close()


@contextlib.contextmanager
def machines(way: str, home: Path) -> Iterator[Machines]:
    """What a way to run jobs needs."""
    if way not in ("redis", "rabbitmq"):
        yield Machines()
        return
    with contextlib.ExitStack() as stack:
        redis = RedisServer(home / "redis")
        servers: list[Server] = [redis]
        broker = Broker(url=redis.url(), queue="chaos", lost_after=_LOST_AFTER)
        if way == "rabbitmq":
            rabbit = RabbitServer(home / "rabbitmq")
            servers.append(rabbit)
            broker = attrs.evolve(broker, url=rabbit.url(), results_url=redis.url())
        for server in servers:
            server.start()
            stack.enter_context(contextlib.closing(server))
        (home / "__main__.py").write_text(ENTRY_POINT)
        environ = {"TEST_ENTRY_POINT": str(home / "__main__.py"), "CHAOS_HOME": str(home)}
        workers = [
            stack.enter_context(contextlib.closing(WorkerProcess(home / f"worker {number}", broker, 3, **environ)))
            for number in range(_WORKERS)
        ]
        yield Machines(servers, workers, {"CHAOS_BROKER": json.dumps(attrs.asdict(broker))})
