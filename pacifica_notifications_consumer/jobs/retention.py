"""The limits of finished jobs that are kept."""

from __future__ import annotations

from typing import Self

import attrs

from ..settings.converters import age_and, checked, seconds, whole


@attrs.frozen(kw_only=True)
class Keep:
    """The limits of finished jobs that are kept.

    Args:
        age: Seconds after its end for which a job is kept; None for no limit.
        count: The number of jobs that are kept, the most recent ones, not counting dead jobs; None for all.
    """

    age: float | None = attrs.field(default=None, validator=checked(seconds))
    count: int | None = attrs.field(default=None, validator=checked(whole))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an age such as ``30d``, a number of jobs, or both with a comma between.

        Raises:
            ValueError: It is neither.
        """
        age, count = age_and(text, whole, "an age such as 30d or 12h, a number of jobs, or both, as in 30d,1000")
        return cls(age=age, count=count)
