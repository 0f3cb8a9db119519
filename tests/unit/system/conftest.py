"""What tests of another user's rights share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine.scratch import scratch_directory


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of ours that all users can reach."""
    with scratch_directory(mode=0o711) as directory:
        yield directory
