"""Parts of the six steps, made from the settings; some are shared with other commands."""

from __future__ import annotations

import argparse
import contextlib
import logging
import shlex
import ssl
import sys
import threading
from collections.abc import Callable, Iterator

import attrs

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.archive.archive import Consumer
from pacifica_notifications_consumer.clients.base import check_certificates, make_session
from pacifica_notifications_consumer.endpoint import Endpoint, Rate, Signatures
from pacifica_notifications_consumer.engines.engine import RemoteEngine
from pacifica_notifications_consumer.environment.builder import VenvBuilder
from pacifica_notifications_consumer.environment.venv import Venv
from pacifica_notifications_consumer.http.server import Server, reserved
from pacifica_notifications_consumer.jobs.directory import StateDirectory
from pacifica_notifications_consumer.queue.prometheus import write_metrics
from pacifica_notifications_consumer.subscription.reachability import is_loopback
from pacifica_notifications_consumer.subscription.subscription import mint_token
from pacifica_notifications_consumer.system.account import (
    CURRENT_USER,
    Account,
    give_up_new_privileges,
    leave_session_keyring,
)
from pacifica_notifications_consumer.system.files import replacing
from pacifica_notifications_consumer.system.terminal import is_terminal
from pacifica_notifications_runner import defaults, engines
from pacifica_notifications_runner.options.settings import Settings
from pacifica_notifications_runner.process.signals import StopSignals
from pacifica_notifications_runner.process.systemd import Notifier
from pacifica_notifications_runner.process.terminal import note
from pacifica_notifications_runner.status.address import StatusAddress
from pacifica_notifications_runner.status.api.api import Api
from pacifica_notifications_runner.status.listener import showing

log = logging.getLogger(__name__)


def limit_privileges(settings: Settings) -> Account:
    """Give up the right to gain privileges, by default; the user under which the consumer's code is to run."""
    if not settings.allow_new_privileges:
        give_up_new_privileges()
    if not settings.run_as:
        return CURRENT_USER
    leave_session_keyring()
    return Account.find(settings.run_as)


def check_places(settings: Settings, name: str, run_as: Account) -> None:
    """Find out before the environment is created, which takes long, whether the later steps can work."""
    status = reserved(settings.status_address, settings.status_port, ("status_address", "status_port"))
    with reserved(settings.address, settings.port), status:
        StateDirectory(settings.state_dir or defaults.default_state_dir(name), name, run_as).close()
    with make_session(settings.services) as session:
        check_certificates(session)


def add_no_venv_cache(parser: argparse.ArgumentParser) -> None:
    """Add the flag that keeps a command from using the user's cache of environments."""
    parser.set_defaults(defaulted=("venv_cache",))
    help_text = "make the environment anew and remove it again, whatever the settings say"
    parser.add_argument("--no-venv-cache", action="store_true", help=help_text)


def with_venv_cache(arguments: argparse.Namespace, settings: Settings, run_as: Account) -> Settings:
    """The settings of a command for authors, which keeps environments in the user's cache by default."""
    if arguments.no_venv_cache:
        return attrs.evolve(settings, venv_cache=None)
    if settings.venv_cache or run_as is not CURRENT_USER:  # Another user cannot reach the cache of this one.
        return settings
    return attrs.evolve(settings, venv_cache=defaults.default_venv_cache())


def venv_builder(consumer: Consumer, settings: Settings, cancel: threading.Event, run_as: Account) -> VenvBuilder:
    """The builder of a consumer's environment."""
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


def job_queue(
    consumer: Consumer, settings: Settings, name: str, venv: Venv | None, engine: RemoteEngine | None, run_as: Account
) -> JobRunner:
    """The queue of a consumer's jobs, which run in ``venv``, or on other machines through ``engine``."""
    return JobRunner(
        consumer.entry_point,
        settings.state_dir or defaults.default_state_dir(name),
        name=name,
        filter=consumer.filter,
        venv=venv,
        services=settings.services,
        workers=engines.max_running(settings),
        timeout=settings.job_timeout,
        attempts=settings.attempts,
        crash_limit=settings.crash_limit,
        grace=settings.grace,
        output_limit=settings.output_limit,
        limits=settings.job_limits,
        keep=settings.keep,
        warm=settings.start == "warm",
        preload=(*consumer.preload, *settings.preload),
        strict=settings.response_policy == "strict",
        max_depth=settings.max_depth,
        engine=engine,
        run_as=run_as,
    )


def keep_lock_file(venv: Venv, runner: JobRunner) -> None:
    """Copy the list of the installed packages into the state directory, which outlives the environment."""
    with replacing(runner.state_dir / venv.lock.name) as kept:
        kept.write(venv.lock.read_bytes())


def make_endpoint(runner: JobRunner, settings: Settings, signatures: Signatures) -> Endpoint:
    """The rules of the endpoint through which a queue gets notifications."""
    return Endpoint(
        accept=runner.accept_all,
        token=mint_token(),
        max_body=settings.max_body,
        strict=settings.response_policy == "strict",
        max_events=settings.max_events,
        max_depth=settings.max_depth,
        signatures=signatures,
        max_signed_body=settings.max_signed_body,
        origins=settings.webhook_origins,
        rate=Rate(settings.webhook_rate),
        metrics=lambda: write_metrics(runner),
    )


@contextlib.contextmanager
def status_page(
    api: Api, settings: Settings, tls: ssl.SSLContext | None, metrics: Callable[[], str]
) -> Iterator[Server]:
    """Serve the status page, and report its address: at a terminal with the token, in a log without it."""
    token = mint_token()
    host = settings.status_address
    # Loopback needs no encryption, and the certificate is for another name.
    secured = None if is_loopback(host) else tls
    if secured is None and not is_loopback(host):
        log.warning("the status page at %s is not encrypted: set a certificate with `tls_cert`", host)
    with showing(api, token, host, settings.status_port, secured, metrics) as server:
        # Browsers cannot open the address that stands for all addresses of this machine.
        url = server.url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
        address = StatusAddress(url, token)
        with address.kept_in(api.book.state_dir):
            if is_terminal(sys.stderr):
                note(f"The status page, to be opened in a browser: {address.link}")
            else:
                command = f"pacifica-notifications-consumer status --state-dir {shlex.quote(str(api.book.state_dir))}"
                log.info("the status page is at %s; `%s` prints the token", url, command)
            yield server


def keep_running(
    all_alive: Callable[[], bool], status: Callable[[], str], notifier: Notifier, signals: StopSignals
) -> None:
    """Wait for the signal to stop, and meanwhile send the supervisor signs of life."""
    notifier.ready(status())
    while not signals.stop.wait(notifier.interval):
        if all_alive():
            notifier.alive(status())
        else:
            log.critical("a thread has ended unexpectedly; the supervisor gets no more signs of life")
    notifier.stopping("giving running jobs time to end")
