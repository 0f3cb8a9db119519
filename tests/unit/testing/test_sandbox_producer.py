from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.support.machine.waiting import DEADLINE
from tests.support.sandbox_tools import (
    TRANSACTION,
    Ear,
    Target,
    bundle,
    eventmatch,
    subscribe,
    target,
    upload,
)

FIELDS = [
    *("uuid", "name", "jsonpath", "user", "disabled", "error", "target_url"),
    *("version", "extensions", "auth", "created", "updated", "deleted"),
]
BEARER = {"type": "header", "header": {"type": "Bearer", "credentials": "s3cret"}}
GOOD = {"name": "mine", "jsonpath": '$["data"]', "target_url": "http://127.0.0.1:9/"}


@pytest.fixture(scope="module")
def ear() -> Ear:
    return Ear()


@pytest.fixture(scope="module")
def producer(tmp_path_factory: pytest.TempPathFactory, ear: Ear) -> Iterator[Sandbox]:
    users = {"alice": 10, "mallory": 11}
    with Sandbox(tmp_path_factory.mktemp("producer"), on_event=ear, users=users) as running:
        yield running


@pytest.fixture
def sandbox(producer: Sandbox, ear: Ear) -> Iterator[Sandbox]:
    """The sandbox of this module, without the subscriptions and sentences of the previous test."""
    ear.sentences.clear()
    yield producer
    for subscription in producer.subscriptions():
        eventmatch(producer, "DELETE", subscription["uuid"], user=subscription["user"])


@pytest.fixture(scope="module")
def server() -> Iterator[Target]:
    with target() as here:
        yield here


@pytest.fixture
def endpoint(server: Target) -> Iterator[Target]:
    server.reset()
    yield server
    server.gate.set()


def event(**changes: Any) -> dict[str, Any]:
    return {"eventType": "org.pacifica.metadata.ingest", "eventID": "e1", "data": TRANSACTION, **changes}


def receive(sandbox: Sandbox, document: Any) -> requests.Response:
    return requests.post(f"{sandbox.producer_url}/receive", json=document, timeout=DEADLINE)


def settle(sandbox: Sandbox, ear: Ear) -> None:
    """Wait until all events so far have been matched; they are matched in order of arrival."""
    name = f"witness {uuid.uuid4()}"
    witness = subscribe(sandbox, "x", name=name, jsonpath='$["sentinel"]')["uuid"]
    receive(sandbox, {"eventID": "sentinel", "eventType": "refused by policy", "sentinel": 1})
    ear.wait(f"notification sentinel not routed to {name}")
    eventmatch(sandbox, "DELETE", witness)


def test_registering(sandbox: Sandbox) -> None:
    """A new subscription is answered with 200 and the whole object, with credentials and without Location."""
    body = {**GOOD, "auth": BEARER, "extensions": {"a": 1}, "user": "mallory", "unknown": 1}
    answer = eventmatch(sandbox, "POST", json=body)
    made = answer.json()
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert "Location" not in answer.headers
    assert list(made) == FIELDS
    assert {key: made[key] for key in (*GOOD, "auth", "extensions", "user", "version")} == {
        **GOOD,
        "auth": BEARER,
        "extensions": {"a": 1},
        "user": "alice",
        "version": "v0.1",
    }
    assert (made["disabled"], made["error"], made["deleted"]) == (None, None, None)
    assert eventmatch(sandbox, "GET", made["uuid"]).json() == made
    assert eventmatch(sandbox, "GET").json() == [made]


def test_uuid_and_disabled_are_taken(sandbox: Sandbox) -> None:
    """A new subscription may have a uuid from the client, and may be disabled."""
    name = str(uuid.uuid4())
    made = subscribe(sandbox, "x", uuid=name, disabled="2020-01-01T00:00:00Z")
    assert (made["uuid"], made["disabled"]) == (name, "2020-01-01T00:00:00")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        {"name": "mine", "jsonpath": "$"},
        {"name": "mine", "target_url": "x"},
        {"jsonpath": "$", "target_url": "x"},
        {**GOOD, "jsonpath": "data"},
        {**GOOD, "auth": {}},
        {**GOOD, "auth": {"type": "digest"}},
        {**GOOD, "auth": {"type": "basic", "basic": {"username": "x"}}},
        {**GOOD, "name": 5},
        {**GOOD, "name": "x" * 256},
        {**GOOD, "disabled": 5},
        {**GOOD, "extensions": []},
        {**GOOD, "uuid": "no uuid"},
    ],
)
def test_bad_registrations(sandbox: Sandbox, body: Any) -> None:
    """A refused subscription is a 500 with the reason in the traceback only."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = eventmatch(sandbox, "POST", data=data)
    assert (answer.status_code, list(answer.json())) == (500, ["status", "message", "traceback", "version"])
    assert "unexpected condition" in answer.json()["message"]
    assert sandbox.subscriptions() == []


def test_form_is_refused(sandbox: Sandbox) -> None:
    """The default Content-Type of curl -d is refused with 400."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert eventmatch(sandbox, "POST", data=json.dumps(GOOD), headers=headers).status_code == 400


def test_what_is_forbidden(sandbox: Sandbox) -> None:
    """A subscription that is unknown, deleted, or another user's is forbidden, and so is an empty list."""
    name = subscribe(sandbox, "x")["uuid"]
    for method in ("GET", "PUT", "DELETE"):
        assert eventmatch(sandbox, method, name, user="mallory", json={}).status_code == 403
        assert eventmatch(sandbox, method, str(uuid.uuid4()), json={}).status_code == 403
        assert eventmatch(sandbox, method, "no-uuid", json={}).status_code == 500
    assert eventmatch(sandbox, "GET", user="mallory").status_code == 403
    gone = eventmatch(sandbox, "DELETE", name)
    assert (gone.status_code, gone.content) == (200, b"")
    for method in ("GET", "PUT", "DELETE"):
        assert eventmatch(sandbox, method, name, json={}).status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "", 405),
        ("PATCH", "eventmatch", 405),
        ("PUT", "eventmatch", 404),
        ("DELETE", "eventmatch", 404),
        ("POST", "eventmatch/x", 404),
        ("GET", "receive", 405),
    ],
)
def test_other_requests(sandbox: Sandbox, method: str, path: str, status: int) -> None:
    """Other methods and paths are refused as the real service refuses them."""
    url = f"{sandbox.producer_url}/{path}"
    assert requests.request(method, url, json={}, timeout=DEADLINE).status_code == status


def test_changing(sandbox: Sandbox) -> None:
    """PUT changes the given values, and empties auth and extensions if they are not given."""
    made = subscribe(sandbox, "x", auth=BEARER, extensions={"a": 1})
    changed = eventmatch(sandbox, "PUT", made["uuid"], json={"name": "other"}).json()
    assert changed["updated"] > made["updated"]
    assert changed == {**made, "name": "other", "auth": {}, "extensions": {}, "updated": changed["updated"]}


def test_what_get_answers_cannot_be_put(sandbox: Sandbox) -> None:
    """The whole object is refused, as by a producer with a strict JSON schema."""
    made = subscribe(sandbox, "x", auth=BEARER)
    assert eventmatch(sandbox, "PUT", made["uuid"], json=made).status_code == 500


def test_changing_the_owner(sandbox: Sandbox) -> None:
    """A change of the owner is made, although the answer is 403."""
    name = subscribe(sandbox, "x")["uuid"]
    assert eventmatch(sandbox, "PUT", name, json={"user": "mallory"}).status_code == 403
    assert eventmatch(sandbox, "GET", name, user="mallory").status_code == 200


def test_a_delivery(sandbox: Sandbox, ear: Ear, endpoint: Target) -> None:
    """A delivery is one POST with the headers and the body of the real producer."""
    subscribe(sandbox, endpoint.url, auth=BEARER, extensions={"x": "é"})
    upload(sandbox, ear, bundle())
    request, headers, body = endpoint.next()
    assert request == "POST /receive"
    assert (headers["Content-Type"], headers["Authorization"]) == ("application/json", "Bearer s3cret")
    assert headers["Content-Length"] == str(len(body))
    assert "Transfer-Encoding" not in headers
    sent = {**json.loads(sandbox.notification(sandbox.transactions()[-1])), "extensions": {"x": "é"}}
    assert body == json.dumps(sent).encode("ascii")


def test_a_delivery_with_a_password(sandbox: Sandbox, endpoint: Target) -> None:
    """Basic credentials are sent with basic authentication; without auth none are sent."""
    basic = {"type": "basic", "basic": {"username": "Aladdin", "password": "open sesame"}}
    name = subscribe(sandbox, endpoint.url, auth=basic)["uuid"]
    receive(sandbox, event())
    assert endpoint.next()[1]["Authorization"] == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    eventmatch(sandbox, "PUT", name, json={})
    receive(sandbox, event())
    assert "Authorization" not in endpoint.next()[1]


def test_posted_events_are_routed(sandbox: Sandbox, endpoint: Target) -> None:
    """An event that is posted to the producer is answered with a task's uuid, and delivered with merged extensions."""
    subscribe(sandbox, endpoint.url, extensions={"b": 2, "c": 2})
    answer = receive(sandbox, event(extensions={"a": 1, "b": 1}))
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html;charset=utf-8")
    assert str(uuid.UUID(answer.text)) == answer.text
    assert endpoint.next_event() == event(extensions={"a": 1, "b": 2, "c": 2})


def test_only_matching_events_are_delivered(sandbox: Sandbox, endpoint: Target) -> None:
    """Only events that match a subscription's JSONPath are delivered to it."""
    for _ in range(2):
        subscribe(sandbox, endpoint.url, jsonpath='$[?(@["eventID"] = "e2")]')
        subscribe(sandbox, endpoint.url, jsonpath='$["nothing"]')
    subscribe(sandbox, endpoint.url, jsonpath='$["e2"]["data"]')
    receive(sandbox, event())
    receive(sandbox, {"e2": event(), **event(eventID="e3")})
    assert endpoint.next_event()["eventID"] == "e3"


@pytest.mark.parametrize("status", [400, 404, 409, 429, 500, 503])
def test_one_refusal_disables(sandbox: Sandbox, ear: Ear, endpoint: Target, status: int) -> None:
    """A single error of the target disables the subscription, with the body as the reason, and without a retry."""
    made = subscribe(sandbox, endpoint.url)
    endpoint.status, endpoint.answer = status, b"no, thanks"
    receive(sandbox, event())
    ear.wait("subscription mine disabled")
    now = eventmatch(sandbox, "GET", made["uuid"]).json()
    assert now == {**made, "disabled": now["disabled"], "error": "no, thanks"}
    assert now["disabled"] >= made["created"]
    assert endpoint.requests.qsize() == 1


@pytest.mark.parametrize("status", [200, 201, 202, 304])
def test_what_does_not_disable(sandbox: Sandbox, ear: Ear, endpoint: Target, status: int) -> None:
    """A 2xx, and even a redirection without a Location, does not disable the subscription."""
    name = subscribe(sandbox, endpoint.url)["uuid"]
    endpoint.status = status
    receive(sandbox, event())
    ear.wait(f"notification e1 delivered to mine: {status}")
    assert eventmatch(sandbox, "GET", name).json()["disabled"] is None


@pytest.mark.parametrize(
    ("status", "followed"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")]
)
def test_redirections(sandbox: Sandbox, ear: Ear, endpoint: Target, status: int, followed: str) -> None:
    """Redirections are followed; the event is lost if they change the method to GET."""
    subscribe(sandbox, endpoint.url.replace("/receive", f"/redirect/{status}"))
    receive(sandbox, event())
    ear.wait("notification e1 delivered to mine: 202")
    assert endpoint.next()[0] == f"POST /redirect/{status}"
    request, _, body = endpoint.next()
    assert (request, bool(body)) == (f"{followed} /end", followed == "POST")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "no url"])
def test_an_unreachable_target(sandbox: Sandbox, ear: Ear, url: str) -> None:
    """A target that cannot be reached disables the subscription, with the exception's text as the reason."""
    name = subscribe(sandbox, url)["uuid"]
    receive(sandbox, event())
    ear.wait("subscription mine disabled")
    assert eventmatch(sandbox, "GET", name).json()["error"]


def test_enabling_again(sandbox: Sandbox, ear: Ear, endpoint: Target) -> None:
    """Only a PUT with disabled null enables the subscription again; earlier events are never sent."""
    name = subscribe(sandbox, endpoint.url)["uuid"]
    endpoint.status = 500
    receive(sandbox, event())
    ear.wait("subscription mine disabled")
    endpoint.next()
    endpoint.status = 202
    receive(sandbox, event(eventID="lost"))
    settle(sandbox, ear)
    assert eventmatch(sandbox, "PUT", name, json={"name": "mine"}).json()["disabled"]
    receive(sandbox, event(eventID="lost too"))
    settle(sandbox, ear)
    enabled = eventmatch(sandbox, "PUT", name, json={"disabled": None, "error": None}).json()
    assert (enabled["disabled"], enabled["error"]) == (None, None)
    receive(sandbox, event(eventID="next"))
    assert endpoint.next_event()["eventID"] == "next"


def test_queued_events_are_still_posted(sandbox: Sandbox, ear: Ear, endpoint: Target) -> None:
    """Events that matched before the subscription was disabled are still delivered."""
    endpoint.gate.clear()
    endpoint.status = 500
    subscribe(sandbox, endpoint.url)
    names = {f"e{number}" for number in range(6)}
    for name in sorted(names):
        receive(sandbox, event(eventID=name))
    settle(sandbox, ear)
    endpoint.gate.set()
    assert {endpoint.next_event()["eventID"] for _ in names} == names
    ear.wait("subscription mine disabled", count=len(names))


def test_a_slow_consumer_does_not_hold_up_ingest(sandbox: Sandbox, ear: Ear, endpoint: Target) -> None:
    """Transactions are completed while a consumer does not answer its notifications."""
    endpoint.gate.clear()
    subscribe(sandbox, endpoint.url)
    numbers = [upload(sandbox, ear, bundle())["job_id"] for _ in range(3)]
    assert sandbox.transactions()[-3:] == numbers
    endpoint.gate.set()
    assert {endpoint.next_event()["eventID"] for _ in numbers} == {f"metadata.ingest.{number}" for number in numbers}


def test_an_unknown_user_is_disabled(sandbox: Sandbox, ear: Ear, endpoint: Target) -> None:
    """A subscription of an unknown user is disabled at the first event, with policy's error page as the reason."""
    name = subscribe(sandbox, endpoint.url, user="nobody")["uuid"]
    receive(sandbox, event())
    ear.wait("subscription mine disabled")
    error = eventmatch(sandbox, "GET", name, user="nobody").json()["error"]
    assert json.loads(error)["status"] == "500 Internal Server Error"
    assert endpoint.requests.empty()


def test_no_user_at_all(sandbox: Sandbox) -> None:
    """A subscription that is created without Http-Remote-User belongs to the default user."""
    url = f"{sandbox.producer_url}/eventmatch"
    assert requests.post(url, json=GOOD, timeout=DEADLINE).json()["user"] == "default_user"


@pytest.mark.parametrize(
    "refused", [event(eventType="org.pacifica.metadata.orm"), event(data=TRANSACTION[:2]), event(data=[])]
)
def test_events_that_policy_refuses(sandbox: Sandbox, ear: Ear, endpoint: Target, refused: Any) -> None:
    """An event that the user may not see is not delivered, and the subscription stays enabled."""
    name = subscribe(sandbox, endpoint.url)["uuid"]
    receive(sandbox, refused)
    ear.wait("notification e1 not routed to mine: Precondition Failed")
    assert eventmatch(sandbox, "GET", name).json()["disabled"] is None
    assert endpoint.requests.empty()


def test_malformed_events_disable(sandbox: Sandbox, ear: Ear, endpoint: Target) -> None:
    """A malformed event, to which policy answers 500, disables every matching subscription."""
    subscribe(sandbox, endpoint.url)
    receive(sandbox, event(data={"a": 1}))
    ear.wait("subscription mine disabled: policy failed")
    assert sandbox.subscriptions()[0]["disabled"]


def test_a_path_that_fails_on_an_event(sandbox: Sandbox, ear: Ear, endpoint: Target) -> None:
    """An event for which a JSONPath fails is not delivered; other subscriptions get it."""
    subscribe(sandbox, endpoint.url, jsonpath='$[?(@["eventID"] > 5)]')
    subscribe(sandbox, endpoint.url, name="other")
    receive(sandbox, event())
    assert endpoint.next_event()["eventID"] == "e1"
