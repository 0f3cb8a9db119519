"""pacifica-notifications-consumer sandbox: an embedded Pacifica to be used from other shells."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.endtoend.conftest import KEEPER, START, TOOL, Command, Operator, pack, wait_until
from tests.support.machine.ports import free_ports
from tests.support.machine.waiting import DEADLINE

SERVICES = ("producer", "cartd", "ingest", "policy")
ANY_PORTS = [flag for service in SERVICES for flag in (f"--{service}-port", "0")]

#: A program that uploads as an author would in another shell.
UPLOAD = """\
import pathlib, sys
from pacifica_notifications_consumer import upload
home = pathlib.Path(sys.argv[1])
(home / "uploads").mkdir(parents=True, exist_ok=True)
(home / "uploads" / "a.txt").write_text("alpha")
rows = {"Transactions.submitter": 10, "Transactions.project": "1234a", "Transactions.instrument": 54}
print(upload(home, rows).get()["eventID"])
"""


def exported(command: Command) -> dict[str, str]:
    """The variables that the command tells its user to set."""
    command.wait_for("Stop it with Ctrl-C.")
    return dict(re.findall(r"^  export (\w+)=(\S+)$", command.stdout, re.MULTILINE))


def upload(operator: Operator, home: Path, variables: dict[str, str]) -> str:
    outcome = operator.run(sys.executable, "-c", UPLOAD, home, variables=variables)
    assert (outcome.status, outcome.stderr) == (0, "")
    return outcome.stdout.strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_it_serves_on_the_given_ports_until_a_signal(
    operator: Operator, tmp_path: Path, number: signal.Signals
) -> None:
    """What it tells to export are the ports that were asked for; a signal stops it with 0 and frees them."""
    ports = list(map(str, free_ports(4)))
    flags = [flag for service, port in zip(SERVICES, ports, strict=True) for flag in (f"--{service}-port", port)]
    command = operator.command(TOOL, "sandbox", tmp_path / "box", *flags)
    variables = exported(command)
    assert variables == {
        f"PACIFICA_{service.upper()}_URL": f"http://127.0.0.1:{port}"
        for service, port in zip(SERVICES, ports, strict=True)
    }
    assert upload(operator, tmp_path / "instrument", variables) == "metadata.ingest.1"
    outcome = command.stop(number)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert operator.leftovers() == []
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(port)), DEADLINE)


def test_it_continues_with_what_is_in_the_directory(operator: Operator, tmp_path: Path) -> None:
    """Transactions, numbers and subscriptions of the first run are there in the second."""
    first = operator.command(TOOL, "sandbox", tmp_path / "box", *ANY_PORTS)
    variables = exported(first)
    upload(operator, tmp_path / "one", variables)
    match = {"name": "kept", "jsonpath": '$["never"]', "target_url": "http://127.0.0.1:1"}
    user = {"Http-Remote-User": "alice"}
    producer = variables["PACIFICA_PRODUCER_URL"]
    requests.post(f"{producer}/eventmatch", json=match, headers=user, timeout=DEADLINE).raise_for_status()
    assert first.stop().status == 0
    second = operator.command(TOOL, "sandbox", tmp_path / "box", *ANY_PORTS)
    variables = exported(second)
    assert upload(operator, tmp_path / "two", variables) == "metadata.ingest.2"
    kept = requests.get(f"{variables['PACIFICA_PRODUCER_URL']}/eventmatch", headers=user, timeout=DEADLINE).json()
    assert [each["name"] for each in kept] == ["kept"]
    policy = variables["PACIFICA_POLICY_URL"]
    found = requests.get(f"{policy}/status/transactions/by_id/1", timeout=DEADLINE).json()
    assert [file["name"] for file in found["files"].values()] == ["a.txt"]
    assert second.stop().status == 0
    assert operator.leftovers() == []


@pytest.mark.skipif(sys.platform != "linux", reason="the start command needs Linux")
def test_the_start_command_works_on_it(operator: Operator, tmp_path: Path, quick_python: Path) -> None:
    """With the exported variables set, as the command says, a consumer is deployed and gets what is uploaded."""
    box = operator.command(TOOL, "sandbox", tmp_path / "box", *ANY_PORTS)
    variables = exported(box)
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": KEEPER})
    flags = ("--username", "alice", "--python", quick_python, "--state-dir", tmp_path / "state")
    consumer = operator.command(START, archive, *flags, variables=variables)
    consumer.wait_for("ready: ")
    upload(operator, tmp_path / "instrument", variables)
    consumer.wait_for("job 1: succeeded")
    assert consumer.stop().status == 0
    assert box.stop().status == 0
    said = box.stdout.partition("Stop it with Ctrl-C.")[2]
    assert "metadata.ingest.1 delivered to" in said
    assert operator.leftovers() == []


def test_as_of_2019(operator: Operator, tmp_path: Path) -> None:
    """With --as-of 2019 a project is a proposal, also in uploads from the shell; the directory stays of that year."""
    box = operator.command(TOOL, "sandbox", tmp_path / "box", "--as-of", "2019", *ANY_PORTS)
    exported(box)
    (tmp_path / "a.txt").write_text("alpha")
    saved = tmp_path / "notification.json"
    for expected in (1, 2):
        flags = ("--sandbox", tmp_path / "box", "--save", saved)
        outcome = operator.run(TOOL, "sandbox", "upload", tmp_path / "a.txt", *flags)
        assert (outcome.status, outcome.stdout.partition(":")[0]) == (0, f"transaction {expected}")
        notification = json.loads(saved.read_text())
        assert {"destinationTable": "Transactions.proposal", "value": "1234a"} in notification["data"]
        assert notification["source"] == "/pacifica/metadata/ingest"
        if expected == 1:
            assert box.stop().status == 0
    outcome = operator.run(TOOL, "sandbox", tmp_path / "box", "--as-of", "2018", *ANY_PORTS)
    assert (outcome.status, "invalid choice: 2018" in outcome.stderr) == (2, True)


def test_a_busy_port(operator: Operator, tmp_path: Path) -> None:
    """A port that another uses: status 71, the port named, the others closed again."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = str(holder.getsockname()[1])
        others = [*ANY_PORTS[:-2], "--policy-port", port]
        outcome = operator.run(TOOL, "sandbox", tmp_path / "box", *others)
    assert outcome.status == 71
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in outcome.error(TOOL)
    assert operator.leftovers() == []


def test_a_directory_that_cannot_be_used(operator: Operator, tmp_path: Path) -> None:
    """A file instead of a directory, and the directory of a running sandbox: status 73, and which one it is."""
    (tmp_path / "file").touch()
    outcome = operator.run(TOOL, "sandbox", tmp_path / "file", *ANY_PORTS)
    assert (outcome.status, str(tmp_path / "file") in outcome.error(TOOL)) == (73, True)
    first = operator.command(TOOL, "sandbox", tmp_path / "box", *ANY_PORTS)
    exported(first)
    second = operator.run(TOOL, "sandbox", tmp_path / "box", *ANY_PORTS)
    assert (second.status, str(tmp_path / "box") in second.error(TOOL)) == (73, True)
    assert first.stop().status == 0
    assert operator.leftovers() == []


def test_page_gets_another_port_if_its_own_is_taken(operator: Operator, tmp_path: Path) -> None:
    """The second sandbox on a machine says that port 8090 is in use, and where its page is instead."""

    def taken() -> socket.socket | None:
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", 8090))
        return None

    with ExitStack() as stack:
        # If another process has it, and keeps it, that is as good.
        with contextlib.suppress(AssertionError):
            stack.enter_context(wait_until(taken, "the port is ours"))
        command = operator.command(TOOL, "sandbox", tmp_path / "box", *ANY_PORTS)
        command.wait_for("Stop it with Ctrl-C.")
    assert "Port 8090 is in use" in command.stdout
    (page,) = re.findall(r"To upload files: (\S+) in", command.stdout)
    assert not page.endswith(":8090")
    assert requests.get(page, timeout=DEADLINE).status_code == 200


@pytest.mark.parametrize(("flag", "status"), [("--cartd-port=65536", 78), ("--cartd-port=x", 78), ("--no-port=1", 2)])
def test_a_wrong_command_line(operator: Operator, tmp_path: Path, flag: str, status: int) -> None:
    """A wrong value ends it with 78 and an unknown flag with 2, as with the start command; no directory is made."""
    outcome = operator.run(TOOL, "sandbox", tmp_path / "box", flag)
    assert (outcome.status, (tmp_path / "box").exists()) == (status, False)
    assert flag.partition("=")[0] in outcome.stderr
    assert operator.leftovers() == []


def test_stopping_with_an_open_connection(operator: Operator, tmp_path: Path) -> None:
    """A client that keeps its connection open does not keep the sandbox from stopping."""
    command = operator.command(TOOL, "sandbox", tmp_path / "box", *ANY_PORTS)
    url = exported(command)["PACIFICA_INGEST_URL"]
    port = int(url.rpartition(":")[2])
    with requests.Session() as session, socket.create_connection(("127.0.0.1", port)) as half:
        assert session.get(f"{url}/get_state?job_id=9", timeout=DEADLINE).status_code == 404
        half.sendall(b"POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nhalf")
        assert command.stop().status == 0
    assert command.stderr == ""
    wait_until(lambda: operator.leftovers() == [], "nothing left")
