"""Work on threads of its own, whose promises are settled on the thread that waits.

Callbacks of a promise so run where its author expects them: on the thread that waits in ``Promise.get()``, and, for
what is left at the end of the program, on the main thread. One runs at a time, whichever threads wait.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from promise import set_default_scheduler
from promise.promise import async_instance

from .promises import UNHANDLED_STATUS, Promise

T = TypeVar("T")

#: How many pieces of work run side by side; the others wait for their turn.
MOST_AT_ONCE = 8
_INTERRUPTED = 130


class _Background:
    """The pieces of work of this process, and what is to be settled; the scheduler of all promises."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._slots = threading.Semaphore(MOST_AT_ONCE)
        #: What settles a promise, in the order in which the work was done.
        self._done: deque[Callable[[], Any]] = deque()
        #: How many promises are to be settled yet.
        self._unsettled = 0
        #: The thread whose callbacks run.
        self._turn: int | None = None

    def run(self, work: Callable[[], T]) -> Promise[T]:
        """Start some work; returns the promise of its result."""
        promise: Promise[T] = Promise()

        def act() -> None:
            with self._slots:
                settle = _outcome(promise, work)
            with self._changed:
                self._done.append(settle)
                self._changed.notify_all()

        with self._changed:
            self._unsettled += 1
        try:
            # A program that is ended is not kept waiting for it.
            threading.Thread(target=act, name="pacifica transfer", daemon=True).start()
        except RuntimeError:
            # Python 3.12 starts no thread any more when the script has come to its end.
            act()
        return promise

    def call(self, function: Callable[[], None]) -> None:
        """Call as soon as no other thread's callbacks run, and let nothing vanish that a callback raises.

        It is how promise itself runs callbacks: also those that are attached to a promise that is settled already.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._turn in (None, threading.get_ident()))
            outer, self._turn = self._turn, threading.get_ident()
        try:
            function()
        except BaseException as error:
            if function == async_instance.drain_queues:
                # The queue of callbacks was left half-way: without this, no later one would ever be called.
                async_instance.reset()
            if not isinstance(error, Exception):
                raise  # sys.exit() or Ctrl-C
            Promise.reject(error)
        finally:
            self._pass_on(outer)

    def wait(self, promise: Promise[Any], timeout: float | None = None) -> None:
        """Settle what is done until one promise is settled.

        Raises:
            TimeoutError: It was not settled in time.
        """

        def wake(_: object) -> None:
            with self._changed:
                self._changed.notify_all()

        # It may be another's promise, which is settled by another thread.
        promise._then(wake, wake)
        if not self._settle_until(lambda: not promise.is_pending, timeout):
            raise TimeoutError(f"the promise was not settled within {timeout} seconds")

    def finish(self) -> None:
        """Settle all that is left; called when the main script has come to its end."""
        if hasattr(sys, "last_value"):
            # It ended with an exception: what it had begun must not make transactions any more.
            return
        try:
            self._settle_until(lambda: not self._unsettled, None)
        except (SystemExit, KeyboardInterrupt) as error:
            # Python has decided on the exit status by now.
            atexit.register(_end, _status(error))

    def _settle_until(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not condition():
            if self._settle_one():
                continue
            with self._changed:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                if not condition() and not self._is_my_turn():
                    self._changed.wait(left)
        return True

    def _is_my_turn(self) -> bool:
        return bool(self._done) and self._turn in (None, threading.get_ident())

    def _settle_one(self) -> bool:
        """Settle what has been done first, and so run its callbacks, unless those of another thread run."""
        with self._changed:
            if not self._is_my_turn():
                return False
            # A callback that waits itself comes here again.
            outer, self._turn = self._turn, threading.get_ident()
            settle = self._done.popleft()
        try:
            settle()
        finally:
            with self._changed:
                self._unsettled -= 1
            self._pass_on(outer)
        return True

    def _pass_on(self, turn: int | None) -> None:
        with self._changed:
            self._turn = turn
            self._changed.notify_all()


def _outcome(promise: Promise[T], work: Callable[[], T]) -> Callable[[], Any]:
    """Do the work; returns what settles its promise."""
    try:
        value = work()
    except Exception as error:
        failure = error
        return lambda: promise._reject_callback(failure, False, failure.__traceback__)
    except BaseException as error:
        exit_ = error
        return lambda: _raise(exit_)
    return lambda: promise.do_resolve(value)


def _raise(error: BaseException) -> None:
    raise error


def _status(error: SystemExit | KeyboardInterrupt) -> int:
    if isinstance(error, KeyboardInterrupt):
        return _INTERRUPTED
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.stderr)  # noqa: T201  (as Python does)
    return 1


def _end(status: int) -> None:
    """End with another status than Python has decided on, after all other exit handlers: this one is called first."""
    atexit.unregister(_end)
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            # So does Python itself; and a rejection that nobody handled makes it so.
            status = UNHANDLED_STATUS
    os._exit(status)


_background = _Background()
set_default_scheduler(_background)  # type: ignore[no-untyped-call]
# The child of a fork has none of the threads.
os.register_at_fork(after_in_child=_background._reset)
# The end of the script is the last moment at which threads and processes can be started as usual, as callbacks want to;
# when the handlers of `atexit` run, that is over.
getattr(threading, "_register_atexit", atexit.register)(_background.finish)


def in_background(work: Callable[[], T]) -> Promise[T]:
    """Start some work on a thread of its own.

    Args:
        work: What to do; what it returns or raises settles the promise.

    Returns:
        The promise, which is settled, and whose callbacks run, on a thread that waits for it or for another one with
        ``get()``, or on the main thread at the end of the program.
    """
    return _background.run(work)
