"""The limits of finished jobs that are kept."""

from __future__ import annotations

import re
from typing import Self

import attrs

from ..settings.converters import age_or_number


@attrs.frozen(kw_only=True)
class Keep:
    """The limits of finished jobs that are kept.

    Args:
        age: Seconds after its end for which a job is kept; None for no limit.
        count: The number of jobs that are kept, the most recent ones, not counting dead jobs; None for all.
    """

    age: float | None = None
    count: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an age such as ``30d``, a number of jobs, or both with a comma between.

        Raises:
            ValueError: It is neither.
        """
        error = "it must be an age such as 30d or 12h, a number of jobs, or both, as in 30d,1000"
        age, count = age_or_number(text, lambda part: int(part) if re.fullmatch("[0-9]+", part) else None, error)
        return cls(age=age, count=count)
