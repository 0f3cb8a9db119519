"""The documented consumers behind web frameworks keep the rules of the endpoint."""

from __future__ import annotations

import json
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.endtoend.conftest import DEADLINE, Operator, event, jobs_in, send, wait_until
from tests.endtoend.doc_player import blocks
from tests.support.paths import ROOT

PROGRAMS = {
    info.split()[1]: code
    for info, code in blocks(ROOT / "docs" / "how-to" / "compose-your-own.md")
    if info.startswith("python behind_")
}
EVENT = {"specversion": "1.0", "type": "t", "source": "/s"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


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
    assert program.stop(signal.SIGINT).status == 0
    assert (sandbox.subscriptions(), operator.leftovers()) == ([], [])
