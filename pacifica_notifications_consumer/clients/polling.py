"""Looking again and again whether a server is done: often at first, then more rarely."""

from __future__ import annotations

from collections.abc import Iterator

#: Between two looks passes about a fifth of the time that it has taken so far, within these seconds.
_FIRST, _GROWTH, _LONGEST = 0.02, 1.2, 1.0


def pauses() -> Iterator[float]:
    """Yield the seconds to wait before each further look, for ever."""
    pause = _FIRST
    while True:
        yield pause
        pause = min(pause * _GROWTH, _LONGEST)
