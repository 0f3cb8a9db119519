"""upload() on the real ingest, policy, metadata and archive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
import requests

from pacifica_notifications_consumer import download, upload
from pacifica_notifications_consumer.clients.base import make_session
from pacifica_notifications_consumer.clients.ingest import Ingest
from pacifica_notifications_consumer.clients.producer import Producer, SubscriptionSpec
from pacifica_notifications_consumer.cloudevents.notification import Notification
from pacifica_notifications_consumer.errors import ServiceError, UploadError
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.transfer.upload_tar import UploadTar
from tests.integration.bed import Bed
from tests.integration.conftest import TRANSACTION, announce, contents, failure, number_of, send, write
from tests.integration.test_download import FILES
from tests.support.relay import Relay, answer_all
from tests.support.sandbox_tools import Target, target


def newest(services: Services) -> int:
    """The number of the last upload that ingest knows."""
    number = 0
    while requests.get(f"{services.ingest_url}/get_state?job_id={number + 1}", timeout=60).ok:
        number += 1
    return number


@pytest.fixture
def announced(services: Services) -> Any:
    """What the real producer delivers to a subscriber meanwhile."""
    with target() as here, make_session(services) as session:
        producer = Producer(services.producer_url, session)
        uuid = producer.subscribe(SubscriptionSpec(name="test", jsonpath="$", target_url=here.url, token="t"))
        yield here
        producer.unsubscribe(uuid)


def test_event_is_the_real_one(services: Services, announced: Target, tmp_path: Path) -> None:
    """What upload() is fulfilled with says the same as the notification that the real producer sends of it."""
    event = send(tmp_path, FILES, services, Tag="é", Number=5, Share=0.5, Done=True)
    real = json.loads(announced.next()[2])
    assert event["data"] == real["data"]
    assert event.keys() == real.keys()
    same = ("cloudEventsVersion", "eventType", "source", "eventID", "extensions", "contentType")
    assert {key: event[key] for key in same} == {key: real[key] for key in same}
    assert json.loads((tmp_path / "notification.json").read_bytes()) == event
    assert Notification.parse(json.dumps(real).encode()).files


@pytest.mark.parametrize(
    "key_values",
    [
        {"empty": "", "5": "five", 6: 7, "long": "x" * 255, "k" * 255: "é" * 255, "lines": "a\nb\t"},
        {"number": 5, "large": 10**30, "share": 0.1, "yes": True, "not a number": float("nan"), "far": float("inf")},
    ],
)
def test_key_values_that_metadata_takes(
    bed: Bed, services: Services, tmp_path: Path, key_values: dict[Any, Any]
) -> None:
    """What is let through to metadata is what it accepts, and it keeps it as text."""
    event = upload(write(tmp_path, {"a": b"x"}), TRANSACTION, key_values, services=services).get()
    kept = bed.transaction(number_of(event))["key_values"]
    assert kept == {str(key): str(value) for key, value in key_values.items()}


@pytest.mark.parametrize(
    "changes",
    [
        {"Transactions.submitter": "10", "Transactions.instrument": "54"},
        {"Transactions.submitter": 10.0, "Transactions.instrument": 54.0},
    ],
)
def test_attributes_that_policy_takes(bed: Bed, services: Services, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Numbers may come as text, as in some notifications, and as floats, as tables of numbers have them."""
    event = upload(write(tmp_path, {"a": b"x"}), TRANSACTION | changes, services=services).get()
    made = bed.transaction(number_of(event))
    assert (made["submitter"], made["project"], made["instrument"]) == (10, "1234a", 54)


def test_without_files(services: Services, announced: Target, tmp_path: Path) -> None:
    """A transaction without files is one, and its notification can be downloaded."""
    event = send(tmp_path / "out", {}, services)
    real = announced.next()[2]
    assert json.loads(real)["data"] == event["data"]
    assert download(announce(tmp_path / "in", event), services=services).get() == event


@pytest.mark.timeout(1200)  # cartd takes some 30 ms for each file
def test_many_files(bed: Bed, services: Services, tmp_path: Path) -> None:
    """A transaction of more files than a statement takes variables (999) comes down from cartd and from the proxy."""
    files = {f"folder {number % 7}/{number:04d} ψ.txt": b"%d\n" % number for number in range(1000)}
    event = send(tmp_path / "out", files, services)
    for name, proxy_url in (("by proxy", bed.urls["proxy"]), ("by cart", None)):
        source = announce(tmp_path / name, event)
        download(source, services=attrs.evolve(services, proxy_url=proxy_url)).get()
        assert contents(source / "downloads") == files


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Transactions.project": "5678"}, "project (5678) not in user instrument list"),
        ({"Transactions.project": "nowhere"}, "Invalid values for project"),
        ({"Transactions.instrument": 104}, "Invalid values for project (1234a) not in user instrument list"),
        ({"Transactions.submitter": 11}, "Invalid values for project (1234a) not in user instrument list"),
        ({"Transactions.submitter": 99}, "Invalid values for submitter"),
    ],
)
@pytest.mark.parametrize("asked", [True, False])
def test_what_policy_does_not_allow(
    services: Services, tmp_path: Path, asked: bool, changes: dict[str, Any], reason: str
) -> None:
    """An upload that policy rejects names what does not fit, and makes no transaction; if possible nothing is sent."""
    services = services if asked else attrs.evolve(services, policy_url=None)
    error = failure(upload(write(tmp_path, {"a": b"x"}), TRANSACTION | changes, services=services))
    assert isinstance(error, UploadError)
    assert reason in str(error)
    assert ("failed at 'Policy Validation'" in str(error), "nothing was sent" in str(error)) == (not asked, asked)
    assert ("no transaction was made" in str(error)) == (not asked)
    assert "check that this submitter may upload to this project and instrument" in str(error)


@pytest.mark.parametrize("asked", [True, False])
def test_proposal(services: Services, tmp_path: Path, asked: bool) -> None:
    """The name that older versions of Pacifica have for a project is refused with the one of today."""
    services = services if asked else attrs.evolve(services, policy_url=None)
    wrong = {"Transactions.submitter": 10, "Transactions.proposal": "1234a", "Transactions.instrument": 54}
    error = failure(upload(write(tmp_path, {"a": b"x"}), wrong, services=services))
    assert "give Transactions.project, as this Pacifica calls it, instead of Transactions.proposal" in str(error)
    assert ("nothing was sent" in str(error)) == asked


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"hashsum": "0" * 40}, "failed at 'ingest files' of job {}: File"),
        ({"hashtype": "crc7"}, "failed at 'ingest files' of job {}: Invalid Hashtype crc7"),
        ({"name": "other"}, "failed at 'ingest files' of job {}: \"filename 'data/other' not found\""),
        (
            {"mimetype": "chemical/x-pdb"},
            "failed at 'ingest metadata' of job {}: ValueError: Invalid metadata for file",
        ),
        ({"mimetype": "text/" + "x" * 300}, "failed at 'ingest metadata' of job {}: DataError: value too long"),
    ],
)
def test_damage_on_the_way(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: dict[str, Any], problem: str
) -> None:
    """What the real ingest or metadata finds wrong is told with the task it failed at and its own reason."""
    metadata = UploadTar._metadata

    def damaged(self: UploadTar) -> Any:
        for each in self.file_rows:
            each |= row
        return metadata(self)

    monkeypatch.setattr(UploadTar, "_metadata", damaged)
    error = failure(upload(write(tmp_path, {"a": b"x"}), TRANSACTION, services=services))
    assert isinstance(error, UploadError)
    assert problem.format(newest(services)) in str(error)
    assert error.output


def test_archive_that_is_down(bed: Bed, services: Services, tmp_path: Path) -> None:
    """An archive that is down fails the upload; the repeated one makes the transaction."""
    with bed.without("archiveinterface"):
        error = failure(upload(write(tmp_path, {"a": b"x"}), TRANSACTION, services=services))
        assert isinstance(error, UploadError)
        assert "failed at 'ingest files'" in str(error)
        assert "Connection refused" in str(error) or "Max retries exceeded" in str(error)
        assert "check that the archive is up" in str(error)
    assert bed.transaction(number_of(send(tmp_path, {}, services)))


@pytest.mark.parametrize("service", ["policy", "metadata"])
def test_policy_or_metadata_that_is_down(bed: Bed, services: Services, tmp_path: Path, service: str) -> None:
    """A policy or a metadata that is down fails the upload at the question that it should have answered."""
    with bed.without(service):
        error = failure(upload(write(tmp_path, {"a": b"x"}), TRANSACTION, services=services))
    assert isinstance(error, UploadError)
    assert "failed at 'Policy Validation'" in str(error)


def test_ingest_that_is_down(bed: Bed, services: Services, tmp_path: Path) -> None:
    """An ingest that does not answer at all is told at once, with its address."""
    with bed.without("ingest"):
        error = failure(upload(write(tmp_path, {"a": b"x"}), TRANSACTION, services=services))
    assert isinstance(error, ServiceError)
    assert f"cannot reach ingest at {services.ingest_url}: Connection refused" in str(error)


def test_worker_that_is_down(bed: Bed, services: Services, tmp_path: Path) -> None:
    """An upload that ingest does not get on with is given up, but not made twice: the next call waits for it."""
    write(tmp_path, {"a": b"x"})
    with bed.without("ingest-worker"):
        error = failure(upload(tmp_path, TRANSACTION, services=services, timeout=1.0))
        assert "has been at 'UPLOADING'" in str(error)
        number = newest(services)
    event = upload(tmp_path, TRANSACTION, services=services).get()
    assert number_of(event) == number == newest(services)
    assert event["data"][3]["hashsum"] == "11f6ad8ec52a2984abaafd7c3b516503785c2072"


def test_repeated_upload_makes_one_transaction(services: Services, tmp_path: Path) -> None:
    """The same again, even with another content, is the first transaction; other key-values make another one."""
    first = send(tmp_path, {"a": b"x"}, services, Tag="1")
    again = send(tmp_path, {"a": b"changed"}, services, Tag="1")
    assert (again["eventID"], again["data"]) == (first["eventID"], first["data"])
    second = send(tmp_path, {}, services, Tag="2")
    assert number_of(second) == number_of(first) + 1 == newest(services)


KILLED = """
import os, signal, sys
from pacifica_notifications_consumer import upload
from pacifica_notifications_consumer.transfer.upload_record import UploadRecord
accepted = UploadRecord.accepted
def accept_and_die(self, job_id):
    accepted(self, job_id)
    os.kill(os.getpid(), signal.SIGKILL)
UploadRecord.accepted = accept_and_die
upload(sys.argv[1], dict(zip(sys.argv[2::2], sys.argv[3::2]))).get()
"""


def test_killed_after_the_answer(bed: Bed, services: Services, tmp_path: Path) -> None:
    """A process that is killed the moment that ingest answered has not lost the number: the next one waits for it."""
    write(tmp_path, {"a": b"x"})
    environ = {**os.environ, **services.environ()}
    attributes = [str(each) for pair in TRANSACTION.items() for each in pair]
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), *attributes], env=environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    number = newest(services)
    event = upload(tmp_path, {name: str(value) for name, value in TRANSACTION.items()}, services=services).get()
    assert number_of(event) == number == newest(services)


def lose_answers(relay_to: str, relays: list[Relay]) -> Relay:
    """A relay that resets the connection when ingest answers an upload."""
    relay = Relay(relay_to, lambda request, _: 0 if request.startswith(b"POST /upload") else None)
    relays.append(relay)
    return relay


def test_lost_answer(bed: Bed, services: Services, tmp_path: Path, relays: list[Relay]) -> None:
    """When ingest had all and its answer is lost, the next call finds the transaction, among others that came since."""
    write(tmp_path, {"a": b"x", "b/c": b"y"})
    relay = lose_answers(bed.urls["ingest"], relays)
    lossy = attrs.evolve(services, ingest_url=relay.url)
    error = failure(upload(tmp_path, TRANSACTION, {"Tag": "lost"}, services=lossy))
    assert isinstance(error, UploadError)
    assert "so ingest may have made a transaction or not; call upload() again" in str(error)
    lost = newest(services)
    send(tmp_path / "other", {"a": b"x", "b/c": b"y"}, services, Tag="other")
    relay.on_answer = answer_all
    event = upload(tmp_path, TRANSACTION, {"Tag": "lost"}, services=lossy).get()
    assert number_of(event) == lost
    assert newest(services) == lost + 1


def test_lost_answer_without_policy(bed: Bed, services: Services, tmp_path: Path, relays: list[Relay]) -> None:
    """Without policy it cannot be found out, and nothing is sent twice."""
    relay = lose_answers(bed.urls["ingest"], relays)
    lossy = attrs.evolve(services, ingest_url=relay.url, policy_url=None)
    failure(upload(write(tmp_path, {"a": b"x"}), TRANSACTION, services=lossy))
    with make_session(services) as session:
        ingest = Ingest(services, session)
        while not ingest.state(newest(services)).complete:  # type: ignore[union-attr]
            pass
    before = newest(services)
    error = failure(upload(tmp_path, TRANSACTION, services=lossy))
    assert "set `policy_url`" in str(error)
    assert newest(services) == before


def test_lost_answer_of_a_failed_upload(bed: Bed, services: Services, tmp_path: Path, relays: list[Relay]) -> None:
    """When the upload whose answer was lost has failed, the next call sends it again."""
    relay = lose_answers(bed.urls["ingest"], relays)
    lossy = attrs.evolve(services, ingest_url=relay.url)
    write(tmp_path, {"a": b"x"})
    with bed.without("archiveinterface"):
        failure(upload(tmp_path, TRANSACTION, {"Tag": "failed"}, services=lossy))
        with make_session(services) as session:
            ingest = Ingest(services, session)
            while not ingest.state(newest(services)).complete:  # type: ignore[union-attr]
                pass
    relay.on_answer = answer_all
    before = newest(services)
    event = upload(tmp_path, TRANSACTION, {"Tag": "failed"}, services=lossy).get()
    assert number_of(event) == before + 1


def test_broken_while_sending(bed: Bed, services: Services, tmp_path: Path, relays: list[Relay]) -> None:
    """A connection that breaks before all was sent is no transaction, and is tried again."""
    relay = Relay(bed.urls["ingest"], answer_all)
    relays.append(relay)
    relay.request_limits = [100, 1 << 20]  # much less than what the buffers of sockets on the way can hold
    before = newest(services)
    event = send(tmp_path, {"a": os.urandom(32 << 20)}, attrs.evolve(services, ingest_url=relay.url))
    assert relay.request_limits == []
    assert number_of(event) == newest(services)
    made = [number for number in range(before + 1, newest(services) + 1) if bed.transaction(number)]
    assert made == [number_of(event)]
