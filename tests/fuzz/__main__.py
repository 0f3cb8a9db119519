"""`python -m tests.fuzz [TARGET…] [--seconds N] [--seed N]`: hostile input for as long as somebody wants."""

from __future__ import annotations

import argparse
import random
import sys

from tests.fuzz.campaign import Campaign
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Fuzz; the status is 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target (default: 60)")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="repeats a run")
    arguments = parser.parse_args()
    status = 0
    for name in arguments.targets or TARGETS:
        campaign = Campaign(name, arguments.seed)
        campaign.run(seconds=arguments.seconds)
        print(campaign.summary(), flush=True)
        status = status or int(bool(campaign.findings))
    return status


if __name__ == "__main__":
    sys.exit(main())
