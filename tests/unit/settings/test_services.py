"""Requests to Pacifica carry the credentials, and what goes wrong is told in one sentence."""

import base64

import pytest

from pacifica_notifications_consumer.clients.base import make_session, summarize
from pacifica_notifications_consumer.clients.policy import Policy
from pacifica_notifications_consumer.clients.producer import Producer, SubscriptionSpec
from pacifica_notifications_consumer.errors import ServiceError
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.support.faults import fault_server, replying
from tests.support.machine.ports import free_port

WANTED = SubscriptionSpec(name="n", jsonpath="$", target_url="http://127.0.0.1:9/receive", token="t0ken")


def subscribe(url: str) -> str:
    with make_session(Services(username="alice")) as session:
        return Producer(url, session).subscribe(WANTED)


@pytest.mark.parametrize("password", [None, "pässword"])
def test_every_request_carries_the_credentials(password: str | None) -> None:
    """The user stands in Http-Remote-User, and where there is a password both in basic authentication."""
    with fault_server(replying(200, b'{"uuid": "u"}')) as server:
        with make_session(Services(username="alice", password=password)) as session:
            producer = Producer(server.url, session)
            producer.subscribe(WANTED)
            producer.subscription("u")
            producer.unsubscribe("u")
        basic = "Basic " + base64.b64encode(f"alice:{password}".encode()).decode() if password else None
        assert len(server.requests) == 3
        for _, _, headers, _ in server.requests:
            assert headers["Http-Remote-User"] == "alice"
            assert headers.get("Authorization") == basic
            assert headers["User-Agent"].startswith("pacifica-notifications-consumer/")


@pytest.mark.parametrize(
    ("status", "body", "problem", "advice"),
    [
        (401, b"", "401 Unauthorized to POST /eventmatch", "check `username` and `password_file`"),
        (403, b'{"message": "Forbidden"}', "403 Forbidden to POST /eventmatch: Forbidden", "check `username`"),
        (404, b"<html>", "404 Not Found", "check that `producer_url` is the address"),
        (500, b'{"message": "a\\n b", "traceback": "T"}', ": a b", "look into the log of the producer"),
        (302, b"", "302 Found", "check that `producer_url`"),
        (200, b"<html>", "something that is not JSON", "check that `producer_url`"),
        (200, b"[]", "without the UUID", "check that `producer_url`"),
        (200, b'{"uuid": 7}', "without the UUID", "check that `producer_url`"),
    ],
)
def test_refusals(status: int, body: bytes, problem: str, advice: str) -> None:
    """Each wrong answer names the service, its address, what it said, and what to do."""
    with fault_server(replying(status, body, Location="http://127.0.0.1:9/")) as server:
        with pytest.raises(ServiceError) as caught:
            subscribe(server.url)
        assert len(server.requests) == 1
    assert f"the producer at {server.url} answered" in str(caught.value)
    assert problem in caught.value.problem
    assert advice in caught.value.advice
    assert "t0ken" not in str(caught.value)


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """A site's proxy is for other machines: what listens here is asked directly."""
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with fault_server(replying(200, b'{"uuid": "u"}')) as server:
        assert subscribe(server.url) == "u"
        assert subscribe(server.url.replace("127.0.0.1", "localhost")) == "u"


def test_nobody_listens() -> None:
    """A service that does not listen is named with its address, the system's reason, and the setting."""
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ServiceError, match=f"cannot reach the producer at {url}: Connection refused; start it, or"):
        subscribe(url)


def test_connection_that_breaks() -> None:
    """A service that hangs up in the middle is told apart from one that does not listen."""

    def hang_up(handler: object, _: bytes) -> None:
        raise ConnectionResetError

    with fault_server(hang_up) as server, pytest.raises(ServiceError, match="cannot reach the producer"):
        subscribe(server.url)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Precondition Failed: Invalid values for project (Traceback (most recent call last):\n  File", "project"),
        ('Traceback (most recent call last):\n  File "x"\nKeyError: "data/a.txt"\n', 'KeyError: "data/a.txt"'),
        ('Failed to stage: "{\\"message\\": \\"lost\\", \\"traceback\\": \\"Traceback', "lost"),
        ("  short\n text ", "short text"),
        ("", "no reason given"),
        ("x" * 1000, "x…"),
    ],
)
def test_summaries(said: str, expected: str) -> None:
    """A service's traceback is shortened to what it says."""
    assert summarize(said).endswith(expected)
    assert "raceback" not in summarize(said)


def test_policy_knows_users_by_their_whole_name() -> None:
    """A user is known by the exact network id only."""
    with Sandbox(users={"alice": 10}) as sandbox, make_session(Services()) as session:
        policy = Policy(sandbox.policy_url, session)
        assert [policy.knows_user(name) for name in ("alice", "ali", "bob", "a/b")] == [True, False, False, False]
        with pytest.raises(ServiceError, match="does not know the transaction 7"):
            policy.file_ids(7)
