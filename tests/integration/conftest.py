"""What the tests on the real services share: the bed, ways to fetch and to send, and relays that break connections."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer import upload
from pacifica_notifications_consumer.settings.services import Services
from tests.endtoend.conftest import Operator
from tests.integration.bed import Bed
from tests.support.relay import Relay

TRANSACTION = {"Transactions.submitter": 10, "Transactions.project": "1234a", "Transactions.instrument": 54}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make test` runs without the real services."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("whole")
    # It takes numbers of which ingest does not know, after which others would not find the newest upload.
    last = Path(__file__).with_name("test_catch_up.py")
    items.sort(key=lambda item: item.path == last)


@pytest.fixture(scope="session")
def bed() -> Iterator[Bed]:
    """The real services, started once for all tests."""
    with Bed() as bed:
        yield bed


@pytest.fixture
def services(bed: Bed) -> Services:
    return Services.from_environment(bed.environ() | {"PACIFICA_USERNAME": "alice"})


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    """Who types the commands, as in the end-to-end tests."""
    with contextlib.closing(Operator(tmp_path / "operator")) as operator:
        yield operator


@pytest.fixture
def relays() -> Iterator[list[Relay]]:
    """The relays that a test has opened, to be closed after it."""
    opened: list[Relay] = []
    yield opened
    for relay in opened:
        relay.close()


def write(directory: Path, files: Mapping[str, bytes]) -> Path:
    """Make a job's directory with files to upload."""
    (directory / "uploads").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = directory / "uploads" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def send(directory: Path, files: Mapping[str, bytes], services: Services, **key_values: Any) -> dict[str, Any]:
    """Upload files, and return the new transaction's notification."""
    event: dict[str, Any] = upload(write(directory, files), TRANSACTION, key_values, services=services).get()
    return event


def announce(directory: Path, event: dict[str, Any]) -> Path:
    """Make a job's directory for a notification."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "notification.json").write_text(json.dumps(event))
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def number_of(event: dict[str, Any]) -> int:
    return int(event["data"][-1]["value"])


def failure(promise: Any) -> Exception:
    with pytest.raises(Exception) as caught:
        promise.get()
    return caught.value
