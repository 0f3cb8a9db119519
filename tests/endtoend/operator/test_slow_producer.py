"""Stopping the start command while the producer takes its time, or does not answer at all."""

from __future__ import annotations

import signal
import socket
import threading
from pathlib import Path

import pytest
import requests

from tests.endtoend.conftest import DEADLINE, KEEPER, START, Operator, pack, wait_until
from tests.endtoend.recorder import Answer, Request, recording
from tests.support.machine.ports import free_port


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A consumer of every notification."""
    return pack(tmp_path / "consumer.zip", {"__main__.py": KEEPER})


def test_a_signal_while_the_producer_thinks_leaves_no_subscription(
    operator: Operator, archive: Path, quick_python: Path
) -> None:
    """A stop in the middle of step 6 deletes the subscription that the producer makes of it; until then not ready."""
    answer_now = threading.Event()
    answering: list[threading.Thread] = []

    def slow_producer(request: Request) -> Answer:
        if request.method == "POST":
            answering.append(threading.current_thread())
            answer_now.wait(DEADLINE)
        if request.method == "GET":
            return 403, b"{}", "application/json"
        return 200, b'{"uuid": "u-u-i-d"}', "application/json"

    port = str(free_port())
    with recording(slow_producer) as producer:
        flags = ("--python", quick_python, "--port", port, "--producer-url", producer.url)
        command = operator.command(START, archive, "--username", "alice", *flags)
        wait_until(lambda: answering, "the registration")
        ready, well = (
            requests.get(f"http://127.0.0.1:{port}/{each}", timeout=DEADLINE) for each in ("readyz", "healthz")
        )
        # After the signal it waits for the answer for two seconds of its own time, in which it need not be sent yet.
        for number in (signal.SIGSTOP, signal.SIGTERM):
            command.process.send_signal(number)
        answer_now.set()
        answering[0].join(DEADLINE)
        command.process.send_signal(signal.SIGCONT)
        outcome = command.end()
    assert (ready.status_code, well.status_code) == (503, 200)
    assert outcome.status in (0, 130)
    assert [(request.method, request.path) for request in producer.requests] == [
        ("GET", "/eventmatch"),
        ("POST", "/eventmatch"),
        ("DELETE", "/eventmatch/u-u-i-d"),
    ]
    assert outcome.status == 0 or outcome.error(START)
    assert operator.leftovers() == []


def test_a_second_signal_does_not_wait_for_the_producer(operator: Operator, archive: Path, quick_python: Path) -> None:
    """When the producer does not answer to the end of the subscription, a second signal leaves it behind."""
    asked, over = threading.Event(), threading.Event()

    def silent_at_the_end(request: Request) -> Answer:
        if request.method == "GET":
            return 403, b"{}", "application/json"
        if request.method == "DELETE":
            asked.set()
            over.wait(DEADLINE)
        return 200, b'{"uuid": "u-u-i-d"}', "application/json"

    with recording(silent_at_the_end) as producer:
        flags = ("--username", "alice", "--python", quick_python, "--producer-url", producer.url)
        command = operator.command(START, archive, *flags)
        command.wait_for("ready: ")
        command.process.send_signal(signal.SIGTERM)
        assert asked.wait(DEADLINE)
        outcome = command.stop()
        over.set()
    assert outcome.status == 130
    assert "without an answer from Pacifica; the producer may keep the subscription" in outcome.stderr
    assert operator.leftovers() == []


def test_a_signal_does_not_wait_for_the_producer(operator: Operator, archive: Path, quick_python: Path) -> None:
    """A producer that never answers keeps nobody from stopping the start, with everything undone."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        flags = ("--username", "alice", "--python", quick_python, "--producer-url", url)
        command = operator.command(START, archive, *flags)
        silent.settimeout(DEADLINE)
        connection, _ = silent.accept()
        with connection:
            connection.recv(1)
            outcome = command.stop()
    assert outcome.status == 130
    assert operator.leftovers() == []
