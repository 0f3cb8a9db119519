"""Which finished jobs are kept, and for how long."""

from __future__ import annotations

import re
from typing import Self

import attrs

_AGE = re.compile(r"(\d+)([smhdw])")
#: Seconds in the units of an age.
AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_age(text: str) -> float | None:
    """Read an age such as ``30d``; returns its seconds, or None if it is none."""
    found = _AGE.fullmatch(text)
    return float(int(found[1]) * AGES[found[2]]) if found else None


@attrs.frozen(kw_only=True)
class Keep:
    """Which finished jobs are kept.

    Args:
        age: Seconds since its end after which a job goes; None for no limit.
        count: How many of the newest stay, the dead ones not among them; None for all.
    """

    age: float | None = None
    count: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an age such as ``30d``, a number of jobs, or both with a comma between.

        Raises:
            ValueError: It is neither.
        """
        age: float | None = None
        count: int | None = None
        for part in (part.strip() for part in text.split(",")):
            if age is None and (seconds := parse_age(part)) is not None:
                age = seconds
            elif part.isdecimal() and part.isascii() and count is None:
                count = int(part)
            else:
                raise ValueError(text)
        return cls(age=age, count=count)
