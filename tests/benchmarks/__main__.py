"""`make bench`: what counts, beside peers in the same run. It fails nobody for a slow machine."""

from __future__ import annotations

import platform

from tests.benchmarks import (
    accepting,
    catching,
    environments,
    fetching,
    filtering,
    ledgers,
    scaling,
    starting,
    transferring,
)


def main() -> None:
    """Run all benchmarks."""
    print(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}; medians, (least to most)")
    for benchmark in (accepting, ledgers, filtering, environments, starting, transferring, fetching, catching, scaling):
        benchmark.main()


if __name__ == "__main__":
    main()
