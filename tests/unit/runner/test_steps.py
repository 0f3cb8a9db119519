"""The start command gives the producer an address that it can call, and a user that it knows."""

import socket
from typing import Any

import pytest

from pacifica_notifications_consumer.errors import ConfigurationError, ServiceError
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from pacifica_notifications_runner import steps
from pacifica_notifications_runner.options.settings import Settings

LOCAL = "http://127.0.0.1:8070"


def settings(producer_url: str = LOCAL, **values: Any) -> Settings:
    return Settings(services=Services(producer_url=producer_url), **values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "http://127.0.0.1:99/receive"),
        ({"address": "::1"}, "http://[::1]:99/receive"),
        ({"address": "192.0.2.7"}, "http://192.0.2.7:99/receive"),
        ({"address": "0.0.0.0"}, "http://127.0.0.1:99/receive"),  # noqa: S104
        ({"target_url": "https://proxy/consumer"}, "https://proxy/consumer"),
    ],
)
def test_target(values: dict[str, Any], expected: str) -> None:
    """The target is what was said, else the listening address, as seen from the producer."""
    assert steps.target_url(settings(**values), 99) == expected


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"producer_url": "http://localhost:8070"},
        {"producer_url": "http://192.0.2.1:8070", "address": "192.0.2.7"},
        {"producer_url": "http://192.0.2.1:8070", "target_url": "http://proxy"},
    ],
)
def test_reachable(values: dict[str, Any]) -> None:
    """A producer on this machine, or an address that others can reach, is fine."""
    steps.check_reachability(settings(**values))


def test_unreachable() -> None:
    """A producer on another machine is not given an address that is only this machine's."""
    with pytest.raises(ConfigurationError, match=r"cannot call 127\.0\.0\.1.*; listen where it can with `address`"):
        steps.check_reachability(settings(producer_url="http://192.0.2.1:8070"))


def test_user_is_checked_where_policy_may_be_asked() -> None:
    """A user whom policy does not know is refused at the start, and not by a disabled subscription later."""
    with Sandbox(users={"alice": 10}) as sandbox:
        steps.check_user(Services(policy_url=sandbox.policy_url, username="alice"))
        steps.check_user(Services(policy_url=None, username="bob"))
        with pytest.raises(ConfigurationError, match="knows no user 'bob'; correct `username`"):
            steps.check_user(Services(policy_url=sandbox.policy_url, username="bob"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(ServiceError, match="cannot reach policy"):
        steps.check_user(Services(policy_url=url, username="alice"))
