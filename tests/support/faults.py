"""A faulty server in place of a Pacifica service, and a faulty filter."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from pacifica_notifications_consumer import Filter
from pacifica_notifications_consumer.http.server import Handler, serve

Answer = Callable[[Handler, bytes], None]


class FaultServer:
    """Records requests, and answers them with `answer`."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = ""


@contextlib.contextmanager
def fault_server(answer: Answer) -> Iterator[FaultServer]:
    """Run a faulty server on loopback."""
    server = FaultServer(answer)

    class FaultHandler(Handler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            server.requests.append((self.command, self.path, dict(self.headers), body))
            server.answer(self, body)

        do_POST = do_PUT = do_DELETE = do_HEAD = do_GET

    with serve(FaultHandler, "127.0.0.1", 0) as listening:
        server.url = listening.url
        yield server


def replying(status: int, body: bytes = b"", **headers: Any) -> Answer:
    """Give the same answer to every request."""
    return lambda handler, _: handler.reply(status, body, **headers)


class FailingFilter(Filter):
    """A filter that cannot be evaluated on any event."""

    def __init__(self, jsonpath: str = '$["data"]') -> None:
        super().__init__(jsonpath)
        self._test = self._fail

    def _fail(self, _root: Any, _current: Any) -> bool:
        raise ValueError("it cannot be evaluated")

    def __reduce__(self) -> tuple[Callable[[str], Filter], tuple[str]]:
        return FailingFilter, (self.jsonpath,)
