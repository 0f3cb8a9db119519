"""Read large notifications in other processes, so that megabytes of JSON keep nobody waiting.

Python reads JSON in one go, during which no other thread of the process runs: 10 ms for 5,000 files, 250 ms for
100,000. So bodies above a size go through a pipe to a process that does nothing else.
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

#: Bytes from which a body is worth the way to another process and back.
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
    """Reads notifications: the small ones here, the large ones in other processes, which are started when needed.

    Args:
        triage: Judges them.
    """

    def __init__(self, triage: Triage) -> None:
        self._triage = triage
        self._room = threading.BoundedSemaphore(_PROCESSES)
        self._idle: collections.deque[_Reader] = collections.deque()

    def decide(self, body: bytes) -> Decision:
        """Triage a notification."""
        decision: Decision = self._ask("decide", body)
        return decision

    def folders(self, body: bytes) -> frozenset[str]:
        """The folders of the notification's files.

        Raises:
            NotificationError: One of them would lead elsewhere.
        """
        folders: frozenset[str] = self._ask("folders", body)
        return folders

    def transaction(self, answer: bytes, identity: Identity) -> TriagedTransaction | None:
        """Triage a transaction of which policy told, as `triage_transaction` does.

        Raises:
            NotificationError: policy could not tell, or not all.
        """
        lines = (identity.source.encode(), identity.event_id.encode(), answer)
        announced: TriagedTransaction | None = self._ask("transaction", b"\n".join(lines))
        return announced

    def _ask(self, question: str, body: bytes) -> Any:
        if len(body) < _LARGE:
            return _QUESTIONS[question](self._triage, body)
        try:
            answer = self._ask_aside(question, body)
        except (OSError, EOFError) as error:
            # It was killed, or there is no room for another process: slower is better than not at all.
            log.warning("a notification of %d bytes is read in this process, which slows it: %r", len(body), error)
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
        """End the processes; nobody may be asking."""
        while self._idle:
            self._idle.pop().close()


class _Reader:
    """One of the processes. It ends by itself when this one does, since its input ends then."""

    def __init__(self, triage: Triage) -> None:
        self._popen = start_module(__name__, stdout=subprocess.PIPE)
        try:
            self._send(pickle.dumps(triage))
        except BaseException:
            self.close()
            raise

    def ask(self, question: str, body: bytes) -> Any:
        assert self._popen.stdout  # noqa: S101  (tells mypy what PIPE means)
        self._send(question.encode())
        self._send(body)
        return pickle.loads(_receive(self._popen.stdout))  # noqa: S301  (our own process wrote it)

    def _send(self, data: bytes) -> None:
        assert self._popen.stdin  # noqa: S101
        self._popen.stdin.write(_LENGTH.pack(len(data)))
        self._popen.stdin.write(data)
        self._popen.stdin.flush()

    def close(self) -> None:
        self._popen.kill()
        # Closing would flush what the process has not read.
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


def _receive(pipe: IO[bytes]) -> bytes:
    header = pipe.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        raise EOFError("the process that reads it has ended")
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
        data = pickle.dumps(answer)
        answers.write(_LENGTH.pack(len(data)) + data)
        answers.flush()


if __name__ == "__main__":
    _main()
