"""A short run of the fuzz targets, with the same inputs each time; `make fuzz` takes new ones."""

from __future__ import annotations

import os
import sys

import pytest

from tests.fuzz.campaign import Campaign
from tests.fuzz.targets import TARGETS

SEED = int(os.environ.get("PACIFICA_TEST_SEED", "1"))
#: Number of inputs, for a tenth of a second per target, and more for the one that is run where nginx is installed.
TIMES = {
    "http": 150,
    "head": 700,
    "notification": 250,
    "archive": 50,
    "tar": 10,
    "jsonpath": 100,
    "answers": 120,
    "warm": 700,
    "job-files": 25,
    "h11": 120,
    "nginx": 20_000,
}


MARKS = {
    "nginx": pytest.mark.whole,
    "warm": pytest.mark.skipif(sys.platform != "linux", reason="a warm start needs Linux"),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, ())) for name in TARGETS])
def test_nothing_is_found(name: str) -> None:
    """Hostile inputs cause no crash, hang, or other finding."""
    campaign = Campaign(name, SEED)
    campaign.run(times=TIMES[name])
    assert campaign.tried == TIMES[name]
    assert campaign.findings == [], campaign.summary()
