"""Try a consumer on the sandbox: run its entry-point for a notification, and see what it made."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ..archive.archive import Consumer
from ..cloudevents.notification import PROVENANCE_KEY, Notification
from ..queue.job_runner import JobRunner
from ..settings.services import Services
from .sandbox import Sandbox

#: What the consumer is called, whose mark its uploads carry.
_NAME = "tried"
_SECONDS = 300.0


@attrs.frozen(kw_only=True)
class Outcome:
    """What became of a job.

    Args:
        status: The exit status of the entry-point; negative is a signal's number; None if nothing was run.
        output: What it printed.
        transactions: The numbers of the transactions that it made.
        files: The files of all of them, contents by ``subdir/name``.
        key_values: Their key-values, without the mark that names the consumer.
    """

    status: int | None
    output: str
    transactions: tuple[int, ...] = ()
    files: Mapping[str, bytes] = attrs.field(factory=dict)
    key_values: Mapping[str, Any] = attrs.field(factory=dict)


class TriedConsumer:
    """A consumer that is tried.

    Args:
        directory: Where it lies.
        sandbox: Where it downloads from and uploads to.
        home: A directory for what its jobs leave.
    """

    def __init__(self, directory: str | os.PathLike[str], sandbox: Sandbox, home: str | os.PathLike[str]) -> None:
        self._consumer = Consumer.load(directory)
        self._sandbox = sandbox
        self._home = home

    def matches(self, notification: Mapping[str, Any] | bytes) -> bool:
        """Whether its filter matches a notification."""
        event = Notification.parse(_body(notification)).event
        return self._consumer.filter is None or self._consumer.filter.matches(event)

    def run(self, notification: Mapping[str, Any] | bytes) -> Outcome:
        """Run the entry-point once, as the runner does, with the Python of this process.

        Raises:
            AssertionError: The entry-point failed, so that a test that expects nothing else fails with what it printed.
        """
        outcome = self.attempt(notification)
        if outcome.status != 0:
            ended = "was not run: the notification does not match" if outcome.status is None else "failed with"
            status = "" if outcome.status is None else f" exit status {outcome.status}"
            raise AssertionError(f"the entry-point {ended}{status}\n{outcome.output}")
        return outcome

    def attempt(self, notification: Mapping[str, Any] | bytes) -> Outcome:
        """Run the entry-point once, whatever may come of it."""
        before = set(self._sandbox.transactions())
        services = Services.from_environment(self._sandbox.environ() | {"PACIFICA_USERNAME": "tester"})
        state_dir = Path(tempfile.mkdtemp(dir=self._home))
        runner = JobRunner(
            self._consumer.entry_point,
            state_dir,
            name=_NAME,
            filter=self._consumer.filter,
            services=services,
            workers=1,
            warm=False,
            grace=0.0,
        )
        with runner:
            receipt = runner.accept(_body(notification))
            if receipt.job_id is None:
                return Outcome(status=None, output=receipt.reason or receipt.verdict.value)
            job = runner.wait(receipt, _SECONDS)
            output = runner.directory(job.id).output
            printed = output.read_text(encoding="utf-8", errors="replace") if output.exists() else job.reason
        made = tuple(sorted(set(self._sandbox.transactions()) - before))
        files: dict[str, bytes] = {}
        key_values: dict[str, Any] = {}
        for number in made:
            files |= self._sandbox.read(number)
            key_values |= Notification.parse(self._sandbox.notification(number)).key_values
        key_values.pop(PROVENANCE_KEY, None)
        return Outcome(status=job.exit_status, output=printed, transactions=made, files=files, key_values=key_values)


def _body(notification: Mapping[str, Any] | bytes) -> bytes:
    return notification if isinstance(notification, bytes) else json.dumps(notification).encode()
