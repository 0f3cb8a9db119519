"""The producer gets a URL that it can call, and a user that policy knows."""

import socket

import pytest

from pacifica_notifications_consumer.errors import ConfigurationError, ServiceError
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.subscription.reachability import check_reachability, check_user, find_target_url
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.support.machine.ports import free_port

LOCAL = "http://127.0.0.1:8070"


@pytest.mark.parametrize(
    ("address", "tls", "expected"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:99/receive"),
        ("::1", False, "http://[::1]:99/receive"),
        ("192.0.2.7", True, "https://192.0.2.7:99/receive"),
        ("0.0.0.0", False, "http://127.0.0.1:99/receive"),  # noqa: S104
    ],
)
def test_target(address: str, tls: bool, expected: str) -> None:
    """The target is the listening address, as seen from the producer."""
    assert find_target_url(producer_url=LOCAL, address=address, port=99, path="/receive", tls=tls) == expected


def test_no_way_to_the_producer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint on all addresses needs a producer whose name can be resolved, to choose the address in the URL."""

    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ConfigurationError, match=r"address nowhere reaches .*: Name or .*; set `target_url` to"):
        find_target_url(producer_url="http://nowhere", address="0.0.0.0", port=99, path="/receive")  # noqa: S104


@pytest.mark.parametrize(
    ("producer_url", "address"),
    [(LOCAL, "127.0.0.1"), ("http://localhost:8070", "127.0.0.1"), ("http://192.0.2.1:8070", "192.0.2.7")],
)
def test_reachable(producer_url: str, address: str) -> None:
    """A producer on this machine, or an address that other machines can reach, is accepted."""
    check_reachability(producer_url=producer_url, address=address)


def test_unreachable() -> None:
    """A loopback address is refused for a producer on another machine."""
    with pytest.raises(
        ConfigurationError, match=r"cannot call 127\.0\.0\.1.*; set `address` to .* or set `target_url`"
    ):
        check_reachability(producer_url="http://192.0.2.1:8070", address="127.0.0.1")


def test_user_is_checked_where_policy_may_be_asked() -> None:
    """A user that policy does not know is refused at the start, before the producer disables the subscription."""
    with Sandbox(users={"alice": 10}) as sandbox:
        check_user(Services(policy_url=sandbox.policy_url, username="alice"))
        check_user(Services(policy_url=None, username="bob"))
        with pytest.raises(ConfigurationError, match="knows no user 'bob'; correct `username`"):
            check_user(Services(policy_url=sandbox.policy_url, username="bob"))
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ServiceError, match="cannot reach policy"):
        check_user(Services(policy_url=url, username="alice"))
