"""Checks before a subscription: that the producer can call the endpoint, and that Pacifica knows the user."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from ..clients.base import make_session
from ..clients.policy import Policy
from ..errors import ConfigurationError
from ..settings.services import Services


def check_user(services: Services) -> None:
    """Ask policy whether it knows the user; does nothing without the URL of policy or a user name.

    Raises:
        ConfigurationError: Policy does not know the user.
        ServiceError: Policy cannot be asked.
    """
    if services.policy_url is None or services.username is None:
        return
    with make_session(services) as session:
        if not Policy(services.policy_url, session).knows_user(services.username):
            raise ConfigurationError(
                f"policy at {services.policy_url} knows no user {services.username!r}",
                "correct `username`: the producer would disable the subscription (`policy_url` asked for this)",
            )


def find_target_url(*, producer_url: str, address: str, port: int, path: str, tls: bool = False) -> str:
    """The URL at which the producer reaches an endpoint of this machine.

    Args:
        producer_url: The producer's URL.
        address: The address that the endpoint listens on. For all addresses of the machine, the URL contains the
            address of the interface that leads to the producer.
        port: The port that the endpoint listens on.
        path: The path that takes notifications.
        tls: Whether the endpoint speaks HTTPS.

    Raises:
        ConfigurationError: No interface leads to the producer.
    """
    host = _address_towards(producer_url) if _is_unspecified(address) else address
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}{path}"


def check_reachability(*, producer_url: str, address: str) -> None:
    """Refuse to give a producer on another machine an address that only this machine can reach.

    Args:
        producer_url: The producer's URL.
        address: The address that the endpoint listens on.

    Raises:
        ConfigurationError: The producer would call its own machine, fail, and disable the subscription.
    """
    if is_loopback(address) and not is_loopback(urlsplit(producer_url).hostname or ""):
        raise ConfigurationError(
            f"the producer at {producer_url} cannot call {address}, which only this machine can reach",
            "set `address` to one that the producer can call (0.0.0.0 for all), or set `target_url`",
        )


def is_loopback(host: str) -> bool:
    """Whether a name or an address is a loopback address; False for a name that cannot be resolved."""
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        # The step that uses the name reports the error; UnicodeError: a part of it is empty or too long.
        return False
    return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in addresses)


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _address_towards(url: str) -> str:
    """The address of the interface through which this machine reaches another."""
    parts = urlsplit(url)
    try:
        family, kind, _, _, address = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)  # sends nothing
            return str(probe.getsockname()[0])
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"cannot find out through which address {parts.hostname} reaches this machine: {reason}",
            "set `target_url` to the URL that the producer is to call",
        ) from error
