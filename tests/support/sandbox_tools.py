"""Helpers of the sandbox's tests: bundles to upload, a target that records deliveries, a recorder of sentences."""

from __future__ import annotations

import hashlib
import io
import json
import queue
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests

from pacifica_notifications_consumer.http.server import Handler, serve
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.support.machine.waiting import DEADLINE

TRANSACTION: list[dict[str, Any]] = [
    {"destinationTable": "Transactions.submitter", "value": 10},
    {"destinationTable": "Transactions.project", "value": "1234a"},
    {"destinationTable": "Transactions.instrument", "value": 54},
]
CONTENT = {"a.txt": b"alpha\n", "sub/b.txt": b"beta\n"}


def key_value(key: Any, value: Any) -> dict[str, Any]:
    return {"destinationTable": "TransactionKeyValue", "key": key, "value": value}


def file_record(path: str, content: bytes, **changes: Any) -> dict[str, Any]:
    subdir, _, name = path.rpartition("/")
    record = {
        "destinationTable": "Files",
        "name": name,
        "subdir": f"data/{subdir}",
        "size": len(content),
        "hashtype": "sha1",
        "hashsum": hashlib.sha1(content, usedforsecurity=False).hexdigest(),
        "mimetype": "text/plain",
        "ctime": "2020-01-02T03:04:05",
        "mtime": "2020-01-02T03:04:05",
        **changes,
    }
    return {key: value for key, value in record.items() if value is not None}


def records_of(files: Mapping[str, bytes], *more: dict[str, Any]) -> list[dict[str, Any]]:
    return [*TRANSACTION, *more, *(file_record(path, content) for path, content in files.items())]


def tar_of(members: Mapping[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def bundle(files: Mapping[str, bytes] = CONTENT, records: Any = None) -> bytes:
    """A bundle as the official uploader makes it."""
    metadata = json.dumps(records_of(files) if records is None else records).encode()
    return tar_of({**{f"data/{path}": content for path, content in files.items()}, "metadata.txt": metadata})


class Ear:
    """Records the sandbox's sentences, and waits for expected ones."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, sentence: str) -> None:
        with self._changed:
            self.sentences.append(sentence)
            self._changed.notify_all()

    def wait(self, *beginnings: str, count: int = 1) -> list[str]:
        """Wait for a number of sentences that begin like one of these."""

        def found() -> list[str]:
            return [sentence for sentence in self.sentences if sentence.startswith(beginnings)]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= count, DEADLINE), self.sentences
            return found()


def upload(sandbox: Sandbox, ear: Ear, body: bytes | Iterator[bytes]) -> dict[str, Any]:
    """Upload a bundle and return the state of the upload once it has ended."""
    answer = requests.post(f"{sandbox.ingest_url}/upload", data=body, timeout=DEADLINE)
    assert answer.status_code == 200
    number = answer.json()["job_id"]
    ear.wait(f"upload {number} failed", f"transaction {number} complete")
    return state_of(sandbox, number)


def state_of(sandbox: Sandbox, number: int) -> dict[str, Any]:
    params = {"job_id": str(number)}
    state: dict[str, Any] = requests.get(f"{sandbox.ingest_url}/get_state", params=params, timeout=DEADLINE).json()
    return state


def subscribe(sandbox: Sandbox, target_url: str, *, user: str = "alice", **changes: Any) -> dict[str, Any]:
    body = {"name": "mine", "jsonpath": '$["data"]', "target_url": target_url, **changes}
    answer = eventmatch(sandbox, "POST", json=body, user=user)
    assert answer.status_code == 200, answer.text
    subscription: dict[str, Any] = answer.json()
    return subscription


def eventmatch(
    sandbox: Sandbox, method: str, name: str = "", *, user: str = "alice", **arguments: Any
) -> requests.Response:
    url = f"{sandbox.producer_url}/eventmatch" + (f"/{name}" if name else "")
    headers = {"Http-Remote-User": user, **arguments.pop("headers", {})}
    return requests.request(method, url, headers=headers, timeout=DEADLINE, **arguments)


class Target:
    """A consumer's endpoint that records each delivery and gives a configured answer."""

    def __init__(self) -> None:
        self.url = ""
        self.reset()

    def reset(self) -> None:
        """Discard the recorded deliveries, and answer with 202 at once."""
        self.status = 202
        self.answer = b""
        self.headers: dict[str, str] = {}
        self.requests: queue.Queue[tuple[str, dict[str, str], bytes]] = queue.Queue()
        self.gate = threading.Event()
        self.gate.set()

    def next(self) -> tuple[str, dict[str, str], bytes]:
        """Wait for a delivery: its method and path, its headers, its body."""
        return self.requests.get(timeout=DEADLINE)

    def next_event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.next()[2])
        return event


@contextmanager
def target() -> Iterator[Target]:
    here = Target()

    class Recorder(Handler):
        def do_POST(self) -> None:
            body = self.read_body() if self.headers.get("Content-Length") else b""
            here.requests.put((f"{self.command} {self.path}", dict(self.headers.items()), body))
            here.gate.wait(DEADLINE)
            self.close_connection = True
            if self.path.startswith("/redirect/"):
                self.reply(int(self.path.removeprefix("/redirect/")), Location="/end")
            else:
                self.reply(here.status, here.answer, "text/plain", **here.headers)

        do_GET = do_POST

    with serve(Recorder, "127.0.0.1", 0) as server:
        here.url = f"{server.url}/receive"
        try:
            yield here
        finally:
            here.gate.set()
