"""Histograms of the durations that a running consumer measures."""

from __future__ import annotations

import bisect
import itertools
import threading
from collections.abc import Sequence

import attrs


@attrs.frozen
class Distribution:
    """The counts of a histogram at one time.

    Args:
        bounds: The upper bounds of the buckets, in seconds.
        counts: The number of observations below or at each bound.
        count: The number of all observations.
        total: The sum of all observations, in seconds.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    count: int
    total: float


class Histogram:
    """Counts durations in buckets; may be used from any thread.

    Args:
        bounds: The upper bounds of the buckets, in seconds, in ascending order.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0
        self._lock = threading.Lock()

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        bucket = bisect.bisect_left(self._bounds, seconds)
        with self._lock:
            self._counts[bucket] += 1
            self._total += seconds

    def read(self) -> Distribution:
        """Read the current counts."""
        with self._lock:
            sums, total = list(itertools.accumulate(self._counts)), self._total
        return Distribution(self._bounds, tuple(sums[:-1]), sums[-1], total)


@attrs.frozen(kw_only=True)
class Histograms:
    """The histograms of a running consumer, empty at each start.

    Attributes:
        commits: Seconds from reading notifications to their commit to disk, once for each group of notifications.
        waits: Seconds from the arrival of a notification to the first attempt at its job.
        attempts: Seconds that attempts took.
    """

    commits: Histogram = attrs.field(
        factory=lambda: Histogram((0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0))
    )
    waits: Histogram = attrs.field(
        factory=lambda: Histogram((0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0))
    )
    attempts: Histogram = attrs.field(
        factory=lambda: Histogram((0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0))
    )
