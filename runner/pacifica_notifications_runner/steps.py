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
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from pacifica_notifications_consumer.archive.archive import Consumer
from pacifica_notifications_consumer.clients.base import make_session
from pacifica_notifications_consumer.clients.policy import Policy
from pacifica_notifications_consumer.environment.builder import VenvBuilder
from pacifica_notifications_consumer.errors import ConfigurationError
from pacifica_notifications_consumer.http.server import Server
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.subscription.subscription import mint_token
from pacifica_notifications_consumer.system.account import Account
from pacifica_notifications_consumer.system.privileges import give_up_new_privileges
from pacifica_notifications_runner.endpoint import RECEIVE
from pacifica_notifications_runner.options.settings import Settings
from pacifica_notifications_runner.process.signals import StopSignals
from pacifica_notifications_runner.process.systemd import Notifier
from pacifica_notifications_runner.process.terminal import is_terminal, note
from pacifica_notifications_runner.status.address import StatusAddress
from pacifica_notifications_runner.status.api.api import Api
from pacifica_notifications_runner.status.listener import showing

log = logging.getLogger(__name__)


def venv_builder(
    consumer: Consumer, settings: Settings, cancel: threading.Event, run_as: Account | None
) -> VenvBuilder:
    """The builder of a consumer's environment, as the settings say."""
    return VenvBuilder(
        python=settings.python or sys.executable,
        directory=consumer.directory,
        requirements=consumer.requirements,
        init_script=consumer.init_script,
        installer=settings.installer,
        cache=settings.venv_cache,
        cache_limits=settings.venv_cache_keep,
        timeout=settings.setup_timeout,
        cancel=cancel,
        run_as=run_as,
    )


def limit_privileges(settings: Settings) -> Account | None:
    """Give up what neither the command nor most consumers need, unless the settings say otherwise.

    Returns:
        The user as whom the consumer's code is to run; None for this process's.

    Raises:
        ConfigurationError: Nothing can be run as that user.
    """
    if not settings.allow_new_privileges:
        give_up_new_privileges()
    return Account.find(settings.run_as) if settings.run_as else None


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
                "correct `username`: the producer would disable the subscription (`policy_url` asked for this)",
            )


def target_url(settings: Settings, port: int) -> str:
    """What the producer is to call.

    Args:
        settings: The command's settings.
        port: The port that the endpoint listens on.
    """
    if settings.target_url:
        return settings.target_url
    host = settings.address
    if _is_unspecified(host):
        host = _address_towards(settings.services.producer_url)
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{RECEIVE}"


def check_reachability(settings: Settings) -> None:
    """Refuse to give a producer on another machine an address that only this machine can reach.

    Raises:
        ConfigurationError: It would call itself, fail, and disable the subscription.
    """
    host = urlsplit(settings.services.producer_url).hostname or ""
    if settings.target_url or not _is_loopback(settings.address) or _is_loopback(host):
        return
    raise ConfigurationError(
        f"the producer at {settings.services.producer_url} cannot call {settings.address}, which is this machine's own",
        "listen where it can with `address` (0.0.0.0 for all), or set `target_url` to the address that it is to call",
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
            "set `target_url` to the address that the producer is to call",
        ) from error


@contextlib.contextmanager
def status_page(
    api: Api, settings: Settings, tls: ssl.SSLContext | None, metrics: Callable[[], str]
) -> Iterator[Server]:
    """Show the status page, and say where it is: with the token to people at a terminal, without it in a log.

    Raises:
        EndpointError: The address or the port cannot be had.
        StateError: The state directory cannot be written to.
    """
    token = mint_token()
    host = settings.status_address
    # On this machine nobody can listen in, and the certificate is another name's.
    secured = None if _is_loopback(host) else tls
    if secured is None and not _is_loopback(host):
        log.warning("the status page at %s is not encrypted: give a certificate with `tls_cert`", host)
    with showing(api, token, host, settings.status_port, secured, metrics) as server:
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
