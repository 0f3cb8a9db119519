"""The messages of the warm process, which is another user's with `run_as` and may send anything."""

from __future__ import annotations

import contextlib
import math
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from pacifica_notifications_consumer.engines.warm import start
from pacifica_notifications_consumer.engines.warm.messages import open_channel
from pacifica_notifications_consumer.system.processes import Process, ProcessLost, describe_status
from tests.fuzz.good import Finding, Try
from tests.fuzz.mutation import spoil

_GOOD = (b"started", b"error 11", b"ended 0 0.012345 9000", b"ended -9 12.000000 123456", b"ready 1")
_LARGEST = 1 << 53


def _message(chance: random.Random) -> bytes:
    good = chance.choice(_GOOD)
    return good if chance.random() < 0.4 else spoil(good, chance, _GOOD)


@contextlib.contextmanager
def warm() -> Iterator[Try]:
    """Messages about a job: its process is lost, or refused, or has ended with a status and numbers that can be."""
    warm_start = start.WarmStart(Path("/bin/false"), Path("/bin/false"), environ={})
    # The sender of all messages is this process.
    with mock.patch.object(start._WarmChild, "_signal_group"), open(os.devnull) as file:  # noqa: PTH123
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208

        def attempt(chance: random.Random) -> None:
            ours, theirs = open_channel()
            warm_pid = os.getpid() if chance.random() < 0.9 else 1
            with ours, contextlib.suppress(OSError, ProcessLost):
                with theirs:
                    for _ in range(chance.choice((1, 2, 2, 3, 8))):
                        attached = [file.fileno()] * (chance.random() < 0.1)
                        socket.send_fds(theirs, [_message(chance)], attached)
                    child = warm_start._started(ours, warm_pid)
                _check(child)
            if len(os.listdir("/proc/self/fd")) > before + 2:  # noqa: PTH208
                raise Finding("descriptors are left open")

        yield attempt


def _check(child: Process) -> None:
    status = child.wait(0.0)
    if status is None or child.usage is None:
        raise Finding(f"a channel that is closed tells {status} and {child.usage}")
    describe_status(status)
    cpu_seconds, memory = child.usage.cpu_seconds, child.usage.peak_memory
    if not (math.isfinite(cpu_seconds) and cpu_seconds >= 0 and 0 <= memory < _LARGEST):
        raise Finding(f"it used {child.usage}")
