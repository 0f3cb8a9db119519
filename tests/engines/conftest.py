"""Fixtures of the engines' tests: brokers and engines."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest

from pacifica_notifications_consumer.engines.celery import Broker
from tests.engines.beds import LOST_AFTER, Bed, celery_bed, quick_warm_start
from tests.engines.brokers import RabbitServer, RedisServer
from tests.support.machine.waiting import DEADLINE

_numbers = itertools.count(1)
BROKERS = ("redis", "rabbitmq")
ENGINES = ("cold", "warm", "process pool", "dask", *BROKERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the second broker and the second executor to `make test-all`: they take the same ways through our code."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            # The brokers' clients leave the connections to a killed broker to the garbage collection, which may come
            # during any later test.
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"))
        if item.path.parent == Path(__file__).parent and ("rabbitmq" in item.name or "dask" in item.name):
            item.add_marker("whole")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    with contextlib.closing(server):
        yield server


@pytest.fixture(scope="session")
def rabbit_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    server = RabbitServer(tmp_path_factory.mktemp("rabbitmq"))
    server.start()
    with contextlib.closing(server):
        yield server


def broker_of(kind: str, request: pytest.FixtureRequest) -> Broker:
    """A new queue at a running broker."""
    redis: RedisServer = request.getfixturevalue("redis_server")
    queue = f"queue {next(_numbers)}"
    if kind == "redis":
        return Broker(url=redis.url(), queue=queue, lost_after=DEADLINE)
    rabbit: RabbitServer = request.getfixturevalue("rabbit_server")
    return Broker(url=rabbit.url(), results_url=redis.url(1), queue=queue, lost_after=DEADLINE)


# One parameter after another, so that each engine is started once.
@pytest.fixture(scope="session", params=[pytest.param(kind, marks=pytest.mark.xdist_group(kind)) for kind in ENGINES])
def bed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """Each engine."""
    kind = request.param
    with contextlib.ExitStack() as stack:
        if kind in BROKERS:
            yield stack.enter_context(celery_bed(tmp_path_factory.mktemp("workers"), broker_of(kind, request)))
        elif kind == "process pool":
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(4, mp_context=context))
            yield Bed(make=lambda: pool)
        elif kind == "dask":
            import dask.config
            from distributed import Client

            make: Any = Client
            stack.enter_context(dask.config.set(temporary_directory=str(tmp_path_factory.mktemp("dask"))))
            client = stack.enter_context(make(n_workers=2, threads_per_worker=2, dashboard_address=":0"))
            yield Bed(make=lambda: client.get_executor())
        else:
            stack.enter_context(quick_warm_start())
            yield Bed(warm=kind == "warm")


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Broker:
    """A queue at each broker, whose workers are not lost however slow the machine is."""
    return broker_of(request.param, request)


@pytest.fixture
def impatient(broker: Broker) -> Broker:
    """The same, with workers that are soon lost."""
    return attrs.evolve(broker, lost_after=LOST_AFTER)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that a test may kill."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    with contextlib.closing(server):
        yield server


@pytest.fixture
def own_rabbit(tmp_path: Path) -> Iterator[RabbitServer]:
    """A RabbitMQ that a test may kill."""
    server = RabbitServer(tmp_path / "rabbitmq")
    server.start()
    with contextlib.closing(server):
        yield server
