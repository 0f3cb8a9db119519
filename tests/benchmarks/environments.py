"""Environments: made by VenvBuilder and taken from its cache, beside what people type by hand; and the whole start."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from pacifica_notifications_consumer import VenvBuilder
from pacifica_notifications_consumer.environment.wheel import build_wheel
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.benchmarks.measure import compare, seconds

_BIN = Path(sys.executable).parent
_ROUNDS = 5


def main() -> None:
    """Measure; what the installers have in their own caches stays there."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        directory = Path(name)
        wheel = build_wheel(directory)
        requirements = directory / "requirements.txt"
        requirements.write_text("jsonpath2\npacifica-notifications-consumer\npromise\n")
        by_hand = directory / "by-hand.txt"
        by_hand.write_text(f"jsonpath2\n{wheel}\npromise\n")
        numbers = itertools.count()

        def ours(installer: str, cache: Path | None = None) -> float:
            with contextlib.ExitStack() as stack:
                builder = VenvBuilder(requirements=requirements, installer=installer, cache=cache)
                return seconds(lambda: stack.enter_context(builder))

        def with_uv(*flags: str) -> float:
            venv = directory / f"uv{next(numbers)}"

            def make() -> None:
                _run(_BIN / "uv", "venv", "--quiet", "--python", sys.executable, venv)
                _run(_BIN / "uv", "pip", "install", "--quiet", *flags, "--python", venv / "bin/python", "-r", by_hand)

            return seconds(make)

        def with_pip() -> float:
            venv = directory / f"pip{next(numbers)}"

            def make() -> None:
                _run(sys.executable, "-m", "venv", venv)
                _run(venv / "bin/python", "-m", "pip", "install", "--quiet", "-r", by_hand)

            return seconds(make)

        plain = "uv venv; uv pip install"
        compare(
            "An environment of the documented consumer (less is better)",
            "s",
            {
                plain: with_uv,
                "the same, compiled": lambda: with_uv("--compile-bytecode"),
                "python -m venv; pip install": with_pip,
                "VenvBuilder with uv": lambda: ours("uv"),
                "VenvBuilder with pip": lambda: ours("pip"),
                "VenvBuilder, from the cache": lambda: ours("uv", directory / "cache"),
            },
            plain,
            rounds=_ROUNDS,
        )
        _start(directory)


def _run(*command: str | Path) -> None:
    subprocess.run(list(map(str, command)), check=True, capture_output=True)


def _start(directory: Path) -> None:
    """How long the start command takes until it is ready, the environment being in the cache."""
    archive = directory / "consumer.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("__main__.py", "")
        packed.writestr("init.sh", "exit 0\n")
        packed.writestr("requirements.txt", "jsonpath2\npacifica-notifications-consumer\npromise\n")
    with Sandbox(directory / "sandbox") as sandbox:
        environ = os.environ | sandbox.environ() | {"PACIFICA_USERNAME": "alice"}
        command = [_BIN / "start-pacifica-notifications-consumer", archive, "--venv-cache", directory / "cache"]
        command += ["--state-dir", directory / "state"]

        def ready() -> float:
            began = time.monotonic()
            with subprocess.Popen(list(map(str, command)), env=environ, stderr=subprocess.PIPE, text=True) as process:
                assert process.stderr
                # When it is subscribed, and when entry-points start warm, whichever comes last.
                wanted = {"ready:", "start warm"}
                for line in process.stderr:
                    wanted = {words for words in wanted if words not in line}
                    if not wanted:
                        break
                took = time.monotonic() - began
                process.send_signal(signal.SIGTERM)
                process.stderr.read()
            return took

        what = "start command, subscribed and warm"
        compare("From the command to ready, the environment cached (less is better)", "s", {what: ready}, what)
        shutil.rmtree(directory / "state")


if __name__ == "__main__":
    main()
