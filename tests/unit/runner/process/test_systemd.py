"""systemd is told what it wants to know, and nobody else is given the means to tell it."""

import contextlib
import os
import socket
import uuid
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from pacifica_notifications_runner.process import systemd as systemd_module
from pacifica_notifications_runner.process.systemd import Notifier
from tests.support.machine.waiting import DEADLINE


@pytest.mark.parametrize("abstract", [False, True])
def test_conversation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    """Each message arrives as sd_notify(3) has it, over a socket in the file system or in the abstract namespace."""
    monkeypatch.chdir(tmp_path)
    name = f"@{uuid.uuid4()}" if abstract else "notify"  # the whole path may be too long for a socket
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name[1:]}" if abstract else name)
        systemd.settimeout(DEADLINE)
        notifier = Notifier.from_environment()
        assert (notifier.watchdog, notifier.interval) == (30.0, 15.0)
        notifier.ready("two\nlines")
        notifier.alive("3 jobs running")
        notifier.stopping("bye")
        said = [systemd.recv(4096) for _ in range(3)]
    assert said == [b"READY=1\nSTATUS=two lines", b"WATCHDOG=1\nSTATUS=3 jobs running", b"STOPPING=1\nSTATUS=bye"]
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & os.environ.keys()


def test_supervisor_that_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message waits until a supervisor that has not read the last ones has room for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(systemd_module, "_PATIENCE", DEADLINE)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        systemd.bind("notify")
        systemd.settimeout(DEADLINE)
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(b"full", "notify")
        told = pool.submit(Notifier("notify").ready, "x")
        wait([told], 0.1)
        while systemd.recv(4096) == b"full":
            pass
        told.result(DEADLINE)


def test_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a supervisor, or with one that is gone, nothing happens."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    notifier = Notifier.from_environment()
    assert (notifier.address, notifier.interval) == (None, None)
    notifier.ready("x")
    Notifier("/nowhere/at/all").ready("x")


@pytest.mark.parametrize(("microseconds", "pid"), [("", ""), ("nonsense", ""), ("0", ""), ("1000000", "1")])
def test_watchdog_that_is_not_for_us(monkeypatch: pytest.MonkeyPatch, microseconds: str, pid: str) -> None:
    """Signs of life are wanted only if that is said, and to this process."""
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert Notifier.from_environment().interval is None
