"""Signals become an event, and the second one a call, without a handler that could deadlock or raise."""

import os
import signal
import threading

from pacifica_notifications_runner.signals import StopSignals

DEADLINE = 10.0


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
