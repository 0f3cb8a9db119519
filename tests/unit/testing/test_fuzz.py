"""A short run of the fuzz targets of `make fuzz`, with new inputs each time."""

from __future__ import annotations

import os
import random

import pytest

from tests.fuzz.campaign import Campaign
from tests.fuzz.targets import TARGETS

SEED = int(os.environ.get("PACIFICA_TEST_SEED", str(random.randrange(1_000_000))))
#: Number of inputs, for about a second per target.
TIMES = {
    "http": 2000,
    "head": 10_000,
    "notification": 2000,
    "archive": 400,
    "tar": 40,
    "jsonpath": 800,
    "answers": 1000,
}


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found(name: str) -> None:
    """Hostile inputs cause no crash, hang, or other finding."""
    campaign = Campaign(name, SEED)
    campaign.run(times=TIMES[name])
    assert campaign.tried == TIMES[name]
    assert campaign.findings == [], campaign.summary()
