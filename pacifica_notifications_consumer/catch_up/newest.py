"""How a site numbers its transactions: one after the other, but for what uploaders choose, and until it begins anew."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import attrs

from ..clients.policy import Policy

#: A number that is so far above the next lower one is taken for one of an uploader's own choosing.
_JUMP = 10_000
#: How many of the highest numbers are looked at then; with half of them so far above, the site has begun anew.
_PAGE = 20


@attrs.frozen(kw_only=True)
class NewestTransaction:
    """The newest transaction of those that are numbered one after the other.

    Args:
        number: Its number; 0 if there is none.
        changed: When it was last changed, as policy writes it.
        strays: Numbers far above it, of an uploader's own choosing.
        anew: The last number before a site began to number anew, and the first one then; None if it did not.
    """

    number: int
    changed: str
    strays: Sequence[int] = ()
    anew: tuple[int, int] | None = None


def find_newest(policy: Policy, seen: tuple[int, str] | None) -> NewestTransaction:
    """Find the newest transaction.

    Args:
        policy: Knows it.
        seen: The number of what was the newest one at an earlier look, and when it was last changed.

    Raises:
        ServiceError: policy cannot be reached or refuses, or metadata behind it.
    """
    number, changed = seen or (0, "")
    # Since then only: what policy counts is then little.
    listing = policy.transactions(since=changed or None, size=2)
    if not listing.times:
        return NewestTransaction(number=number, changed=changed)
    highest = max(listing.times)
    jump = highest - (number if seen else min(listing.times))
    if jump <= _JUMP or (seen and listing.total * 10 > jump):
        return NewestTransaction(number=highest, changed=listing.times[highest])
    times = policy.transactions(since=changed or None, size=_PAGE).times
    if seen is None:
        return _begin(times)
    strays = [each for each in times if each > number + _JUMP]
    if len(strays) * 2 > _PAGE:
        return NewestTransaction(number=highest, changed=times[highest], anew=_find_break(policy, seen))
    number = max((each for each in times if each <= number + _JUMP), default=number)
    return NewestTransaction(number=number, changed=times.get(number, changed), strays=strays)


def _begin(times: dict[int, str]) -> NewestTransaction:
    """Without an earlier look the longest run of numbers is the one that goes on; of equal ones, the lowest."""
    numbers = sorted(times)
    runs = [[numbers[0]]]
    for lower, higher in itertools.pairwise(numbers):
        if higher - lower > _JUMP:
            runs.append([])
        runs[-1].append(higher)
    number = max(runs, key=len)[-1]
    return NewestTransaction(number=number, changed=times[number])


def _find_break(policy: Policy, seen: tuple[int, str]) -> tuple[int, int]:
    """The last number before the site began anew, and the first one then."""
    first = 0
    for page in itertools.count(1):
        numbers = policy.transactions(since=seen[1] or None, page=page, size=_PAGE).times
        first = min((each for each in numbers if each > seen[0] + _JUMP), default=first)
        near = [each for each in numbers if each <= seen[0] + _JUMP]
        if near or not numbers:
            return max(near, default=seen[0]), first
    raise AssertionError("there is always another page")
