"""start-pacifica-notifications-consumer: six steps, undone in reverse when it stops or when one of them fails."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.archive.archive import open_archive
from pacifica_notifications_consumer.catch_up.catch_up import catching_up
from pacifica_notifications_consumer.endpoint import Signatures
from pacifica_notifications_consumer.endpoint.endpoint import RECEIVE
from pacifica_notifications_consumer.errors import Cancelled
from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.subscription.reachability import check_reachability, check_user, find_target_url
from pacifica_notifications_consumer.subscription.subscription import Subscription, subscribed
from pacifica_notifications_runner import defaults, engines, steps
from pacifica_notifications_runner.endpoint import listening
from pacifica_notifications_runner.options.settings import Settings
from pacifica_notifications_runner.options.start_command import PROGRAM, make_parser
from pacifica_notifications_runner.process import command, terminal
from pacifica_notifications_runner.process.signals import StopSignals
from pacifica_notifications_runner.process.systemd import Notifier
from pacifica_notifications_runner.process.tls import server_context
from pacifica_notifications_runner.status.api.api import Api
from pacifica_notifications_runner.status.api.documents import SubscriptionStatus

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    terminal.escape_unprintable()
    arguments = make_parser().parse_args(argv)

    def work(settings: Settings) -> int:
        start(arguments.archive, settings)
        log.info("stopped")
        return 0

    return command.execute(PROGRAM, arguments, work)


def start(archive: Path, settings: Settings) -> None:
    """Deploy a consumer and keep it running until a signal comes; a step that fails undoes the steps before it."""
    services = settings.services
    username = defaults.require_username(services.username)
    name = settings.name or defaults.default_name(archive, username)
    tls = server_context(settings.tls_cert, settings.tls_key)
    signatures = Signatures.from_file(settings.webhook_secrets) if settings.webhook_secrets else Signatures()
    notifier = Notifier.from_environment()
    if not settings.target_url:
        check_reachability(producer_url=services.producer_url, address=settings.address)
    run_as = steps.limit_privileges(settings)
    with StopSignals() as signals, ExitStack() as stack:
        # 1. Extract the archive.
        consumer = stack.enter_context(open_archive(archive, settings.archive_limits, run_as))
        steps.check_places(settings, name, run_as)

        # 2. and 3. Create its environment, run init.sh in it, and install the requirements; workers have their own.
        engine = engines.remote_engine(consumer, settings, name)
        venv = None if engine else stack.enter_context(steps.venv_builder(consumer, settings, signals.stop, run_as))

        # 4. Start the job queue.
        runner = stack.enter_context(steps.job_queue(consumer, settings, name, venv, engine, run_as))
        if venv:
            steps.keep_lock_file(venv, runner)
        signals.on_second = runner.halt

        # 5. Start the web endpoint, and the status page.
        endpoint = steps.make_endpoint(runner, settings, signatures)
        server = stack.enter_context(listening(endpoint, settings.address, settings.port, tls, settings.server_limits))
        api = Api(runner, subscription=lambda: None)
        page = stack.enter_context(steps.status_page(api, settings, tls, endpoint.metrics))

        # 6. Subscribe the endpoint to the producer, and look for transactions that were not announced.
        signals.unless_stopped(lambda: check_user(services))
        target_url = settings.target_url or find_target_url(
            producer_url=services.producer_url,
            address=settings.address,
            port=server.server_port,
            path=RECEIVE,
            tls=tls is not None,
        )
        stack.callback(endpoint.retire)  # after unsubscribing
        subscribing = subscribed(
            services,
            name=name,
            filter=consumer.filter,
            target_url=target_url,
            token=endpoint.token,
            auth=settings.endpoint_auth,
            watch_interval=settings.watch_interval,
            register_timeout=settings.register_timeout,
            on_incident=runner.note_incident,
            stop=signals.stop,
        )
        subscription = stack.enter_context(signals.abandoning(subscribing))
        api.subscription = lambda: _describe(subscription, target_url)
        if services.policy_url is not None:
            stack.enter_context(catching_up(runner, services, settings.catch_up))

        if signals.stop.is_set():
            raise Cancelled("stopped by a signal before it was ready")
        endpoint.trouble = lambda: subscription.trouble or runner.trouble
        endpoint.ready = True
        log.info("ready: %s runs %s, its jobs in %s", name, archive, runner.state_dir)
        if engine:
            log.info("workers take its jobs from %s", engine.name)
        all_alive = lambda: runner.alive and server.alive and page.alive  # noqa: E731
        steps.keep_running(all_alive, lambda: _status(runner), notifier, signals)
        endpoint.ready = False
        log.info("stopping; running jobs are given %g seconds, a second signal stops them now", settings.grace)


def _describe(subscription: Subscription, target_url: str) -> SubscriptionStatus:
    """The state of the subscription, for the status page."""
    trouble = subscription.trouble
    return {"well": not trouble, "trouble": trouble, "uuid": subscription.uuid, "target_url": target_url}


def _status(runner: JobRunner) -> str:
    counts = runner.count_jobs()
    waiting = counts[JobState.QUEUED] + counts[JobState.FAILED]
    return f"{counts[JobState.RUNNING]} jobs running, {waiting} waiting, {counts[JobState.DEAD]} dead"


if __name__ == "__main__":
    sys.exit(main())
