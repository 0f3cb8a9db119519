"""Parses large notifications in other processes, so that megabytes of JSON do not block the threads of this one.

While Python parses JSON, no other thread of the process runs: for 10 ms with 5,000 files, for 250 ms with 100,000. So
large bodies are piped to processes that do nothing else.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import pickle
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import IO, Any

from ..cloudevents.announcement import Identity
from ..cloudevents.notification import Notification
from ..errors import PacificaError
from ..system.processes import start_module
from .triage import Decision, Triage, TriagedTransaction, triage_transaction

log = logging.getLogger(__name__)

#: Size in bytes from which sending a body to another process pays off.
_LARGE = 64 << 10
_PROCESSES = max(1, min(4, os.cpu_count() or 1))
_LENGTH = struct.Struct("!Q")


def _folders(_: Triage, body: bytes) -> frozenset[str]:
    return Notification.parse(body).folders


def _transaction(triage: Triage, asked: bytes) -> TriagedTransaction | None:
    source, event_id, answer = asked.split(b"\n", 2)
    return triage_transaction(triage, answer, Identity(source=source.decode(), event_id=event_id.decode()))


_QUESTIONS: Mapping[str, Callable[[Triage, bytes], Any]] = {
    "decide": Triage.decide,
    "folders": _folders,
    "transaction": _transaction,
}


class Readers:
    """Parses and triages small notifications in this process, large ones in others, which start when needed."""

    def __init__(self, triage: Triage) -> None:
        self._triage = triage
        self._room = threading.BoundedSemaphore(_PROCESSES)
        self._idle: collections.deque[_Reader] = collections.deque()

    def decide(self, body: bytes) -> Decision:
        """Triage a notification."""
        decision: Decision = self._ask("decide", body)
        return decision

    def folders(self, body: bytes) -> frozenset[str]:
        """The folders of the notification's files; NotificationError if one would be outside the job's directory."""
        folders: frozenset[str] = self._ask("folders", body)
        return folders

    def transaction(self, answer: bytes, identity: Identity) -> TriagedTransaction | None:
        """See `triage_transaction`."""
        lines = (identity.source.encode(), identity.event_id.encode(), answer)
        announced: TriagedTransaction | None = self._ask("transaction", b"\n".join(lines))
        return announced

    def _ask(self, question: str, body: bytes) -> Any:
        if len(body) < _LARGE:
            return _QUESTIONS[question](self._triage, body)
        try:
            answer = self._ask_aside(question, body)
        except (OSError, EOFError) as error:
            # The process was killed, or no further process can start: parse slowly rather than not at all.
            log.warning(
                "a notification of %d bytes is parsed in this process, which slows all others: %r", len(body), error
            )
            return _QUESTIONS[question](self._triage, body)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ask_aside(self, question: str, body: bytes) -> Any:
        with self._room:
            reader = self._idle.pop() if self._idle else _Reader(self._triage)
            try:
                answer = reader.ask(question, body)
            except BaseException:
                reader.close()
                raise
            self._idle.append(reader)
            return answer

    def close(self) -> None:
        """End the processes; no other thread may be using them."""
        while self._idle:
            self._idle.pop().close()


class _Reader:
    """A process that parses notifications; it ends when this process does, because its standard input is closed."""

    def __init__(self, triage: Triage) -> None:
        self._popen = start_module(__name__, stdout=subprocess.PIPE)
        assert self._popen.stdin and self._popen.stdout  # noqa: S101  (tells mypy what PIPE means)
        self._requests, self._answers = self._popen.stdin, self._popen.stdout
        try:
            _send(self._requests, pickle.dumps(triage))
        except BaseException:
            self.close()
            raise

    def ask(self, question: str, body: bytes) -> Any:
        _send(self._requests, question.encode())
        _send(self._requests, body)
        return pickle.loads(_receive(self._answers))  # noqa: S301  (our own process wrote it)

    def close(self) -> None:
        self._popen.kill()
        # Wait first: closing a pipe flushes data, which blocks while the process lives but does not read.
        self._popen.wait()
        for pipe in (self._requests, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()


def _send(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(_LENGTH.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes:
    header = pipe.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        raise EOFError("the process that parses notifications has ended")
    return pipe.read(_LENGTH.unpack(header)[0])


def _main() -> None:
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    triage: Triage = pickle.loads(_receive(requests))  # noqa: S301  (our own process wrote it)
    while True:
        try:
            question = _receive(requests).decode()
        except EOFError:
            return
        answer: Any
        try:
            answer = _QUESTIONS[question](triage, _receive(requests))
        except PacificaError as error:
            answer = error
        _send(answers, pickle.dumps(answer))


if __name__ == "__main__":
    _main()
