"""Which finished jobs are kept, and for how long."""

from __future__ import annotations

from typing import Self

import attrs

from ..settings.converters import age_and, whole


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
        age, count = age_and(text, whole, "an age such as 30d or 12h, a number of jobs, or both, as in 30d,1000")
        return cls(age=age, count=count)
