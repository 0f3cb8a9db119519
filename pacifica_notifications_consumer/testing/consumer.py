"""Runs a consumer's entry-point for a notification of the sandbox and returns its output and uploads."""

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

#: The consumer's name, with which its uploads are marked.
_NAME = "tried"
_SECONDS = 300.0


@attrs.frozen(kw_only=True)
class Outcome:
    """The result of an attempt.

    Args:
        status: The exit status of the entry-point, or the negated number of the signal that ended it; None if the
            notification does not match and the entry-point did not run.
        output: The entry-point's output; without a run, the reason.
        reason: Why it failed or did not run, or what looks wrong about its success, as a text.
        transactions: The numbers of the transactions that it uploaded.
        files: The contents of all uploaded files by ``subdir/name``.
        key_values: The key-values of these transactions, without the consumer's name.
    """

    status: int | None
    output: str
    reason: str = ""
    transactions: tuple[int, ...] = ()
    files: Mapping[str, bytes] = attrs.field(factory=dict)
    key_values: Mapping[str, Any] = attrs.field(factory=dict)


class TriedConsumer:
    """A consumer under test.

    Args:
        directory: The consumer's directory.
        sandbox: The Pacifica to download from and upload to.
        home: A directory for the state directories of its jobs.
    """

    def __init__(self, directory: str | os.PathLike[str], sandbox: Sandbox, home: str | os.PathLike[str]) -> None:
        self._consumer = Consumer.load(directory)
        self._sandbox = sandbox
        self._home = home

    def matches(self, notification: Mapping[str, Any] | bytes) -> bool:
        """Whether the consumer's filter matches a notification."""
        event = Notification.parse(_body(notification)).event
        return self._consumer.filter is None or self._consumer.filter.matches(event)

    def run(self, notification: Mapping[str, Any] | bytes) -> Outcome:
        """Run the entry-point once, as the runner does, with the Python of this process.

        Raises:
            AssertionError: The notification does not match, or the entry-point failed; the message has its output.
        """
        outcome = self.attempt(notification)
        if outcome.status != 0:
            ended = "did not run: the notification does not match" if outcome.status is None else "failed"
            raise AssertionError(f"the entry-point {ended} ({outcome.reason})\n{outcome.output}")
        return outcome

    def attempt(self, notification: Mapping[str, Any] | bytes) -> Outcome:
        """Run the entry-point once, like `run`, and return the outcome even if it failed."""
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
            deferrals=0,
            warm=False,
            grace=0.0,
        )
        with runner:
            receipt = runner.accept(_body(notification))
            if receipt.job_id is None:
                reason = receipt.reason or receipt.verdict.value
                return Outcome(status=None, output=reason, reason=reason)
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
        return Outcome(
            status=job.exit_status,
            output=printed,
            reason=job.reason,
            transactions=made,
            files=files,
            key_values=key_values,
        )


def _body(notification: Mapping[str, Any] | bytes) -> bytes:
    return notification if isinstance(notification, bytes) else json.dumps(notification).encode()
