"""The start command in bad weather: killed, switched off by the producer, out of disk, behind TLS."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import uuid
from pathlib import Path

import pytest
import requests
import trustme

from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.ledger.ledger import Ledger
from pacifica_notifications_consumer.subscription.incident import IncidentKind
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.endtoend.conftest import START, WAITER, Deployment, Operator, event, pack, send, wait_until
from tests.support.machine import reaper
from tests.support.machine.ports import free_ports
from tests.support.machine.waiting import DEADLINE


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return pack(tmp_path / "consumer.zip", {"__main__.py": WAITER})


def incidents(deployment: Deployment) -> list[IncidentKind]:
    with contextlib.closing(Ledger(deployment.state_dir / "ledger.sqlite3")) as ledger:
        return [incident.kind for incident in ledger.incidents(100)]


def test_killed_and_started_again(operator: Operator, sandbox: Sandbox, archive: Path, quick_python: Path) -> None:
    """After a kill -9 the next start ends what is left, runs the jobs again, and takes the subscription over."""
    first = Deployment(operator, sandbox, archive, "--python", quick_python, "--workers", "1")
    # Until it is ready, the warm process shows the entry-point in its command line, too.
    first.command.wait_for("entry-points start warm")
    for number in (1, 2):
        first.post(event(number))
    _, directory = first.job(1, JobState.RUNNING)
    wait_until((directory / "outgoing" / "began").exists, "the entry-point runs")
    survivors = {pid for pid, line in operator.processes().items() if "__main__.py" in line}
    first.command.stop(signal.SIGKILL)
    assert len(survivors) == 1
    wait_until(lambda: operator.processes().keys() == survivors, "the warm process has ended by itself")
    (leftover,) = sandbox.subscriptions()
    for path in operator.tmp.iterdir():
        os.utime(path, (0, 0))  # those of a minute ago might be in the making
    again = operator.command(
        START, archive, "--username", "alice", "--name", "tested", "--state-dir", first.state_dir,
        "--python", quick_python, "--workers", "1", variables=sandbox.environ(),
    )  # fmt: skip
    again.wait_for("ready: ")
    assert not survivors & operator.processes().keys()
    (adopted,) = sandbox.subscriptions()
    assert adopted["uuid"] == leftover["uuid"]
    assert adopted["target_url"] != leftover["target_url"]
    for number in (1, 2):
        first.let_end(number)
        job, _ = first.job(number)
        assert (job.attempts, job.crashes) == (1, 2 - number)
    assert "processes that the previous run left behind were ended: 1" in again.stderr
    assert "an earlier run had left its subscription behind" in again.stderr
    assert again.stop().status == 0
    assert operator.leftovers() == []
    assert sandbox.subscriptions() == []


def test_switched_off_by_the_producer(
    operator: Operator, sandbox: Sandbox, archive: Path, quick_python: Path, tmp_path: Path
) -> None:
    """A subscription that the producer switches off is mended without anybody's doing, and the next upload arrives."""
    deployment = Deployment(operator, sandbox, archive, "--python", quick_python, "--watch-interval", "0.1")
    sandbox._producer.subscriptions.disable(deployment.subscription["uuid"], "it did not like an answer")
    deployment.command.wait_for("the producer had switched the subscription off")
    wait_until(lambda: incidents(deployment) == [IncidentKind.DISABLED], "the incident is in the ledger")
    send(sandbox, tmp_path / "upload", {"a.txt": b"text"})
    deployment.let_end(1)
    deployment.job(1)
    assert deployment.get("/readyz") == (200, b"ok\n")
    assert deployment.command.stop().status == 0


def test_producer_that_comes_later(operator: Operator, archive: Path, quick_python: Path, tmp_path: Path) -> None:
    """A start before the producer's waits for it, with the endpoint up."""
    producer_port, port = free_ports(2)
    url = f"http://127.0.0.1:{producer_port}"
    flags = ("--username", "alice", "--python", quick_python, "--port", str(port), "--producer-url", url)
    command = operator.command(START, archive, *flags)
    command.wait_for("trying again in")
    assert requests.get(f"http://127.0.0.1:{port}/healthz", timeout=DEADLINE).status_code == 200
    assert requests.get(f"http://127.0.0.1:{port}/readyz", timeout=DEADLINE).status_code == 503
    with Sandbox(tmp_path / "sandbox", users={"alice": 10}, producer_port=producer_port) as sandbox:
        command.wait_for("ready: ")
        assert len(sandbox.subscriptions()) == 1
        assert command.stop().status == 0


def test_stop_while_the_producer_is_awaited(operator: Operator, archive: Path, quick_python: Path) -> None:
    """A signal ends the waiting for the producer at once, and everything is undone."""
    flags = ("--username", "alice", "--python", quick_python, "--producer-url", "http://127.0.0.1:1")
    command = operator.command(START, archive, *flags)
    command.wait_for("trying again in")
    assert command.stop().status == 130
    assert operator.leftovers() == []


@pytest.mark.parametrize("auth", ["bearer", "basic"])
def test_secured_endpoint(
    operator: Operator, sandbox: Sandbox, archive: Path, quick_python: Path, tmp_path: Path, auth: str
) -> None:
    """With a certificate the endpoint speaks TLS only, and the producer is told so, and what it has to show."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    flags = ("--python", quick_python, "--tls-cert", tmp_path / "both.pem", "--endpoint-auth", auth)
    deployment = Deployment(operator, sandbox, archive, *flags)
    target, shown = deployment.subscription["target_url"], deployment.subscription["auth"]
    assert target.startswith("https://")
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(tmp_path / "authority.pem")
        if auth == "basic":
            session.auth = (shown["basic"]["username"], shown["basic"]["password"])
        else:
            session.headers["Authorization"] = f"{shown['header']['type']} {shown['header']['credentials']}"
        assert session.post(target, data=event(1), timeout=DEADLINE).status_code == 202
    deployment.let_end(1)
    deployment.job(1)
    with pytest.raises(requests.ConnectionError):
        requests.get(deployment.url.replace("https", "http") + "/healthz", timeout=DEADLINE)
    assert deployment.command.stop().status == 0


def full_disk(place: Path) -> bool:
    """Have a small disk of its own, where that is allowed."""
    place.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)]
    mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    if mounted:
        reaper.unmount(place)
    return mounted


def test_full_disk(operator: Operator, sandbox: Sandbox, archive: Path, quick_python: Path, tmp_path: Path) -> None:
    """A full disk is answered with 500; nothing is lost, and it goes on by itself when there is room again."""
    disk = tmp_path / "disk"
    if not full_disk(disk):
        pytest.skip("no file system can be mounted here")
    try:
        flags = ("--python", quick_python, "--state-dir", disk, "--workers", "1", "--grace", "0")
        deployment = Deployment(operator, sandbox, archive, *flags)
        deployment.state_dir = disk
        waiting = deployment.post(event(99)).json()["job"]
        deployment.job(waiting, JobState.RUNNING)
        for path in ("ballast", "more"):
            with contextlib.suppress(OSError), (disk / path).open("wb") as ballast:
                while True:
                    ballast.write(b"x" * 1000)
                    ballast.flush()
        statuses = [deployment.post(event(number, padding="x" * 20_000)).status_code for number in range(1, 20)]
        assert set(statuses) <= {202, 500}
        assert 500 in statuses
        assert "make room on the disk" in deployment.command.stderr or "No space left" in deployment.command.stderr
        for path in ("ballast", "more"):
            (disk / path).unlink()
        assert deployment.post(event(100)).status_code == 202
        accepted = statuses.count(202) + 2
        assert deployment.verdicts() == {"matched": accepted}
        assert deployment.command.stop(signal.SIGTERM).status == 0
        assert sum(deployment.jobs().values()) == accepted
    finally:
        operator.close()
        subprocess.run(["/bin/umount", "-l", str(disk)], check=True)


def test_state_directory_that_cannot_be_written(
    operator: Operator, archive: Path, tmp_path: Path, quick_python: Path
) -> None:
    """A read-only state directory is refused at the start, in words."""
    place = tmp_path / "read-only"
    if not full_disk(place):
        pytest.skip("no file system can be mounted here")
    try:
        subprocess.run(["/bin/mount", "-o", "remount,ro", str(place)], check=True)
        outcome = operator.run(
            START, archive, "--username", "alice", "--state-dir", place, "--producer-url", "http://127.0.0.1:1",
            "--python", quick_python,
        )  # fmt: skip
        assert outcome.status == 73
        assert "cannot use the state directory" in outcome.error(START)
        assert "Read-only file system; choose another with --state-dir (PACIFICA_STATE_DIR)" in outcome.error(START)
    finally:
        subprocess.run(["/bin/umount", "-l", str(place)], check=True)


def test_supervised(operator: Operator, sandbox: Sandbox, archive: Path, quick_python: Path) -> None:
    """Systemd is told when it is ready, that it lives, and when it stops; the entry-point has nothing to tell it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        name = str(uuid.uuid4())
        # A name in the abstract namespace, since a path may be too long for a socket.
        systemd.bind(f"\0{name}")
        # The system keeps ten messages at most, and further ones are dropped: they are read as they come.
        said: list[bytes] = []
        listening = threading.Thread(target=lambda: said.extend(iter(lambda: systemd.recv(4096), b"")))
        listening.start()
        variables = {"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "2000000"} | sandbox.environ()
        flags = ("--username", "alice", "--python", quick_python, "--state-dir", operator.home / "state")
        command = operator.command(START, archive, *flags, variables=variables)
        try:
            wait_until(lambda: len(said) >= 2, "a sign of life")
            assert command.stop().status == 0
        finally:
            systemd.sendto(b"", f"\0{name}")
            listening.join()
    status = b"STATUS=0 jobs running, 0 waiting, 0 dead"
    stopping = b"STOPPING=1\nSTATUS=giving running jobs time to end"
    assert said == [b"READY=1\n" + status, *[b"WATCHDOG=1\n" + status] * (len(said) - 2), stopping]
    assert len(said) > 2
