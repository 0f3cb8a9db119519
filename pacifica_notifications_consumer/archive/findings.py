"""What a check of a consumer finds."""

from __future__ import annotations

import enum
import re

import attrs

from ..errors import PacificaError


class Level(enum.Enum):
    """The severity of a finding."""

    #: The consumer would not start, or its jobs would fail.
    ERROR = "error"
    #: The consumer may not do what its author wants.
    WARNING = "warning"
    #: Information for the author.
    NOTE = "note"


@attrs.frozen(kw_only=True)
class Finding:
    """A mistake, or a possible one.

    Args:
        level: The severity.
        position: The file, with the line if known: ``__main__.py:12``.
        problem: What is wrong.
        advice: What to do about it; may be empty.
        details: Further lines, such as the output of an installer.
    """

    level: Level
    position: str
    problem: str
    advice: str = ""
    details: str = ""


def finding_of(error: PacificaError, position: str) -> Finding:
    """Make a finding of an error, whose message may begin with the position, and then with the line."""
    found = re.fullmatch(rf"({re.escape(position)}(?::\d+)?): (.*)", error.problem, re.DOTALL)
    position, problem = found.groups() if found else (position, error.problem)
    return Finding(level=Level.ERROR, position=position, problem=problem, advice=error.advice, details=error.output)
