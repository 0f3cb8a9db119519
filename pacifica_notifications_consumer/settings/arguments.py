"""Checks of arguments, with the readers that check the texts of settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from numbers import Real

from ..errors import ConfigurationError

_BIG = 10**18


def check(read: Callable[[str], object], /, *, show: bool = True, **arguments: object) -> None:
    """Check arguments like settings; None is not checked.

    Args:
        read: Reads the text of such a setting.
        show: Whether errors may contain the values.
        arguments: The values by the names of their arguments.

    Raises:
        ConfigurationError: A value has another type, or is not one that the setting could have.
    """
    for name, value in arguments.items():
        if value is None:
            continue
        if isinstance(value, Real):
            # Python refuses to show numbers of thousands of digits.
            value = max(-_BIG, min(value, _BIG))
        text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
        try:
            if isinstance(read(text), str) != isinstance(value, str | os.PathLike):
                read("")  # raises an error, because the type is wrong
        except ValueError as error:
            shown = f" ({value!r:.200})" if show else ""
            raise ConfigurationError(f"`{name}`{shown} is not usable", str(error)) from None
