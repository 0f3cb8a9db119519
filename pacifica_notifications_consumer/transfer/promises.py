"""Makes a rejection that no code handled end the process with a status greater than 0.

The package `promise` drops such rejections in silence: an entry-point whose download failed would report success. From
the import of this module on, every `promise.Promise` of the process is watched, since a chain may pass through plain
ones (``Promise.all``) at any place.
"""

from __future__ import annotations

import atexit
import contextlib
import sys
import traceback
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any, TextIO

from promise import Promise
from promise.promise_list import PromiseList

from ..errors import PacificaError

__all__ = ["UNHANDLED_STATUS", "Promise", "unhandled_rejections"]

#: The rejected promises that nothing has taken over yet, by identity, in the order of their rejection.
_unhandled: dict[int, Promise[Any]] = {}

#: Exit status of a process that ends with an unhandled rejection: the one that Python itself uses for an error
#: after the end of the program (see `sys.exit`).
UNHANDLED_STATUS = 120


def unhandled_rejections() -> list[BaseException]:
    """List the reasons of the rejections that no code has handled so far."""
    reasons = (promise._fulfillment_handler0 for promise in _unhandled.values())
    return list({id(reason): reason for reason in reasons}.values())


def _note_rejection(promise: Promise[Any]) -> None:
    if not getattr(promise, "_handed_over", False):
        _unhandled[id(promise)] = promise


def _hand_over(promise: Promise[Any]) -> None:
    """From now on somebody else answers for this promise's rejection."""
    target = promise._target()
    target._handed_over = True  # type: ignore[attr-defined]
    _unhandled.pop(id(target), None)


class _FailsToFlush:
    """Standard error as it is, but with a flush that fails.

    Python flushes it once more after the last exit handler and ends with status 120 when that fails. It is the one
    documented way to change the exit status that late, and skips nobody's exit handler, as `os._exit` would.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    closed = False

    def write(self, text: str) -> int:
        return self._stream.write(text) if self._stream is not None else len(text)

    def flush(self) -> None:
        if self._stream is not None:
            self._stream.flush()
        raise OSError("a promise was rejected and nothing handled it")


def _report_at_exit() -> None:
    if not _unhandled:
        return
    # Standard error may be closed by now: that must not keep the status from changing.
    with contextlib.suppress(OSError, ValueError):
        for reason in unhandled_rejections():
            print("Unhandled promise rejection:", file=sys.stderr)  # noqa: T201  (as Python reports exceptions)
            # Our own errors tell the cause in their sentence; the chain below them is many screens of it.
            traceback.print_exception(reason, chain=not isinstance(reason, PacificaError), file=sys.stderr)
    sys.stderr = _FailsToFlush(sys.stderr)


def _watched(original: Callable[..., Any], act: Callable[[Promise[Any]], None], *, last: bool = False) -> Any:
    """Make a method that also acts, before or after (whatever its outcome) it does what it did."""

    @wraps(original)
    def method(self: Promise[Any], *arguments: Any, **keywords: Any) -> Any:
        if not last:
            act(self)
        try:
            return original(self, *arguments, **keywords)
        finally:
            if last:
                act(self)

    return method


def _hand_over_rejected(promise: Promise[Any]) -> None:
    if promise.is_rejected:
        _hand_over(promise)


def _watched_iterate(original: Callable[..., None]) -> Any:
    @wraps(original)
    def method(self: PromiseList, values: Collection[Any]) -> None:
        for value in values:
            if isinstance(value, Promise):
                _hand_over(value)
        original(self, values)

    return method


def _watch() -> None:
    """Observe the methods through which a rejection comes about or is taken over."""
    methods = {
        "_reject": _watched(Promise._reject, _note_rejection, last=True),
        # Whoever attaches a callback answers for the rejection.
        "_then": _watched(Promise._then, _hand_over),
        "_add_callbacks": _watched(Promise._add_callbacks, _hand_over),
        # Whoever waits for the value gets the rejection as an exception.
        "get": _watched(Promise.get, _hand_over_rejected, last=True),
        # A promise reads another one's reason in order to be rejected for the same.
        "_reason": _watched(Promise._target_settled_value, _hand_over_rejected),
    }
    for name, method in methods.items():
        setattr(Promise, name, method)
    # A list of promises answers for all its members, though it stops at the first rejected one.
    PromiseList._iterate = _watched_iterate(PromiseList._iterate)  # type: ignore[method-assign]
    atexit.register(_report_at_exit)


_watch()
