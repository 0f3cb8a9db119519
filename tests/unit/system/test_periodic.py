"""Periodic calls a function at intervals."""

from __future__ import annotations

import logging
import math
import queue
import threading

import pytest

from pacifica_notifications_consumer.system.periodic import Periodic
from tests.support.machine.waiting import DEADLINE

NEVER = 3600.0


def test_called_again_and_again() -> None:
    """The function is called at once, again after each interval, and never after the end."""
    calls: queue.Queue[str] = queue.Queue()
    with Periodic(lambda: calls.put(threading.current_thread().name), name="mine", interval=0.001) as loop:
        assert [calls.get(timeout=DEADLINE) for _ in range(3)] == ["mine"] * 3
        alive = [loop.alive]
    assert [*alive, loop.alive] == [True, False]
    assert loop.stopping.is_set()


def test_the_work_says_when() -> None:
    """A pause that the function returns takes precedence over the interval."""
    pauses = [0.0, 0.0, math.inf]
    called = threading.Semaphore(0)

    def work() -> float:
        called.release()
        return pauses.pop(0)

    with Periodic(work, name="mine", interval=NEVER):
        assert all(called.acquire(timeout=DEADLINE) for _ in range(3))
        assert not called.acquire(timeout=0.05)


def test_the_first_call_may_wait() -> None:
    """With a delay, the function is not called at the start."""
    calls: list[None] = []
    with Periodic(lambda: calls.append(None), name="mine", interval=0.0, delay=NEVER):
        pass
    assert calls == []


def test_woken() -> None:
    """Waking ends a pause of any length; waking during a call leads to the next call at once."""
    called, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def work() -> float:
        called.release()
        assert go_on.acquire(timeout=DEADLINE)
        return math.inf

    with Periodic(work, name="mine", interval=NEVER, delay=NEVER) as loop:
        loop.wake()
        assert called.acquire(timeout=DEADLINE)
        loop.wake()
        go_on.release(2)
        assert called.acquire(timeout=DEADLINE)


def test_faults(caplog: pytest.LogCaptureFixture) -> None:
    """An exception of the function is logged with its traceback, and does not end the loop."""
    called = threading.Semaphore(0)

    def work() -> None:
        called.release()
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR), Periodic(work, name="mine", interval=0.001) as loop:
        assert all(called.acquire(timeout=DEADLINE) for _ in range(3))
        assert loop.alive
    first = caplog.records[0]
    assert first.getMessage() == "the thread 'mine' failed; it goes on in 0.001 s"
    assert first.exc_info is not None
    assert first.exc_info[0] is ZeroDivisionError


def test_stopped_before_it_began() -> None:
    """A thread that was never started can be stopped."""
    loop = Periodic(lambda: None, name="mine", interval=NEVER)
    loop.stop()
    assert not loop.alive
