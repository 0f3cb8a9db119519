"""What unit tests share, such as how examples are generated, and what answers in place of policy."""

import gc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.policy_tools import TestedStore, Told, store_at, telling

# By default, an example that takes 200 ms fails, which depends on what else the machine does. Each run has the same
# examples, so that a failure comes from a change; `--hypothesis-profile=new` looks for others.
settings.register_profile("new", deadline=None, suppress_health_check=list(HealthCheck))
settings.register_profile("same", settings.get_profile("new"), derandomize=True)
settings.load_profile("same")
# Finding the tests leaves hardly any garbage, and looking for it would take a second.
gc.disable()


def pytest_collection_finish() -> None:
    """Garbage is looked for again."""
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of tables that are marked ``sampled``, `make test` takes every third row."""
    rows = Counter[str]()
    for item in items:
        if item.get_closest_marker("sampled"):
            table = item.nodeid.partition("[")[0]
            if rows[table] % 3:
                item.add_marker(pytest.mark.whole)
            rows[table] += 1


@pytest.fixture(scope="session")
def policy_server() -> Iterator[Told]:
    with telling() as told:
        yield told


@pytest.fixture
def told(policy_server: Told) -> Told:
    policy_server.reset()
    return policy_server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TestedStore]:
    with store_at(tmp_path) as store:
        yield store


@pytest.fixture(autouse=True)
def _no_collection() -> Iterator[None]:
    """Garbage is collected between tests: its finalizers would fail at the limit of recursion, which many reach."""
    gc.disable()
    yield
    gc.enable()
