"""The subcommand demo: shows a consumer at work, with a sandbox in the place of Pacifica."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import attrs

from pacifica_notifications_consumer.archive.packing import pack
from pacifica_notifications_consumer.cloudevents.notification import PROVENANCE_KEY, Notification
from pacifica_notifications_consumer.errors import Cancelled, PacificaError
from pacifica_notifications_consumer.jobs.directory import LEDGER
from pacifica_notifications_consumer.jobs.job import JobState, Verdict
from pacifica_notifications_consumer.ledger.ledger import Ledger
from pacifica_notifications_consumer.settings.option import PREFIX
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.system.temporary import make_temporary_directory
from pacifica_notifications_consumer.testing.instrument import send_files
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from pacifica_notifications_runner.authoring.init import make_empty
from pacifica_notifications_runner.options import command_line, start_command
from pacifica_notifications_runner.options.settings import Settings
from pacifica_notifications_runner.process.signals import StopSignals
from pacifica_notifications_runner.process.terminal import say

DESCRIPTION = """\
Show what a consumer does: start a sandbox, deploy the example consumer with the real start command, upload a
transaction, wait for the one that the consumer makes of it, and compare. Exit status: 0 only if the result is right.
"""

_NAME = "demo"
_USER = "alice"
_FILES = {
    "readme.txt": b"Measured on a rainy tuesday.\n",
    "spectra/day 1/probe.txt": b"alpha 1.0\nbeta 2.5\n",
    "größe/ψ/naïve café.txt": "straße, ὀδός, дорога\n".encode(),
    "spectra/day 1/raw.bin": bytes(range(256)) * 400,
    "empty.txt": b"",
}
_WAIT_SECONDS = 300.0
_STOP_SECONDS = 60.0
_POLL = 0.02


class DemoError(PacificaError):
    """The demonstration failed."""

    exit_status = 1


def add_command(subparsers: Any) -> None:
    """Add the subcommand to the command."""
    parser = command_line.add_subcommand(
        subparsers, "demo", demonstrate, "show what a consumer does, on a sandbox", DESCRIPTION
    )
    parser.set_defaults(needs_linux=True)  # as the start command does
    parser.add_argument(
        "directory", nargs="?", type=Path, metavar="DIR", help="the directory of its files (default: a temporary one)"
    )


def demonstrate(arguments: argparse.Namespace, _settings: Settings) -> int:
    """Run the demonstration."""
    home: Path = arguments.directory or make_temporary_directory("pacifica-demo-")
    make_empty(home)
    home = home.resolve()
    with as_file(files("pacifica_notifications_runner") / "templates" / "uppercase") as example:
        pack(example, home / "consumer.zip")
    with StopSignals() as signals, Sandbox(home / "sandbox", users={_USER: 10}) as sandbox:
        say(f"A sandbox of Pacifica runs: producer {sandbox.producer_url}, cartd {sandbox.cartd_url},")
        say(f"  ingest {sandbox.ingest_url}, policy {sandbox.policy_url}")
        _Demonstration(home, sandbox, signals).run()
    say()
    say("The result is right. These files stay:")
    say(f"  {home / 'consumer.zip'}   the consumer")
    say(f"  {home / 'sandbox'}        the archive")
    say(f"  {home / 'state'}          the consumer's ledger and its job's directory")
    say(f"  {home / 'start.log'}      the log of the start command")
    return 0


@attrs.frozen
class _Demonstration:
    _home: Path
    _sandbox: Sandbox
    _signals: StopSignals

    @property
    def _log(self) -> Path:
        return self._home / "start.log"

    def run(self) -> None:
        sandbox = self._sandbox
        with self._started():
            services = Services.from_environment(sandbox.environ() | {f"{PREFIX}USERNAME": _USER})
            upload = lambda: send_files(_FILES, services=services, key_values={"Sample": "demonstration"})  # noqa: E731
            self._wait("A transaction is uploaded", upload)
            self._wait("The consumer has uploaded its result", lambda: len(sandbox.transactions()) > 1)
            with contextlib.closing(Ledger(self._home / "state" / LEDGER)) as ledger:
                own = lambda: ledger.count_verdicts()[Verdict.OWN]  # noqa: E731
                self._wait("The consumer has ignored its own upload", own)
        if sandbox.subscriptions():
            raise DemoError("the subscription was left behind", f"read {self._log}")
        with contextlib.closing(Ledger(self._home / "state" / LEDGER)) as ledger:
            jobs = ledger.count_jobs()
        if jobs != dict.fromkeys(JobState, 0) | {JobState.SUCCEEDED: 1}:
            raise DemoError(f"one job should have succeeded, but the ledger shows {jobs}")
        _compare(sandbox)

    @contextlib.contextmanager
    def _started(self) -> Iterator[None]:
        """Run the start command as an operator would, and stop it with SIGTERM."""
        sandbox = self._sandbox
        environ = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        words = [str(self._home / "consumer.zip"), "--username", _USER, "--name", _NAME, "--verbose"]
        words += ["--state-dir", str(self._home / "state")]
        words += ["--producer-url", sandbox.producer_url, "--cartd-url", sandbox.cartd_url]
        words += ["--ingest-url", sandbox.ingest_url, "--policy-url", sandbox.policy_url]
        say(f"$ {start_command.PROGRAM} {' '.join(words)}")
        command = [str(Path(sysconfig.get_path("scripts")) / start_command.PROGRAM), *words]
        with self._log.open("wb") as log:
            process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            subscribed = lambda: sandbox.subscriptions() or process.poll() is not None  # noqa: E731
            self._wait("The consumer is deployed and subscribed", subscribed)
            if process.poll() is not None:
                output = self._log.read_text(encoding="utf-8", errors="replace")[-4000:]
                raise DemoError("the start command did not subscribe the consumer", "its output was:", output=output)
            yield
            process.terminate()
            self._wait("The consumer is stopped", lambda: process.poll() is not None)
            if process.returncode:
                raise DemoError(f"the start command ended with status {process.returncode}", f"read {self._log}")
        finally:
            _stop(process)

    def _wait(self, event: str, condition: Callable[[], object]) -> None:
        """Wait until a condition holds, and say how long that took."""
        began = time.monotonic()
        while not condition():
            if self._signals.stop.wait(_POLL):
                raise Cancelled("stopped by a signal")
            if time.monotonic() > began + _WAIT_SECONDS:
                raise DemoError(f"waited {_WAIT_SECONDS:g} seconds in vain for: {event}", f"read {self._log}")
        say(f"[{time.monotonic() - began:6.2f} s] {event}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the start command so that it can clean up, or by force if it does not end in time."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _compare(sandbox: Sandbox) -> None:
    """Print each file before and after, and check that the text files are in upper case."""
    if len(sandbox.transactions()) != 2:
        raise DemoError(f"there should be two transactions, but there are {sandbox.transactions()}")
    before, after = sandbox.transactions()
    old, new = sandbox.read(before), sandbox.read(after)
    say()
    say(f"Transaction {before}, as uploaded, and transaction {after}, as the consumer made it:")
    for name, content in sorted(old.items()):
        say(f"  {name}: {_shown(content)} -> {_shown(new[name]) if name in new else 'left out'}")
    expected = {name: content.decode().upper().encode() for name, content in _FILES.items() if name.endswith(".txt")}
    if old != _FILES or new != expected:
        raise DemoError("the files of the new transaction are not those of the old one in upper case")
    key_values = Notification.parse(sandbox.notification(after)).key_values
    say(f"  its key-values: {key_values}")
    if key_values != {"Transactions._id": before, PROVENANCE_KEY: _NAME}:
        raise DemoError("the new transaction has other key-values than expected")


def _shown(content: bytes) -> str:
    try:
        return repr(content.decode())
    except UnicodeDecodeError:
        return f"{len(content)} bytes"
