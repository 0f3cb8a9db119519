"""The subscription on the real producer: switched off on purpose, deleted, left behind; it comes back by itself."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer.clients.base import make_session
from pacifica_notifications_consumer.clients.producer import Producer, SubscriptionSpec
from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.ledger.ledger import Ledger
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.subscription.incident import Incident, IncidentKind
from pacifica_notifications_consumer.subscription.subscription import subscribed
from tests.endtoend.conftest import KEEPER, Deployment, Operator, pack, wait_until
from tests.endtoend.recorder import Recorder, Request, recording
from tests.integration.bed import Bed
from tests.integration.conftest import send

TOKEN = "a token of the test's"


class Target:
    """An endpoint that answers what it is told to, and remembers what came."""

    def __init__(self) -> None:
        self.status = 202
        self.deliveries: list[Request] = []
        self._recorder: Recorder | None = None

    def answer(self, request: Request) -> tuple[int, bytes, str]:
        self.deliveries.append(request)
        return self.status, b"as I was told", "text/plain"

    def wait_for(self, event: dict[str, Any]) -> Request:
        """Wait until a transaction is delivered."""

        def delivered() -> Request | None:
            found = [each for each in self.deliveries if json.loads(each.body)["eventID"] == event["eventID"]]
            return found[0] if found else None

        return wait_until(delivered, f"{event['eventID']} delivered")


@pytest.fixture
def target() -> Iterator[tuple[Target, str]]:
    here = Target()
    with recording(here.answer) as recorder:
        yield here, f"{recorder.url}/receive"


@pytest.fixture
def producer(services: Services) -> Iterator[Producer]:
    with make_session(services) as session:
        yield Producer(services.producer_url, session)


def arguments(url: str) -> dict[str, Any]:
    return {"name": "watched", "filter": None, "target_url": url, "token": TOKEN, "watch_interval": 0.2}


def test_switched_off_on_purpose(
    services: Services, producer: Producer, target: tuple[Target, str], tmp_path: Path
) -> None:
    """After one bad answer the real producer is silent for good; the watch has it on again, and says since when."""
    here, url = target
    incidents: list[Incident] = []
    with subscribed(services, **arguments(url), on_incident=incidents.append) as ours:
        here.status = 500
        here.wait_for(send(tmp_path / "1", {"a": b"one"}, services))
        here.status = 202
        wait_until(lambda: incidents, "the incident is noted")
        here.wait_for(send(tmp_path / "2", {"a": b"two"}, services))
        found = producer.subscription(ours.uuid)
        assert found is not None
        assert (found["disabled"], found["error"], ours.trouble) == (None, None, "")
    (incident,) = incidents
    assert (incident.kind, incident.detail) == (IncidentKind.DISABLED, "as I was told")
    assert incident.since is not None
    assert incident.since <= incident.until


def test_deleted_and_changed(
    services: Services, producer: Producer, target: tuple[Target, str], tmp_path: Path
) -> None:
    """One that is gone is made anew, one that was changed is corrected, and the deliveries come with our token."""
    here, url = target
    incidents: list[Incident] = []
    with subscribed(services, **arguments(url), on_incident=incidents.append) as ours:
        producer.unsubscribe(ours.uuid)
        wait_until(lambda: len(incidents) == 1, "it is made anew")
        producer.correct(
            ours.uuid, SubscriptionSpec(name="watched", jsonpath="$", target_url=url, token="somebody else's")
        )
        wait_until(lambda: len(incidents) == 2, "it is corrected")
        delivery = here.wait_for(send(tmp_path / "1", {"a": b"one"}, services))
        assert delivery.headers["Authorization"] == f"Bearer {TOKEN}"
    assert [incident.kind for incident in incidents] == [IncidentKind.DELETED, IncidentKind.CHANGED]
    assert producer.subscriptions() == []


def test_leftovers(services: Services, producer: Producer, target: tuple[Target, str], tmp_path: Path) -> None:
    """What earlier runs left behind is taken over and not doubled: a transaction is delivered once, with basic auth."""
    here, url = target
    old = SubscriptionSpec(name="watched", jsonpath="$", target_url="http://127.0.0.1:1/", token="old")
    first, _ = producer.subscribe(old), producer.subscribe(old)
    incidents: list[Incident] = []
    with subscribed(services, **arguments(url), auth="basic", on_incident=incidents.append) as ours:
        assert ours.uuid == first
        delivery = here.wait_for(send(tmp_path / "1", {"a": b"one"}, services))
        assert len(producer.subscriptions()) == 1
    assert delivery.headers["Authorization"] == "Basic " + base64.b64encode(f"pacifica:{TOKEN}".encode()).decode()
    assert len(here.deliveries) == 1
    assert [incident.kind for incident in incidents] == [IncidentKind.LEFT_BEHIND]


def test_producer_that_is_down(bed: Bed, services: Services, target: tuple[Target, str], tmp_path: Path) -> None:
    """While the real producer is down the watch goes on, and afterwards says that something may have been missed."""
    here, url = target
    incidents: list[Incident] = []
    with subscribed(services, **arguments(url), on_incident=incidents.append) as ours:
        with bed.without("notifications"):
            wait_until(lambda: "cannot reach the producer" in ours.trouble, "the trouble is noticed")
        wait_until(lambda: incidents, "the producer is back")
        here.wait_for(send(tmp_path / "1", {"a": b"one"}, services))
    assert [incident.kind for incident in incidents] == [IncidentKind.UNREACHABLE]


def test_start_command_comes_back(bed: Bed, services: Services, operator: Operator, tmp_path: Path) -> None:
    """The whole consumer, switched off by the real producer since it was stopped for a moment, gets the next upload."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": KEEPER})
    deployment = Deployment(operator, bed, archive, "--watch-interval", "0.5")
    port = int(deployment.url.rpartition(":")[2])
    with make_session(services) as session, contextlib.ExitStack() as stack:
        producer = Producer(services.producer_url, session)
        refused = threading.Event()

        def refuse(_: Request) -> tuple[int, bytes, str]:
            refused.set()
            return 503, b"nobody at home", "text/plain"

        refusing = stack.enter_context(recording(refuse))
        uuid = deployment.subscription["uuid"]
        lead_astray = SubscriptionSpec(name="tested", jsonpath="$", target_url=refusing.url, token="x")
        deployment.command.process.send_signal(19)  # SIGSTOP: it cannot mend what happens now
        producer.correct(uuid, lead_astray)
        send(tmp_path / "1", {"a": b"one"}, services)
        assert refused.wait(60)
        wait_until(lambda: (producer.subscription(uuid) or {}).get("disabled"), "the producer has switched it off")
        deployment.command.process.send_signal(18)  # SIGCONT
        deployment.command.wait_for("notifications may have been missed from")
    sent = send(tmp_path / "2", {"a": b"two"}, services)

    def succeeded() -> list[str]:
        with contextlib.closing(Ledger(deployment.state_dir / "ledger.sqlite3")) as ledger:
            return [job.title for job in ledger.records.jobs(10, state=JobState.SUCCEEDED)]

    # The first upload, whose notification was refused, is recovered before the second one, or after it.
    wait_until(lambda: sent["eventID"] in succeeded(), "the job of the second upload")
    assert port == int(deployment.url.rpartition(":")[2])
    assert deployment.command.stop().status == 0
    assert bed.subscriptions() == []
