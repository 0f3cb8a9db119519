"""Runs work on background threads and settles the promises of it on the thread that waits.

So the callbacks of a promise run where the author of the callbacks expects them: on the thread that waits in
``Promise.get()`` or ``await`` or, for promises that are pending at the end of the program, on the main thread. Only one
callback runs at a time, however many threads wait.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.process
import concurrent.futures.thread  # noqa: F401  (both for the end of this module)
import contextlib
import gc
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import promise.promise
from promise import set_default_scheduler
from promise.promise import async_instance

from ..errors import PromiseError
from .promises import UNHANDLED_STATUS, Promise, forget_callbacks

T = TypeVar("T")

#: Maximum number of tasks that run at the same time; further ones wait.
MOST_AT_ONCE = 8
_THREAD = "pacifica transfer"
#: Seconds between two looks whether other threads have ended.
_LOOK = 1.0


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
        #: The exception by which a callback has ended the program, if it ran on another thread or after the script.
        self._ended: BaseException | None = None
        #: Identifier of the thread that runs callbacks now.
        self._turn: int | None = None
        #: Functions that wake the event loops in which promises are awaited.
        self._wake_loops: list[Callable[[], object]] = []

    def run(self, work: Callable[[], T], slots: contextlib.AbstractContextManager[Any] | None = None) -> Promise[T]:
        """Run a function on a background thread; its result fulfils the returned promise, its exception rejects it.

        The promise is settled, and its callbacks run, on a thread that waits for this or another promise with
        ``get()``, or on the main thread at the end of the program.
        """
        promise: Promise[T] = Promise()

        def act() -> None:
            with slots or self._slots:
                settle = _outcome(promise, work)
            self._done.append((settle, thread))
            self._notify()

        # A daemon thread does not delay the exit of a program that is interrupted.
        thread = threading.Thread(target=act, name=_THREAD, daemon=True)
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
        # The promise may come from other code and be settled by another thread.
        promise._then(self._notify, self._notify)
        if not self._settle_until(lambda: not promise.is_pending or bool(self._ended), timeout):
            if timeout is None:
                raise PromiseError("get() would wait for ever: nothing is running that could settle the promise")
            raise TimeoutError(f"the promise was not settled within {timeout} seconds")
        if promise.is_pending and self._ended:
            raise self._ended

    async def result(self, promise: Promise[T]) -> T:
        """Await a promise in an event loop, whose thread runs the callbacks of finished tasks meanwhile."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(changed.set)

        self._wake_loops.append(wake)
        try:
            promise._then(self._notify, self._notify)
            while True:
                changed.clear()
                if async_instance.is_tick_used:
                    # A callback is awaited, which has interrupted the queue of callbacks.
                    async_instance.drain_queue_until_resolved(promise._target())
                if not promise.is_pending:
                    return promise.get()
                if self._ended:
                    raise self._ended
                if self._settle_one():
                    changed.set()
                await changed.wait()
        finally:
            self._wake_loops.remove(wake)

    def finish(self) -> None:
        """Settle all remaining promises; called when the main script has ended."""
        if hasattr(sys, "last_value"):
            # The script ended with an exception: uploads that it started must not become transactions any more.
            forget_callbacks()
            return
        try:
            self._settle_until(lambda: bool(self._ended) or not self._unsettled, None)
        except BaseException as error:
            # Other threads may wait for promises that nobody settles any more.
            self._ended = error
            self._notify()
        if self._ended:
            # Python ignores an exit status that is set this late.
            atexit.register(_end, _status(self._ended))
            forget_callbacks()

    def _settle_until(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not condition():
            if self._settle_one():
                continue
            with self._changed:
                # Before the conditions: a thread may finish a task and end meanwhile.
                left = (0.0 if _is_alone() else _LOOK) if deadline is None else deadline - time.monotonic()
                if condition() or self._is_my_turn():
                    continue
                if left <= 0:
                    return False
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
        before = self._changed
        try:
            # A callback may fork, which is only safe without other threads.
            if thread.ident is not None:
                thread.join()
            settle()
        except (SystemExit, KeyboardInterrupt) as error:
            if threading.current_thread() is not threading.main_thread():
                self._ended = error
            raise
        finally:
            with self._changed:
                if self._changed is before:  # else this is a forked child
                    self._unsettled -= 1
            self._pass_on(outer)
        return True

    def _pass_on(self, turn: int | None) -> None:
        self._turn = turn
        self._notify()

    def _notify(self, _: object = None) -> None:
        with self._changed:
            self._changed.notify_all()
            for wake in self._wake_loops:
                wake()


def _outcome(promise: Promise[T], work: Callable[[], T]) -> Callable[[], Any]:
    """Do the work; returns a function that settles its promise."""
    try:
        value = work()
    except Exception as error:
        return partial(promise._reject_callback, error, False, error.__traceback__)
    except BaseException as error:
        return partial(_raise, error)
    return partial(promise.do_resolve, value)


def _is_alone() -> bool:
    """Whether nothing but this thread can settle a promise: neither another thread of any kind nor a signal handler."""
    handlers = map(signal.getsignal, signal.valid_signals())
    if threading.active_count() > 1 or any(callable(each) and each != signal.default_int_handler for each in handlers):
        return False
    return len(list(Path("/proc/self/task").glob("*"))) == 1  # other systems than Linux cannot tell


def _raise(error: BaseException) -> None:
    raise error


def _status(error: BaseException) -> int:
    """Print what Python prints for an exception that ends the program, and return its exit status."""
    code = getattr(error, "code", 1)
    is_exit = isinstance(error, SystemExit)
    if is_exit and (code is None or isinstance(code, int)):
        code = code or 0
        return code & 0xFF if -(2**63) <= code < 2**63 else 0xFF
    # A hook, or what is to be printed, may fail.
    with contextlib.suppress(BaseException):
        if is_exit:
            print(code, file=sys.stderr)  # noqa: T201  (as Python does)
        else:
            sys.excepthook(type(error), error, error.__traceback__)
    return 130 if isinstance(error, KeyboardInterrupt) else 1  # 130 as shells report SIGINT


def _end(status: int) -> None:
    """End the process with this status, after all other exit handlers (this handler was registered last)."""
    atexit.unregister(_end)
    atexit._run_exitfuncs()
    # As the interpreter does, so that files are written and finalizers run.
    names = vars(sys.modules["__main__"])
    names.update(dict.fromkeys(name for name in names if name != "__builtins__"))
    gc.collect()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            if not getattr(stream, "closed", False):
                stream.flush()
        except (OSError, ValueError):
            # Python, too, ends with this status when a flush fails; an unhandled rejection makes the flush fail.
            status = UNHANDLED_STATUS
    os._exit(status)


#: The coroutines of callbacks that run in an event loop which was there before.
_guests: set[asyncio.Task[Any]] = set()


def _await(coroutine: Coroutine[Any, Any, T]) -> Any:
    """Run a coroutine to which a promise is resolved: in this thread's event loop, or else in one of its own."""
    if asyncio._get_running_loop() is None or threading.current_thread().name == _THREAD:
        return _background.run(lambda: asyncio.run(_as_host(coroutine)), contextlib.nullcontext())
    guest = asyncio.ensure_future(_as_guest(coroutine))
    _guests.add(guest)
    guest.add_done_callback(_guests.discard)
    return guest


async def _as_host(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        return await coroutine
    finally:
        # There are some if a late thread could not be started: see `run`.
        while guests := [guest for guest in _guests if guest.get_loop() is asyncio.get_running_loop()]:
            await asyncio.wait(guests)


async def _as_guest(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        return await coroutine
    except (SystemExit, KeyboardInterrupt):
        forget_callbacks()
        raise


def _pass_result(resolve: Callable[[Any], None], reject: Callable[[Any], None]) -> Callable[[Any], None]:
    def pass_result(future: Any) -> None:
        try:
            value = future.result()
        except asyncio.CancelledError:
            reject(RuntimeError("a coroutine of a callback did not end before its event loop: await its promise there"))
        except Exception as error:
            reject(error)
        else:
            resolve(value)

    return pass_result


def _iterate(promise: Promise[T]) -> Generator[Any, None, T]:
    return _background.result(promise).__await__()


_background = _Background()
set_default_scheduler(_background)  # type: ignore[no-untyped-call]
promise.promise.ensure_future = _await  # type: ignore[attr-defined,assignment]
promise.promise._process_future_result = _pass_result
Promise.__await__ = _iterate  # type: ignore[misc]
# None of the threads, and none of the work that they would settle, exist in a forked child.
os.register_at_fork(after_in_child=_background._reset)
os.register_at_fork(after_in_child=forget_callbacks)
# Callbacks may start threads and processes, which is possible until the end of the script but no longer when the
# handlers of `atexit` run. The pools of `concurrent.futures`, which have been imported before, are still open then.
getattr(threading, "_register_atexit", atexit.register)(_background.finish)
in_background = _background.run
