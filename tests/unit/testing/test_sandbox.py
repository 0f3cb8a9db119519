from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pacifica_notifications_consumer.errors import ConfigurationError, EndpointError, StateError
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.testing.sandbox.sandbox import AS_OF, Sandbox
from pacifica_notifications_consumer.transfer.uploader import upload as send
from tests.support.machine.waiting import DEADLINE
from tests.support.paths import NOTIFICATIONS
from tests.support.sandbox_tools import (
    CONTENT,
    TRANSACTION,
    Ear,
    bundle,
    eventmatch,
    state_of,
    subscribe,
    target,
    upload,
)


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def sandbox(tmp_path: Path, ear: Ear) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "sandbox", on_event=ear) as running:
        yield running


def test_it_stores_what_is_uploaded(sandbox: Sandbox, ear: Ear) -> None:
    """A transaction's files can be read by the names in its notification."""
    upload(sandbox, ear, bundle())
    assert (sandbox.transactions(), sandbox.read(1)) == ([1], CONTENT)


def test_a_notification_is_what_a_real_one_is(sandbox: Sandbox, ear: Ear) -> None:
    """The event has the same fields, order and values as one captured from the real services."""
    captured = NOTIFICATIONS / "ingest-nested-files.json"
    real = json.loads(captured.read_bytes())
    upload(sandbox, ear, bundle())
    ours = json.loads(sandbox.notification(1))
    assert list(ours) == list(real)
    assert {**ours, "eventTime": real["eventTime"], "data": real["data"]} == real
    assert [list(record) for record in ours["data"]][-2:] == [list(record) for record in real["data"]][-2:]
    assert ours["data"][:3] == TRANSACTION
    assert [(f["_id"], f["subdir"], f["name"]) for f in ours["data"][3:5]] == [(1, "", "a.txt"), (2, "sub", "b.txt")]
    assert ours["data"][-1] == {"destinationTable": "Transactions._id", "value": 1}
    assert len(ours["eventTime"]) == len("2026-11-24T00:14:31")


def test_what_it_does_not_hold_is_an_error(sandbox: Sandbox) -> None:
    """The error for an unknown transaction names it."""
    with pytest.raises(StateError, match="no transaction 7"):
        sandbox.notification(7)


def test_waiting_for_a_transaction(sandbox: Sandbox) -> None:
    """A waiting thread is woken by the first transaction above the given number."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(sandbox.wait_for_transaction(after=1, timeout=DEADLINE)))
    thread.start()
    for _ in range(2):
        requests.post(f"{sandbox.ingest_url}/upload", data=bundle(), timeout=DEADLINE)
    thread.join(DEADLINE)
    assert found == [2]
    assert state_of(sandbox, 2)["complete"]


def test_waiting_in_vain(sandbox: Sandbox) -> None:
    """Waiting ends with TimeoutError if no transaction is completed."""
    with pytest.raises(TimeoutError, match="above 0"):
        sandbox.wait_for_transaction(timeout=0.01)


def test_a_sandbox_continues_where_it_was(tmp_path: Path) -> None:
    """A sandbox with the directory of an earlier one has its files, transactions, states, subscriptions and ids."""
    ear = Ear()
    with target() as endpoint:
        with Sandbox(tmp_path, on_event=ear) as sandbox:
            upload(sandbox, ear, bundle())
            upload(sandbox, ear, b"no tar")
            subscription = subscribe(sandbox, endpoint.url)
            event = sandbox.notification(1)
        with Sandbox(tmp_path, on_event=ear) as sandbox:
            assert (sandbox.transactions(), sandbox.notification(1), sandbox.read(1)) == ([1], event, CONTENT)
            assert sandbox.subscriptions() == [subscription]
            assert state_of(sandbox, 2)["task"] == "open tar"
            upload(sandbox, ear, bundle())
            delivered = endpoint.next_event()
    assert delivered["eventID"] == "metadata.ingest.3"
    assert [f["_id"] for f in delivered["data"] if f["destinationTable"] == "Files"] == [3, 4]


def test_a_bundle_that_waits_survives(tmp_path: Path) -> None:
    """A bundle that was not processed is processed by the next sandbox, a processed one is not."""
    ear = Ear()
    with Sandbox(tmp_path, on_event=ear) as sandbox:
        upload(sandbox, ear, b"no tar")
    for number in (1, 2):
        (tmp_path / "uploads" / f"{number}.tar").write_bytes(bundle())
    with Sandbox(tmp_path, on_event=ear) as sandbox:
        assert sandbox.wait_for_transaction(timeout=DEADLINE) == 2
        ear.wait("transaction 2 complete")
        assert state_of(sandbox, 1)["state"] == "FAILED"
        assert list((tmp_path / "uploads").iterdir()) == []


def test_deleted_subscriptions_stay_deleted(tmp_path: Path) -> None:
    """A deleted subscription stays deleted in the next sandbox."""
    with Sandbox(tmp_path) as sandbox:
        name = subscribe(sandbox, "http://127.0.0.1:9/")["uuid"]
        assert eventmatch(sandbox, "DELETE", name).status_code == 200
    with Sandbox(tmp_path) as sandbox:
        assert eventmatch(sandbox, "GET", name).status_code == 403
        assert sandbox.subscriptions() == []


def test_one_sandbox_a_directory(tmp_path: Path, sandbox: Sandbox) -> None:
    """A second sandbox with the same directory is refused, since it would assign the same ids."""
    with pytest.raises(StateError, match="another sandbox uses"):
        Sandbox(sandbox.directory)


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    """A file in place of the directory is an error that says so."""
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot keep a sandbox in"):
        Sandbox(tmp_path / "file")


def test_a_temporary_directory_goes_with_the_sandbox() -> None:
    """Without a directory no files are left behind."""
    with Sandbox() as sandbox:
        assert sandbox.directory.is_dir()
    assert not sandbox.directory.exists()


def test_closing_twice(tmp_path: Path) -> None:
    """Closing is idempotent, and ends every thread that the sandbox started."""
    before = set(threading.enumerate())
    sandbox = Sandbox(tmp_path)
    with requests.Session() as session:
        session.get(sandbox.ingest_url, timeout=DEADLINE)
        sandbox.close()
        sandbox.close()
        assert set(threading.enumerate()) <= before
        with pytest.raises(requests.ConnectionError):
            session.get(sandbox.ingest_url, timeout=DEADLINE)


def test_a_port_that_is_taken(tmp_path: Path, sandbox: Sandbox) -> None:
    """A sandbox whose port is in use leaves no threads running."""
    before = set(threading.enumerate())
    port = int(sandbox.policy_url.rpartition(":")[2])
    with pytest.raises(EndpointError, match=str(port)):
        Sandbox(tmp_path / "other", policy_port=port)
    assert set(threading.enumerate()) <= before


def test_its_addresses_as_variables(sandbox: Sandbox) -> None:
    """The environment variables have the URLs of the four services, all on loopback."""
    assert sandbox.environ() == {
        "PACIFICA_PRODUCER_URL": sandbox.producer_url,
        "PACIFICA_CARTD_URL": sandbox.cartd_url,
        "PACIFICA_INGEST_URL": sandbox.ingest_url,
        "PACIFICA_POLICY_URL": sandbox.policy_url,
    }
    assert all(url.startswith("http://127.0.0.1:") for url in sandbox.environ().values())


@pytest.mark.parametrize(
    "arguments", [{"project_field": "campaign"}, {"ingest_source": "{transaction}"}, {"ingest_source": "{"}]
)
def test_wrong_arguments(arguments: dict[str, str]) -> None:
    """A wrong argument is refused before anything is started."""
    with pytest.raises(ConfigurationError):
        Sandbox(**arguments)  # type: ignore[arg-type]


def test_an_older_pacifica(ear: Ear) -> None:
    """With the names of an older Pacifica, proposals are required and events match the specification's JSONPath."""
    old = [{**r, "destinationTable": r["destinationTable"].replace("project", "proposal")} for r in TRANSACTION]
    jsonpath = '$[?(@["eventID"] and (@["source"] = "/pacifica/metadata/ingest"))]["data"]'
    with (
        target() as endpoint,
        Sandbox(project_field="proposal", ingest_source="/pacifica/metadata/ingest", on_event=ear) as sandbox,
    ):
        subscribe(sandbox, endpoint.url, jsonpath=jsonpath)
        failed = upload(sandbox, ear, bundle())
        assert upload(sandbox, ear, bundle({}, old))["state"] == "OK"
        event = json.loads(sandbox.notification(2))
        info = requests.get(f"{sandbox.policy_url}/status/transactions/by_id/2", timeout=DEADLINE).json()
    assert "Invalid values for proposal" in failed["exception"]
    assert event["source"] == "/pacifica/metadata/ingest"
    assert info["proposal"] == "1234a"


def test_callback_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """An error of the callback is logged, and does not stop a delivery."""

    def deaf(_: str) -> None:
        raise OSError("nobody listens")

    with target() as endpoint, Sandbox(on_event=deaf) as sandbox:
        subscribe(sandbox, endpoint.url)
        requests.post(f"{sandbox.ingest_url}/upload", data=bundle(), timeout=DEADLINE)
        assert endpoint.next_event()["eventID"] == "metadata.ingest.1"
    assert "nobody listens" in caplog.text


def test_sentences(sandbox: Sandbox, ear: Ear) -> None:
    """Each event is reported as one sentence, without credentials."""
    secret = {"type": "header", "header": {"type": "Bearer", "credentials": "s3cret"}}
    with target() as endpoint:
        endpoint.status, endpoint.answer = 500, b"bad token s3cret"
        url = endpoint.url.replace("http://", "http://user:s3cret@")
        subscribe(sandbox, url, auth=secret)
        subscribe(sandbox, "http://user:s3cret@127.0.0.1:9/?token=s3cret", auth=secret, name="other")
        upload(sandbox, ear, bundle())
        ear.wait("subscription mine disabled", "subscription other disabled", count=2)
    assert "transaction 1 complete: 2 files" in ear.sentences
    assert "notification metadata.ingest.1 delivered to mine: 500" in ear.sentences
    assert "subscription mine disabled: its target answered 500" in ear.sentences
    assert "subscription other disabled: cannot reach its target (ConnectionError)" in ear.sentences
    assert "s3cret" not in "\n".join(ear.sentences)


def test_year(tmp_path: Path) -> None:
    """A sandbox of 2019 has the names of that year, and its directory keeps them."""
    attributes = {"Transactions.submitter": 10, "Transactions.proposal": "1234a", "Transactions.instrument": 54}
    (tmp_path / "uploads").mkdir()
    with Sandbox(tmp_path / "sandbox", **AS_OF[2019]):
        pass
    with Sandbox(tmp_path / "sandbox") as sandbox:
        send(tmp_path, attributes, services=Services.from_environment(sandbox.environ())).get()
        notification = json.loads(sandbox.notification(1))
    assert notification["source"] == "/pacifica/metadata/ingest"
    assert {"destinationTable": "Transactions.proposal", "value": "1234a"} in notification["data"]


def test_damaged_site(tmp_path: Path) -> None:
    """The error names the file, and says what to do."""
    (tmp_path / "site.json").write_text("[")
    with pytest.raises(StateError, match=r"cannot read .*site\.json.*; remove this file"):
        Sandbox(tmp_path)
