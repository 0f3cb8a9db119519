"""Makes an unhandled rejection of a promise end the process with a status greater than 0.

The package `promise` drops unhandled rejections silently: an entry-point whose download failed would report success. So
would one whose callback is a generator function, or whose callback never runs; both become rejections, too.
Importing this module patches `promise.Promise` itself, because a chain may contain plain promises (``Promise.all``).
"""

from __future__ import annotations

import atexit
import contextlib
import inspect
import operator
import sys
import traceback
import types
from collections.abc import Callable, Collection
from functools import partial, wraps
from typing import Any, TextIO

from promise import Promise
from promise.promise_list import PromiseList

from ..errors import PacificaError, PromiseError
from ..streams.progress import note_failure

__all__ = ["UNHANDLED_STATUS", "Promise", "forget_callbacks", "unhandled_rejections"]

#: The rejected promises that no code has handled yet, by identity, in the order of their rejection.
_unhandled: dict[int, Promise[Any]] = {}
#: Pending promises by identity, with the callback that waits for each, or that has returned it, and which of both.
_waiting: dict[int, tuple[Promise[Any], Any, str]] = {}
#: What callbacks have returned by identity, with the lazy objects in it, what was left of each, and the callback.
_lazy: dict[int, tuple[Any, list[tuple[Any, Any]], Any]] = {}
_CONTAINERS = (list, tuple, set)
#: What does nothing until it is iterated or awaited. Other iterators, such as files, are often returned unread.
_LAZY = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType, map, filter, zip)

#: Exit status of a process that ends with an unhandled rejection: the same status that Python uses for an error
#: during its cleanup (see `sys.exit`).
UNHANDLED_STATUS = 120
_TOO_LATE = "This Python starts no threads or forks after the end of a script: end it with .get() on the last promise."


def unhandled_rejections() -> list[BaseException]:
    """List the reasons of the rejections that no code has handled yet."""
    reasons = (promise._fulfillment_handler0 for promise in _unhandled.values())
    return list({id(reason): reason for reason in reasons}.values())


def forget_callbacks() -> None:
    """Report no callbacks that did nothing, since the program ends early."""
    _waiting.clear()
    _lazy.clear()


def _reject_waiting() -> None:
    for result, members, callback in _lazy.values():
        if idle := [member for member, left in members if _left(member) == left]:
            what = type(idle[0]).__name__.replace("_", " ")
            where = "" if idle[0] is result else f" in the {type(result).__name__}"
            problem = f"nothing ran the {what}{where} that the callback {_describe(callback)} returned"
            Promise.reject(PromiseError(problem, "await it, or iterate over it"))
    for promise, callback, how in list(_waiting.values()):
        if promise.is_pending:
            Promise.reject(PromiseError(f"the callback {_describe(callback)} {how}"))


def _left(work: Any) -> Any:
    """How much of lazy work is left, which changes when it runs; empty if nothing is left, or if that is unknown."""
    if isinstance(work, map | filter | zip):
        return any(left := [_left(source) for source in work.__reduce__()[1]]) and left
    for look in ("getgeneratorstate", "getcoroutinestate", "getasyncgenstate"):
        with contextlib.suppress(AttributeError):  # of another kind, or Python 3.11, which lacks the last function
            return getattr(inspect, look)(work).endswith("_CREATED")
    # The length of another type's iterator may be that of the whole.
    return operator.length_hint(work, 0) if type(work).__module__ == "builtins" else 0


def _describe(callback: Any) -> str:
    function = inspect.unwrap(getattr(callback, "func", callback))
    name = getattr(function, "__qualname__", repr(callback))
    if getattr(function, "__module__", "") == Promise.__module__ and ".<locals>" in name:
        return f"of {name.partition('.<locals>')[0]}"
    code = getattr(function, "__code__", None)
    where = f" ({code.co_filename}, line {code.co_firstlineno})" if code else ""
    return f"{name}{where}"


def _run(callback: Callable[[Any], Any], value: Any) -> Any:
    for function in (callback, getattr(callback, "__call__", None)):  # noqa: B004  (an object with that method)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise PromiseError(f"the callback {_describe(callback)} contains yield, so that a call runs nothing of it")
    return _note_lazy(callback(value), callback)


async def _run_coroutine(coroutine: Any, callback: Any) -> Any:
    return _note_lazy(await coroutine, callback)


def _note_lazy(result: Any, callback: Any) -> Any:
    if inspect.iscoroutine(result):
        return _run_coroutine(result, callback)
    found = result.values() if isinstance(result, dict) else result if isinstance(result, _CONTAINERS) else [result]
    members = [(member, left) for member in found if isinstance(member, _LAZY) and (left := _left(member))]
    if members:
        _lazy[id(result)] = result, members, callback
    return result


def _forget_callback(promise: Promise[Any]) -> None:
    _waiting.pop(id(promise), None)


def _note_rejection(promise: Promise[Any]) -> None:
    _forget_callback(promise)
    if not getattr(promise, "_handed_over", False):
        _unhandled[id(promise)] = promise


def _hand_over(promise: Promise[Any]) -> None:
    """Note that other code, or another promise, now handles the rejection of this promise."""
    target = promise._target()
    target._handed_over = True  # type: ignore[attr-defined]
    _unhandled.pop(id(target), None)


class _FailsToFlush:
    """A wrapper of standard error whose flush fails.

    Python flushes standard error after the last exit handler and ends with status 120 if that fails. This is the only
    documented way to change the exit status that late; `os._exit` would skip the remaining exit handlers.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    closed = False

    def write(self, text: str) -> int:
        return self._stream.write(text) if self._stream is not None else len(text)

    def flush(self) -> None:
        if self._stream is not None:
            self._stream.flush()
        raise OSError("a promise was rejected, and no code handled the rejection")


def _report_at_exit() -> None:
    _reject_waiting()
    reasons = unhandled_rejections()
    if ours := [each for each in (*reasons, getattr(sys, "last_value", None)) if isinstance(each, PacificaError)]:
        note_failure(ours[0])
    if not reasons:
        return
    # The exit status must change even if standard error is closed.
    with contextlib.suppress(OSError, ValueError):
        for reason in reasons:
            print("Unhandled promise rejection:", file=sys.stderr)  # noqa: T201  (as Python reports exceptions)
            if any("interpreter shutdown" in word for word in reason.args if isinstance(word, str)):
                reason.add_note(_TOO_LATE)
            # The message of a PacificaError names the cause; the chain of causes would fill many screens.
            traceback.print_exception(reason, chain=not isinstance(reason, PacificaError), file=sys.stderr)
    sys.stderr = _FailsToFlush(sys.stderr)


def _watched(original: Callable[..., Any], act: Callable[[Promise[Any]], None], *, last: bool = False) -> Any:
    """Wrap a method so that it also calls `act`: before the original or, with `last`, after it in any case."""

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


def _watched_then(original: Callable[..., Promise[Any]]) -> Any:
    @wraps(original)
    def then(self: Promise[Any], did_fulfill: Any = None, did_reject: Any = None) -> Promise[Any]:
        for callback in (did_fulfill, did_reject):
            if not (callback is None or callable(callback)) or did_fulfill is did_reject is None:
                raise TypeError(f"then() got {did_fulfill!r:.80} as its callback: write then(work), not then(work())")
        promise = original(self, did_fulfill, did_reject)
        callback = next(filter(callable, (did_fulfill, did_reject)), None)
        if callback is not None and promise.is_pending and not promise._is_following:
            _waiting[id(promise)] = promise, callback, "never ran: nothing settled the promise that it waits for"
        return promise

    return then


def _done(self: Promise[Any], did_fulfill: Any = None, did_reject: Any = None) -> None:
    self.then(did_fulfill, did_reject)._is_final = True


def _watched_settling(original: Callable[..., None]) -> Any:
    @wraps(original)
    def settle(self: Promise[Any], callback: Any, value: Any, promise: Promise[Any]) -> None:
        _forget_callback(promise)
        try:
            original(self, partial(_run, callback), value, promise)
        except BaseException:
            forget_callbacks()  # the program ends
            raise
        if promise.is_pending:
            _waiting.setdefault(id(promise._target()), (promise, callback, "returned a promise that nothing settled"))

    return settle


def _watched_iterate(original: Callable[..., None]) -> Any:
    @wraps(original)
    def method(self: PromiseList, values: Collection[Any]) -> None:
        for value in values:
            if isinstance(value, Promise):
                _hand_over(value)
        original(self, values)

    return method


def _watch() -> None:
    """Patch the methods through which promises are rejected or their rejections are handled."""
    methods = {
        "_reject": _watched(Promise._reject, _note_rejection, last=True),
        "_fulfill": _watched(Promise._fulfill, _forget_callback),
        "then": _watched_then(Promise.then),
        "_settle_promise_from_handler": _watched_settling(Promise._settle_promise_from_handler),
        # Code that attaches a callback is responsible for the rejection.
        "_then": _watched(Promise._then, _hand_over),
        "_add_callbacks": _watched(Promise._add_callbacks, _hand_over),
        # The caller of get() receives the rejection as an exception.
        "get": _watched(Promise.get, _hand_over_rejected, last=True),
        # A promise reads the reason of another promise in order to be rejected with the same reason.
        "_reason": _watched(Promise._target_settled_value, _hand_over_rejected),
    }
    for name, method in methods.items():
        setattr(Promise, name, method)
    Promise.done = _done  # type: ignore[method-assign]
    # A list of promises is responsible for all its members, although it stops at the first rejected one.
    PromiseList._iterate = _watched_iterate(PromiseList._iterate)  # type: ignore[method-assign]
    atexit.register(_report_at_exit)


_watch()
