"""The documented consumers behind web frameworks keep the rules of the endpoint."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests
import uvicorn
from werkzeug.serving import make_server

from pacifica_notifications_consumer.endpoint import Endpoint
from pacifica_notifications_consumer.jobs.job import Receipt, Verdict
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from pacifica_notifications_runner.endpoint import listening
from tests.endtoend.conftest import DEADLINE, Operator, event, jobs_in, send, wait_until
from tests.endtoend.doc_player import blocks
from tests.support.endpoint_tools import TOKEN
from tests.support.http_tools import connect, rest_of
from tests.support.machine.ports import free_port
from tests.support.paths import ROOT

PROGRAMS = {
    info.split()[1]: code
    for info, code in blocks(ROOT / "docs" / "how-to" / "compose-your-own.md")
    if info.startswith("python behind_")
}
EVENT = {"specversion": "1.0", "type": "t", "source": "/s"}


@pytest.mark.parametrize("name", ["behind_flask.py", "behind_fastapi.py"])
def test_consumer_behind_a_framework(operator: Operator, sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    """The page's program takes what the producer posts, keeps strangers out, and ends without a trace."""
    port = free_port()
    (operator.home / name).write_text(PROGRAMS[name].replace("8088", str(port)))
    (operator.home / "__main__.py").touch()
    state, url = operator.home / name.removesuffix(".py").replace("_", "-"), f"http://127.0.0.1:{port}"
    program = operator.command(sys.executable, name, variables=sandbox.environ() | {"PACIFICA_USERNAME": "alice"})

    def ready() -> bool:
        assert program.process.poll() is None, program.stderr
        return bool(sandbox.subscriptions()) and requests.get(f"{url}/readyz", timeout=DEADLINE).status_code == 200

    wait_until(ready, "the consumer is ready")
    (subscription,) = sandbox.subscriptions()

    def post(body: bytes | Any, token: str, **headers: str) -> requests.Response:
        fields = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"} | headers
        return requests.post(f"{url}/receive", data=body, headers=fields, timeout=DEADLINE)

    token = subscription["auth"]["header"]["credentials"]
    # What the producer itself posts.
    send(sandbox, tmp_path / "instrument", {"a.txt": b"alpha"})
    wait_until(lambda: jobs_in(state) == {"succeeded": 1}, "the transaction's job has succeeded")
    # Strangers, and what is not for this resource.
    wrong = post(event(1), "wrong")
    assert (wrong.status_code, wrong.headers["Content-Type"]) == (401, "application/problem+json")
    assert "Basic" in wrong.headers["WWW-Authenticate"]
    asked = requests.options(f"{url}/receive", timeout=DEADLINE)
    assert (asked.status_code, asked.headers["Allow"]) == (204, "POST, OPTIONS")
    # A small notification, a large one that comes in many pieces, and the modes of CloudEvents.
    taken = post(event(7), token)
    assert (taken.status_code, taken.json()) == (202, {"notification": 2, "verdict": "matched", "job": 2})
    assert post(event(8, padding="x" * 1_000_000), token).json()["job"] == 3
    chunks = iter([event(9)[:10], event(9)[10:]])
    assert post(chunks, token).json()["job"] == 4
    binary = post(b"{}", token, **{f"ce-{key}": value for key, value in (EVENT | {"id": "b"}).items()})
    assert binary.json()["verdict"] == "matched"
    batch = {"Content-Type": "application/cloudevents-batch+json"}
    two = post(json.dumps([EVENT | {"id": number} for number in "cd"]).encode(), token, **batch)
    assert [each["verdict"] for each in two.json()["notifications"]] == ["matched"] * 2
    # A request that announces more than is allowed is refused before it is read.
    large = post(b"", token, **{"Content-Length": str(1 << 40)})
    assert large.status_code == 413
    assert program.stop(signal.SIGTERM).status == 0
    assert (sandbox.subscriptions(), operator.leftovers()) == ([], [])


def accept(events: Sequence[bytes], _: Sequence[str]) -> list[Receipt]:
    return [Receipt(notification_id=1, verdict=Verdict.UNMATCHED) for _ in events]


@contextlib.contextmanager
def behind_flask(program: ModuleType) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, program.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


@contextlib.contextmanager
def behind_fastapi(program: ModuleType) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(program.app, log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def post(*fields: str, body: str = "{}", target: str = "/receive") -> bytes:
    return ask(f"POST {target}", *fields, body=body)


def ask(line: str, *fields: str, body: str = "") -> bytes:
    head = [f"{line} HTTP/1.1", "Host: h", "Connection: close", f"Authorization: Bearer {TOKEN}", *fields]
    return "\r\n".join([*head, "", body]).encode()


def essence(answer: bytes) -> dict[str, Any]:
    """The parts of a response that have to be alike."""
    head, _, body = answer.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    fields = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
    return {
        "status": int(line.split()[1]),
        "type": fields.get("content-type"),
        "length": fields.get("content-length"),
        "allow": set(fields.get("allow", "").split(", ")),
        "body": body,
    }


LENGTH, CHUNKED = "Content-Length: 2", "Transfer-Encoding: chunked"
BATCH = "Content-Type: application/cloudevents-batch+json"
#: What the server or the framework answers itself, by the name of the program: the status must be alike, or is this.
REQUESTS: list[tuple[bytes, dict[str, int | None]]] = [
    (post(LENGTH), {}),
    (post(LENGTH, BATCH), {}),
    (post(CHUNKED, body="2\r\n{}\r\n0\r\n\r\n"), {}),
    # The words are those of the framework that reads the chunks.
    (post(CHUNKED, body="zz\r\n{}\r\n0\r\n\r\n"), {"behind_flask": None, "behind_fastapi": None}),
    (post(CHUNKED, body="-2\r\n{}\r\n0\r\n\r\n"), {"behind_flask": None, "behind_fastapi": None}),
    (post(CHUNKED, body="1\r\n{}\r\n0\r\n\r\n"), {"behind_flask": None, "behind_fastapi": None}),
    (post(), {}),
    (post("Content-Length: x2"), {"behind_fastapi": None}),
    (post("Content-Length: -2"), {"behind_fastapi": None}),
    (post("Content-Length: 2, 3"), {"behind_fastapi": None}),
    (post(f"Content-Length: {'9' * 30}"), {"behind_fastapi": 400}),
    (post(LENGTH, CHUNKED, body="2\r\n{}\r\n0\r\n\r\n"), {}),
    (post("Transfer-Encoding: gzip"), {"behind_fastapi": 400}),
    (post(CHUNKED, CHUNKED, body="2\r\n{}\r\n0\r\n\r\n"), {"behind_fastapi": 400}),
    (ask("OPTIONS /receive"), {}),
    (ask("OPTIONS /readyz"), {}),
    (ask("GET /readyz"), {}),
    (ask("HEAD /readyz"), {}),
    (ask("GET /receive"), {"behind_flask": None, "behind_fastapi": None}),
    (ask("BREW /receive"), {"behind_flask": None, "behind_fastapi": None}),
    (ask("PROPFIND /readyz"), {"behind_flask": None, "behind_fastapi": None}),
    (ask("GET /elsewhere"), {"behind_flask": None, "behind_fastapi": None}),
    (post(LENGTH, target="/%72eceive"), {}),
    (post(LENGTH, target="http://h/receive"), {"behind_fastapi": 404}),
    (ask("GET http://h/%72eadyz?a"), {"behind_fastapi": 404}),
]


@pytest.mark.parametrize("serve", [behind_flask, behind_fastapi])
def test_both_ways_answer_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Any) -> None:
    """A request is answered behind a framework as by the start command, unless the framework refuses it itself."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "__main__.py").touch()
    program = ModuleType(serve.__name__)
    monkeypatch.setitem(sys.modules, program.__name__, program)
    exec(PROGRAMS[f"{program.__name__}.py"], program.__dict__)  # noqa: S102  (the page's program)
    program.endpoint.accept, program.endpoint.token, program.endpoint.ready = accept, TOKEN, True
    with listening(Endpoint(accept, TOKEN, ready=True), "127.0.0.1", 0) as server, serve(program) as url:
        for request, own in REQUESTS:
            expected, answered = (essence(exchange(place, request)) for place in (server.url, url))
            if program.__name__ not in own:
                assert answered == expected, request
                continue
            assert answered["status"] == (own[program.__name__] or expected["status"]), request
            assert answered["allow"] == expected["allow"], request


def exchange(url: str, request: bytes) -> bytes:
    with connect(url) as connection:
        connection.sendall(request)
        return rest_of(connection)
