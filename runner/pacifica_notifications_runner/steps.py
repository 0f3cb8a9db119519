"""What the commands share of the six steps."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import shlex
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from pacifica_notifications_consumer.archive.archive import Consumer
from pacifica_notifications_consumer.catch_up.catch_up import CatchUpRules
from pacifica_notifications_consumer.clients.base import make_session
from pacifica_notifications_consumer.clients.policy import Policy
from pacifica_notifications_consumer.environment.builder import VenvBuilder
from pacifica_notifications_consumer.errors import ConfigurationError
from pacifica_notifications_consumer.http.server import Server
from pacifica_notifications_consumer.settings.services import POLICY_URL, Services
from pacifica_notifications_consumer.subscription.subscription import mint_token
from pacifica_notifications_consumer.system.account import CURRENT_USER, Account
from pacifica_notifications_consumer.system.privileges import give_up_new_privileges
from pacifica_notifications_runner.endpoint import RECEIVE
from pacifica_notifications_runner.process.signals import StopSignals
from pacifica_notifications_runner.process.systemd import Notifier
from pacifica_notifications_runner.process.terminal import is_terminal, note
from pacifica_notifications_runner.status.address import StatusAddress
from pacifica_notifications_runner.status.api.api import Api
from pacifica_notifications_runner.status.listener import showing

log = logging.getLogger(__name__)


def venv_builder(
    consumer: Consumer, settings: Mapping[str, Any], cancel: threading.Event, run_as: Account
) -> VenvBuilder:
    """The builder of a consumer's environment, as the settings say."""
    return VenvBuilder(
        python=settings["python"] or sys.executable,
        directory=consumer.directory,
        requirements=consumer.requirements,
        init_script=consumer.init_script,
        installer=settings["installer"],
        cache=settings["venv_cache"],
        cache_limits=settings["venv_cache_keep"],
        timeout=settings["setup_timeout"],
        cancel=cancel,
        run_as=run_as,
    )


def limit_privileges(settings: Mapping[str, Any]) -> Account:
    """Give up what neither the command nor most consumers need, unless the settings say otherwise.

    Returns:
        The user as whom the consumer's code is to run; by default this process's.

    Raises:
        ConfigurationError: Nothing can be run as that user.
    """
    if not settings["allow_new_privileges"]:
        give_up_new_privileges()
    return Account.find(settings["run_as"]) if settings["run_as"] else CURRENT_USER


def check_user(services: Services) -> None:
    """Ask policy whether it knows the user, if policy may be asked.

    Raises:
        ConfigurationError: It does not.
    """
    if services.policy_url is None or services.username is None:
        return
    with make_session(services) as session:
        if not Policy(services.policy_url, session).knows_user(services.username):
            raise ConfigurationError(
                f"policy at {services.policy_url} knows no user {services.username!r}",
                f"correct --username: the producer would disable the subscription ({POLICY_URL.flag} asked for this)",
            )


def catch_up_rules(settings: Mapping[str, Any]) -> CatchUpRules:
    """How missed transactions are looked for, as the settings say."""
    return CatchUpRules(
        interval=settings["catch_up_interval"],
        start=settings["catch_up_from"],
        patience=settings["catch_up_patience"],
        rate=settings["catch_up_rate"],
    )


def target_url(settings: Mapping[str, Any], port: int) -> str:
    """What the producer is to call.

    Args:
        settings: The command's settings.
        port: The port that the endpoint listens on.
    """
    if settings["target_url"]:
        return str(settings["target_url"])
    host = settings["address"]
    if _is_unspecified(host):
        host = _address_towards(settings["producer_url"])
    scheme = "https" if settings["tls_cert"] else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{RECEIVE}"


def check_reachability(settings: Mapping[str, Any]) -> None:
    """Refuse to give a producer on another machine an address that only this machine can reach.

    Raises:
        ConfigurationError: It would call itself, fail, and disable the subscription.
    """
    host = urlsplit(settings["producer_url"]).hostname or ""
    if settings["target_url"] or not _is_loopback(settings["address"]) or _is_loopback(host):
        return
    raise ConfigurationError(
        f"the producer at {settings['producer_url']} cannot call {settings['address']}, which is this machine's own",
        "listen where it can with --address (0.0.0.0 for all), or say with --target-url what it is to call",
    )


def keep_running(
    all_alive: Callable[[], bool], status: Callable[[], str], notifier: Notifier, signals: StopSignals
) -> None:
    """Wait for the signal to stop, and meanwhile tell the supervisor that all is at work."""
    notifier.ready(status())
    while not signals.stop.wait(notifier.interval):
        if all_alive():
            notifier.alive(status())
        else:
            log.critical("a thread has ended by itself; the supervisor is not told that all is well any more")
    notifier.stopping("giving running jobs time to end")


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        # A name that nobody knows is reported by the step that uses it.
        return False
    return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in addresses)


def _address_towards(url: str) -> str:
    """The address of the interface through which this machine reaches another."""
    parts = urlsplit(url)
    try:
        family, kind, _, _, address = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)  # sends nothing
            return str(probe.getsockname()[0])
    except OSError as error:
        raise ConfigurationError(
            f"cannot find out through which address {parts.hostname} reaches this machine: {error.strerror}",
            "say with --target-url what the producer is to call",
        ) from error


@contextlib.contextmanager
def status_page(
    api: Api, settings: Mapping[str, Any], tls: ssl.SSLContext | None, metrics: Callable[[], str]
) -> Iterator[Server]:
    """Show the status page, and say where it is: with the token to people at a terminal, without it in a log.

    Raises:
        EndpointError: The address or the port cannot be had.
        StateError: The state directory cannot be written to.
    """
    token = mint_token()
    host = settings["status_address"]
    # On this machine nobody can listen in, and the certificate is another name's.
    secured = None if _is_loopback(host) else tls
    if secured is None and not _is_loopback(host):
        log.warning("the status page at %s is not encrypted: give a certificate with --tls-cert", host)
    with showing(api, token, host, settings["status_port"], secured, metrics) as server:
        # All addresses of this machine are no address to go to.
        url = server.url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
        address = StatusAddress(url, token)
        with address.kept_in(api.book.state_dir):
            if is_terminal(sys.stderr):
                note(f"The status page, to be opened in a browser: {address.link}")
            else:
                state_dir = shlex.quote(str(api.book.state_dir))
                log.info(
                    "the status page is at %s; `pacifica-notifications-consumer status --state-dir %s` tells the token",
                    url,
                    state_dir,
                )
            yield server
