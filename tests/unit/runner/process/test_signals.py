"""Signals become an event, and the second one a call, without a handler that could deadlock or raise."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from pacifica_notifications_consumer.errors import Cancelled
from pacifica_notifications_runner.process import signals as signals_module
from pacifica_notifications_runner.process.signals import StopSignals
from tests.support.machine.waiting import DEADLINE


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give silent networks less time than people would."""
    monkeypatch.setattr(signals_module, "_PATIENCE", 0.2)


def test_first_and_second() -> None:
    """The first signal sets the event, each further one makes the call; afterwards all is as before."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    second = threading.Event()
    with StopSignals() as signals:
        signals.on_second = second.set
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.stop.wait(DEADLINE)
        assert not second.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert second.wait(DEADLINE)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_no_signal() -> None:
    """Leaving without a signal ends the watching thread."""
    with StopSignals() as signals:
        assert not signals.stop.is_set()
        assert "signals" in [thread.name for thread in threading.enumerate()]
    assert "signals" not in [thread.name for thread in threading.enumerate()]


def test_work_that_hangs_is_given_up() -> None:
    """Work on a silent network keeps nobody from stopping, but answers and errors that come are passed on."""
    with StopSignals() as signals:
        assert signals.unless_stopped(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            signals.unless_stopped(lambda: 1 // 0)
        answer = threading.Event()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Cancelled, match=r"without an answer from Pacifica$"):
            signals.unless_stopped(answer.wait)
        answer.set()


def test_context_that_hangs_is_left() -> None:
    """A context that hangs when it is left is waited for until the second signal, which is an event of its own."""
    answer = threading.Event()

    @contextlib.contextmanager
    def silent() -> Iterator[int]:
        yield 7
        answer.wait()

    with StopSignals() as signals:
        with pytest.raises(Cancelled, match="may keep the subscription"), signals.abandoning(silent()) as value:
            assert value == 7
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.stop.wait(DEADLINE)
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.now.wait(DEADLINE)
        answer.set()
