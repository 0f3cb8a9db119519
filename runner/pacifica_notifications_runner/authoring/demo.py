"""The subcommand demo: the main job end to end on one machine, with nothing faked but Pacifica itself."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, TypeVar

from pacifica_notifications_consumer import upload
from pacifica_notifications_consumer.archive.packing import pack
from pacifica_notifications_consumer.cloudevents.notification import PROVENANCE_KEY, Notification
from pacifica_notifications_consumer.errors import Cancelled, PacificaError, StateError
from pacifica_notifications_consumer.jobs.directory import LEDGER
from pacifica_notifications_consumer.jobs.job import JobState, Verdict
from pacifica_notifications_consumer.ledger import Ledger
from pacifica_notifications_consumer.settings.option import PREFIX
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.system.temporary import make_temporary_directory
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from pacifica_notifications_runner import start
from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.settings import Settings
from pacifica_notifications_runner.process.signals import StopSignals

DESCRIPTION = """\
Show the main job: start a sandbox, deploy the example consumer with the real start command, upload a transaction, wait
for the one that the consumer makes of it, and compare. Exit status: 0 only if the result is right.
"""

_NAME = "demo"
_USER = "alice"
_TRANSACTION = {"Transactions.submitter": 10, "Transactions.project": "1234a", "Transactions.instrument": 54}
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
_T = TypeVar("_T")


class DemoError(PacificaError):
    """The demonstration did not show what it should."""

    exit_status = 1


def add_command(subparsers: Any) -> None:
    """Add the subcommand to the command."""
    parser = command_line.add_subcommand(subparsers, "demo", "show the main job end to end, on a sandbox", DESCRIPTION)
    parser.add_argument(
        "directory", nargs="?", type=Path, metavar="DIR", help="where to put everything (default: a new temporary one)"
    )
    parser.set_defaults(command=demonstrate)


def demonstrate(arguments: argparse.Namespace, _settings: Settings) -> int:
    """Run the demonstration.

    Raises:
        PacificaError: It failed.
    """
    home = _new_directory(arguments.directory)
    archive = _pack_example(home / "consumer.zip")
    with StopSignals() as signals, Sandbox(home / "sandbox", users={_USER: 10}) as sandbox:
        _say(f"A sandbox of Pacifica runs: producer {sandbox.producer_url}, cartd {sandbox.cartd_url},")
        _say(f"  ingest {sandbox.ingest_url}, policy {sandbox.policy_url}")
        wait = partial(_wait, signals, home / "start.log")
        with _started(archive, home, sandbox, wait):
            services = Services.from_environment(sandbox.environ() | {f"{PREFIX}USERNAME": _USER})
            before = _timed("A transaction is uploaded", lambda: _upload(home / "instrument", services, sandbox))
            after = _timed(
                "The consumer has made a new one of it",
                lambda: wait(lambda: max(sandbox.transactions()) > before and max(sandbox.transactions()), "upload"),
            )
            with contextlib.closing(Ledger(home / "state" / LEDGER)) as ledger:
                _timed(
                    "Its own upload has been announced to it, too",
                    lambda: wait(lambda: ledger.count_verdicts()[Verdict.OWN], "leave its own upload alone"),
                )
        if sandbox.subscriptions():
            raise DemoError("the subscription was left behind", f"read {home / 'start.log'}")
        _compare(sandbox, before, after)
    _check_ledger(home)
    _say("")
    _say("All of it is as it should be. What is left to look at:")
    _say(f"  {home / 'consumer.zip'}   the consumer")
    _say(f"  {home / 'sandbox'}        the archive")
    _say(f"  {home / 'state'}          the consumer's ledger and its job's directory")
    _say(f"  {home / 'start.log'}      what the start command said")
    return 0


def _new_directory(directory: Path | None) -> Path:
    if directory is None:
        return make_temporary_directory("pacifica-demo-")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        used = any(directory.iterdir())
    except OSError as error:
        raise StateError(f"cannot use the directory {directory}: {error.strerror}", "choose another") from error
    if used:
        raise StateError(f"the directory {directory} is not empty", "choose another, or remove what is in it")
    return directory.resolve()


def _pack_example(archive: Path) -> Path:
    with as_file(files("pacifica_notifications_runner") / "templates" / "uppercase") as example:
        pack(example, archive)
    return archive


@contextlib.contextmanager
def _started(archive: Path, home: Path, sandbox: Sandbox, wait: Callable[..., Any]) -> Iterator[None]:
    """Run the start command as an operator would, and stop it with SIGTERM."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    command = [str(Path(sysconfig.get_path("scripts")) / start.PROGRAM), str(archive)]
    command += ["--username", _USER, "--name", _NAME, "--state-dir", str(home / "state"), "--verbose"]
    command += ["--producer-url", sandbox.producer_url, "--cartd-url", sandbox.cartd_url]
    command += ["--ingest-url", sandbox.ingest_url, "--policy-url", sandbox.policy_url]
    _say(f"$ start-pacifica-notifications-consumer {' '.join(command[1:])}")
    log = home / "start.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environ, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        _timed(
            "The consumer is deployed and subscribed",
            lambda: wait(lambda: sandbox.subscriptions() or process.poll() is not None, "subscribe"),
        )
        if process.poll() is not None:
            said = log.read_text(encoding="utf-8", errors="replace")[-4000:]
            raise DemoError("the start command did not subscribe the consumer", "it said:", output=said)
        yield
        if status := _timed("The consumer is stopped", lambda: _stop(process)):
            raise DemoError(f"the start command ended with status {status}", f"read {log}")
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> int:
    """End the start command so that it can clean up, and only if it does not, by force."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def _wait(signals: StopSignals, log: Path, condition: Callable[[], _T], what: str) -> _T:
    """Return what a condition says as soon as it says something."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not (value := condition()):
        if signals.stop.wait(_POLL):
            raise Cancelled("stopped by a signal")
        if time.monotonic() > deadline:
            raise DemoError(f"the consumer did not {what} within {_WAIT_SECONDS:g} seconds", f"read {log}")
    return value


def _upload(event_path: Path, services: Services, sandbox: Sandbox) -> int:
    for name, content in _FILES.items():
        path = event_path / "uploads" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    upload(event_path, _TRANSACTION, {"Sample": "demonstration"}, services=services).get()
    return sandbox.transactions()[-1]


def _check_ledger(home: Path) -> None:
    with contextlib.closing(Ledger(home / "state" / LEDGER)) as ledger:
        jobs, verdicts = ledger.count_jobs(), ledger.count_verdicts()
    if (jobs[JobState.SUCCEEDED], sum(jobs.values()), verdicts[Verdict.OWN]) != (1, 1, 1):
        raise DemoError(f"one job should have succeeded, but the ledger shows {jobs} for {verdicts}")


def _compare(sandbox: Sandbox, before: int, after: int) -> None:
    """Print each file before and after, and insist that the plain-text ones are in upper case."""
    old, new = sandbox.read(before), sandbox.read(after)
    _say("")
    _say(f"Transaction {before}, as uploaded, and transaction {after}, as the consumer made it:")
    for name, content in sorted(old.items()):
        _say(f"  {name}: {_shown(content)} -> {_shown(new[name]) if name in new else 'left out'}")
    expected = {name: content.decode().upper().encode() for name, content in _FILES.items() if name.endswith(".txt")}
    if old != _FILES or new != expected:
        raise DemoError("the files of the new transaction are not those of the old one in upper case")
    key_values = Notification.parse(sandbox.notification(after)).key_values
    _say(f"  its key-values: {key_values}")
    if key_values != {"Transactions._id": before, PROVENANCE_KEY: _NAME}:
        raise DemoError("the new transaction does not carry the key-values that it should")
    if sandbox.transactions() != [before, after]:
        raise DemoError(f"there should be two transactions, but there are {sandbox.transactions()}")


def _shown(content: bytes) -> str:
    try:
        return repr(content.decode())
    except UnicodeDecodeError:
        return f"{len(content)} bytes"


def _timed(what: str, act: Callable[[], _T]) -> _T:
    started = time.monotonic()
    result = act()
    _say(f"[{time.monotonic() - started:6.2f} s] {what}")
    return result


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (the command's output)
