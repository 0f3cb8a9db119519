"""What unit tests share that ask policy: one that tells what a test has it tell."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.policy_tools import TestedStore, Told, store_at, telling


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
