"""What the tests of environments share: each makes its own."""

import pytest


@pytest.fixture(scope="session")
def quick_cache() -> None:
    """No environment is kept."""
