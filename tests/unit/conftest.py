"""What unit tests share, such as how examples are generated, and what answers in place of policy."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.policy_tools import TestedStore, Told, store_at, telling

# By default, an example that takes 200 ms fails, which depends on what else the machine does.
settings.register_profile("any machine", deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("any machine")


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


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Garbage is collected later: its finalizers would fail at the limit of recursion, which deep input reaches."""
    gc.disable()
    yield
    gc.enable()
