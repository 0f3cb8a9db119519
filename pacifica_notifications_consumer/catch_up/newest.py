"""Find the newest transaction, in spite of strays (numbers that uploaders chose) and of sites that number anew."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import attrs

from ..clients.policy import Policy
from ..errors import ServiceError

#: A number that is further above the next lower one counts as a stray.
_JUMP = 10_000
#: The number of transactions that are then compared; if more than half are strays, the site numbers anew.
_PAGE = 20
#: The most pages that are read of a site that numbers anew.
_MOST_PAGES = 100_000


@attrs.frozen(kw_only=True)
class NewestTransaction:
    """The newest transaction that is not a stray; its number is 0 without transactions."""

    number: int
    #: The time of its last change, as policy writes it.
    changed: str
    #: Numbers far above it that uploaders chose.
    strays: Sequence[int] = ()
    #: If the site numbers anew, the last number before and the first number after; otherwise None.
    anew: tuple[int, int] | None = None


def find_newest(
    policy: Policy, seen: tuple[int, str] | None, wait: Callable[[], None] = lambda: None
) -> NewestTransaction:
    """Find the newest transaction, given the number and the last change of that of the look before, if any.

    ``wait`` is called before each of many requests: it may wait for the turn, or raise an error to end the search.
    """
    number, changed = seen or (0, "")
    # Only changes since then, which cost policy little.
    listing = policy.transactions(since=changed or None, size=2)
    if not listing.times:
        return NewestTransaction(number=number, changed=changed)
    highest = max(listing.times)
    jump = highest - (number if seen else min(listing.times))
    if jump <= _JUMP or (seen and listing.total * 10 > jump):
        return NewestTransaction(number=highest, changed=listing.times[highest])
    times = listing.times | policy.transactions(since=changed or None, size=_PAGE).times
    if seen is None:
        return _begin(times)
    strays = [each for each in times if each > number + _JUMP]
    if len(strays) * 2 > _PAGE:
        return NewestTransaction(number=highest, changed=times[highest], anew=_find_break(policy, seen, wait))
    number = max((each for each in times if each <= number + _JUMP), default=number)
    return NewestTransaction(number=number, changed=times.get(number, changed), strays=strays)


def _begin(times: dict[int, str]) -> NewestTransaction:
    """Without an earlier look, the newest transaction ends the longest run of numbers; of equal runs, the lowest."""
    numbers = sorted(times)
    runs = [[numbers[0]]]
    for lower, higher in itertools.pairwise(numbers):
        if higher - lower > _JUMP:
            runs.append([])
        runs[-1].append(higher)
    number = max(runs, key=len)[-1]
    return NewestTransaction(number=number, changed=times[number])


def _find_break(policy: Policy, seen: tuple[int, str], wait: Callable[[], None]) -> tuple[int, int]:
    """The last number before the site began to number anew, and the first number after."""
    first = 0
    for page in range(1, _MOST_PAGES + 1):
        wait()
        numbers = policy.transactions(since=seen[1] or None, page=page, size=_PAGE).times
        first = min((each for each in numbers if each > seen[0] + _JUMP), default=first)
        near = [each for each in numbers if each <= seen[0] + _JUMP]
        if near or not numbers:
            return max(near, default=seen[0]), first
    problem = f"policy at {policy.url} lists more than {_MOST_PAGES * _PAGE} transactions since {seen[1]}"
    raise ServiceError(problem, "look into the log of policy", transient=True)
