"""What unit tests share that ask policy: one that tells what a test has it tell."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.policy_tools import TestedDesk, Told, desk_at, telling


@pytest.fixture(scope="session")
def policy_server() -> Iterator[Told]:
    with telling() as told:
        yield told


@pytest.fixture
def told(policy_server: Told) -> Told:
    policy_server.reset()
    return policy_server


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[TestedDesk]:
    with desk_at(tmp_path) as desk:
        yield desk
