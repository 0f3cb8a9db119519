"""The watchdog of a worker for other machines kills what a silent worker runs, and nothing else."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pacifica_notifications_consumer.engines.celery import watchdog
from pacifica_notifications_consumer.system.account import CURRENT_USER
from pacifica_notifications_consumer.system.orphans import MARK_VARIABLE
from tests.support.machine.waiting import DEADLINE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")

#: Notes when it is asked to end, and goes on.
_DEAF = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"asked\\n"))
os.write(1, b"deaf\\n")
while True:
    signal.pause()
"""


def test_attempts_after_a_silence_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that ignores SIGTERM ends with the silence; one that begins when the worker is heard again goes on."""
    silences: list[Any] = [([], [], [])]

    def heard(pipes: list[int], *_: object) -> Any:
        return silences.pop() if silences else select.select(pipes, [], [], DEADLINE)

    monkeypatch.setattr(watchdog, "select", SimpleNamespace(select=heard))
    pipe, worker = os.pipe()
    command = [sys.executable, "-c", _DEAF]
    environ = {number: os.environ | {MARK_VARIABLE: f"{tmp_path}:{number}"} for number in (1, 2)}
    with (
        subprocess.Popen(command, env=environ[1], stdout=subprocess.PIPE, text=True) as deaf,
        ThreadPoolExecutor() as pool,
    ):
        assert deaf.stdout
        assert deaf.stdout.readline() == "deaf\n"
        watching = pool.submit(watchdog.watch, pipe, f"{tmp_path}:", 1.0, CURRENT_USER)
        deaf.stdout.readline()  # something has happened to it
        with subprocess.Popen(["/bin/sleep", "100"], env=environ[2]) as later:
            os.write(worker, b".!")
            watching.result(DEADLINE)
            assert deaf.wait(DEADLINE) == -signal.SIGKILL
            assert later.poll() is None
            later.kill()
    os.close(pipe)
    os.close(worker)
