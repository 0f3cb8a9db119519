"""How the benchmarks measure: contenders in turn, medians, and ratios to a peer of the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

_ROUNDS = 7


def compare(
    title: str, unit: str, contenders: Mapping[str, Callable[[], float]], peer: str, *, rounds: int = _ROUNDS
) -> None:
    """Run each contender in turn several times, and print the medians with the ratio to one of them.

    Args:
        title: What is measured.
        unit: Of what a contender returns.
        contenders: Measures by name; each call measures once.
        peer: The name of the one that the others are set against.
        rounds: How often each is measured.
    """
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, measure in contenders.items():
            value = measure()
            if turn:  # the first round warms up
                measured[name].append(value)
    medians = {name: statistics.median(values) for name, values in measured.items()}
    print(f"\n{title}")
    for name, median in medians.items():
        spread = f"{min(measured[name]):.4g} to {max(measured[name]):.4g}"
        print(f"  {name:<58} {median:>10.4g} {unit:<8} {median / medians[peer]:>7.2f} x   ({spread})")


def seconds(act: Callable[[], object]) -> float:
    """Measure how long something takes."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started
