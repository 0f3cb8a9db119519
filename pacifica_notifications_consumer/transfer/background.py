"""Runs work on background threads and settles the promises of it on the thread that waits.

So the callbacks of a promise run where the author of the callbacks expects them: on the thread that waits in
``Promise.get()`` or, for promises that are pending at the end of the program, on the main thread. Only one callback
runs at a time, however many threads wait.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from promise import set_default_scheduler
from promise.promise import async_instance

from .promises import UNHANDLED_STATUS, Promise

T = TypeVar("T")

#: Maximum number of tasks that run at the same time; further ones wait.
MOST_AT_ONCE = 8


class _Background:
    """The background tasks of this process and their unsettled promises; the scheduler of all promises."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._slots = threading.Semaphore(MOST_AT_ONCE)
        #: Functions that each settle one promise, in the order in which the tasks finished, and the tasks' threads.
        self._done: deque[tuple[Callable[[], Any], threading.Thread]] = deque()
        self._unsettled = 0
        #: Identifier of the thread that runs callbacks now.
        self._turn: int | None = None

    def run(self, work: Callable[[], T]) -> Promise[T]:
        """Run a function on a background thread; its result fulfils the returned promise, its exception rejects it.

        The promise is settled, and its callbacks run, on a thread that waits for this or another promise with
        ``get()``, or on the main thread at the end of the program.
        """
        promise: Promise[T] = Promise()

        def act() -> None:
            with self._slots:
                settle = _outcome(promise, work)
            with self._changed:
                self._done.append((settle, thread))
                self._changed.notify_all()

        # A daemon thread does not delay the exit of a program that is interrupted.
        thread = threading.Thread(target=act, name="pacifica transfer", daemon=True)
        with self._changed:
            self._unsettled += 1
        try:
            thread.start()
        except RuntimeError:
            # Since Python 3.12, no thread can be started after the main script has ended.
            act()
        return promise

    def call(self, function: Callable[[], None]) -> None:
        """Call a function as soon as no other thread runs callbacks, and report every exception that it raises.

        The package `promise` runs all callbacks through this method, including those of settled promises.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._turn in (None, threading.get_ident()))
            outer, self._turn = self._turn, threading.get_ident()
        try:
            function()
        except BaseException as error:
            if function == async_instance.drain_queues:
                # The exception interrupted the queue: without a reset, no later callback would ever run.
                async_instance.reset()
            if not isinstance(error, Exception):
                raise  # sys.exit() or Ctrl-C
            Promise.reject(error)
        finally:
            self._pass_on(outer)

    def wait(self, promise: Promise[Any], timeout: float | None = None) -> None:
        """Settle promises of finished tasks until the given one is settled; TimeoutError after `timeout` seconds."""

        def wake(_: object) -> None:
            with self._changed:
                self._changed.notify_all()

        # The promise may come from other code and be settled by another thread.
        promise._then(wake, wake)
        if not self._settle_until(lambda: not promise.is_pending, timeout):
            raise TimeoutError(f"the promise was not settled within {timeout} seconds")

    def finish(self) -> None:
        """Settle all remaining promises; called when the main script has ended."""
        if hasattr(sys, "last_value"):
            # The script ended with an exception: uploads that it started must not become transactions any more.
            return
        try:
            self._settle_until(lambda: not self._unsettled, None)
        except (SystemExit, KeyboardInterrupt) as error:
            # Python ignores an exit status that is set this late.
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
        """Settle the promise of the first finished task and run its callbacks, unless another thread runs callbacks."""
        with self._changed:
            if not self._is_my_turn():
                return False
            # A callback that calls Promise.get() enters this method again.
            outer, self._turn = self._turn, threading.get_ident()
            settle, thread = self._done.popleft()
        try:
            # A callback may fork, which is only safe without other threads.
            if thread.ident is not None:
                thread.join()
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
    """Do the work; returns a function that settles its promise."""
    try:
        value = work()
    except Exception as error:
        return partial(promise._reject_callback, error, False, error.__traceback__)
    except BaseException as error:
        return partial(_raise, error)
    return partial(promise.do_resolve, value)


def _raise(error: BaseException) -> None:
    raise error


def _status(error: SystemExit | KeyboardInterrupt) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130  # as shells report SIGINT
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.stderr)  # noqa: T201  (as Python does)
    return 1


def _end(status: int) -> None:
    """End the process with this status, after all other exit handlers (this handler was registered last)."""
    atexit.unregister(_end)
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            # Python, too, ends with this status when a flush fails; an unhandled rejection makes the flush fail.
            status = UNHANDLED_STATUS
    os._exit(status)


_background = _Background()
set_default_scheduler(_background)  # type: ignore[no-untyped-call]
# None of the threads exist in a forked child.
os.register_at_fork(after_in_child=_background._reset)
# Callbacks may start threads and processes, which is possible until the end of the script but no longer when the
# handlers of `atexit` run.
getattr(threading, "_register_atexit", atexit.register)(_background.finish)
in_background = _background.run
