"""What the commands share of the six steps."""

from __future__ import annotations

import contextlib
import logging
import shlex
import ssl
import sys
import threading
from collections.abc import Callable, Iterator

from pacifica_notifications_consumer.archive.archive import Consumer
from pacifica_notifications_consumer.environment.builder import VenvBuilder
from pacifica_notifications_consumer.http.server import Server
from pacifica_notifications_consumer.subscription.reachability import is_loopback
from pacifica_notifications_consumer.subscription.subscription import mint_token
from pacifica_notifications_consumer.system.account import CURRENT_USER, Account
from pacifica_notifications_consumer.system.privileges import give_up_new_privileges
from pacifica_notifications_runner.options.settings import Settings
from pacifica_notifications_runner.process.signals import StopSignals
from pacifica_notifications_runner.process.systemd import Notifier
from pacifica_notifications_runner.process.terminal import is_terminal, note
from pacifica_notifications_runner.status.address import StatusAddress
from pacifica_notifications_runner.status.api.api import Api
from pacifica_notifications_runner.status.listener import showing

log = logging.getLogger(__name__)


def venv_builder(consumer: Consumer, settings: Settings, cancel: threading.Event, run_as: Account) -> VenvBuilder:
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


def limit_privileges(settings: Settings) -> Account:
    """Give up what neither the command nor most consumers need, unless the settings say otherwise.

    Returns:
        The user as whom the consumer's code is to run; by default this process's.

    Raises:
        ConfigurationError: Nothing can be run as that user.
    """
    if not settings.allow_new_privileges:
        give_up_new_privileges()
    return Account.find(settings.run_as) if settings.run_as else CURRENT_USER


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
    secured = None if is_loopback(host) else tls
    if secured is None and not is_loopback(host):
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
