"""The ledger that the tests of this folder use."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacifica_notifications_consumer.ledger.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with contextlib.closing(Ledger(tmp_path / "ledger.sqlite3")) as ledger:
        yield ledger
