"""start-pacifica-notifications-consumer: six steps, undone in reverse when it stops or when one of them fails."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.archive.archive import open_archive
from pacifica_notifications_consumer.catch_up.catch_up import catching_up
from pacifica_notifications_consumer.endpoint import Endpoint, Rate, Signatures
from pacifica_notifications_consumer.endpoint.endpoint import RECEIVE
from pacifica_notifications_consumer.errors import Cancelled
from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.queue.prometheus import write_metrics
from pacifica_notifications_consumer.subscription.reachability import (
    check_reachability,
    check_user,
    find_target_url,
)
from pacifica_notifications_consumer.subscription.subscription import Subscription, mint_token, subscribed
from pacifica_notifications_runner import defaults, engines, steps
from pacifica_notifications_runner.endpoint import listening
from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.settings import OPTIONS, SANDBOX, Settings
from pacifica_notifications_runner.process import command
from pacifica_notifications_runner.process.signals import StopSignals
from pacifica_notifications_runner.process.systemd import Notifier
from pacifica_notifications_runner.process.tls import server_context
from pacifica_notifications_runner.status.api.api import Api
from pacifica_notifications_runner.status.api.documents import SubscriptionStatus

log = logging.getLogger(__name__)

PROGRAM = "start-pacifica-notifications-consumer"

DESCRIPTION = """\
Deploy a Pacifica consumer: extract consumer.zip, create its virtual environment, run its init.sh and install its
requirements, open its job queue and its web endpoint, and subscribe the endpoint to the producer. From then on the
entry-point runs once for each notification that the consumer's JSONPath matches. SIGINT, SIGTERM or SIGHUP stops it
and undoes all of that; the jobs' directories stay. A second signal does not wait for running jobs.
"""

USAGE = """\
%(prog)s consumer.zip [--SETTING VALUE ...]
       %(prog)s --help | --help-all | --version"""

EPILOG = """\
Each option can also be set by the environment variable named in brackets, or in an INI file given with --config; the
command line comes first, then the environment, then the file. A password is never taken from the command line: put it
into a file (--password-file), into PACIFICA_PASSWORD, or into the INI file.

Exit status: 0 stopped by a signal; 2 wrong command line; 65 the archive or its JSONPath is not usable; 69 a service or
an installer refused; 71 the endpoint cannot listen; 73 the state directory is not usable; 78 wrong settings;
130 stopped before it was ready.
"""

#: The settings that come first in the help.
_MOST_NEEDED = (
    "username",
    "producer_url",
    "cartd_url",
    "ingest_url",
    "policy_url",
    "address",
    "name",
    "state_dir",
)


def make_parser() -> argparse.ArgumentParser:
    """What the command line may be."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, usage=USAGE, description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False, add_help=False
    )
    parser.add_argument("archive", type=Path, metavar="consumer.zip", help="the consumer to deploy")
    names = [name for name, option in OPTIONS.items() if option.group != SANDBOX and name != "concurrency"]
    command_line.add_settings(parser, names, first=_MOST_NEEDED)
    other = parser.add_argument_group("Help")
    command_line.add_help(parser, other, everything=True)
    command_line.add_version(other)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    arguments = make_parser().parse_args(argv)

    def work(settings: Settings) -> int:
        with StopSignals() as signals:
            start(arguments.archive, settings, signals)
        log.info("stopped")
        return 0

    return command.execute(PROGRAM, arguments, work)


def start(archive: Path, settings: Settings, signals: StopSignals) -> None:
    """Deploy a consumer and keep it running until a signal comes.

    Raises:
        PacificaError: A step failed; those before it have been undone.
    """
    username = defaults.require_username(settings.services.username)
    name = settings.name or defaults.default_name(archive, username)
    services = settings.services
    strict = settings.response_policy == "strict"
    tls = server_context(settings.tls_cert, settings.tls_key)
    signatures = Signatures.from_file(settings.webhook_secrets) if settings.webhook_secrets else Signatures()
    notifier = Notifier.from_environment()
    if not settings.target_url:
        check_reachability(producer_url=services.producer_url, address=settings.address)
    run_as = steps.limit_privileges(settings)
    with ExitStack() as stack:
        # 1. extract the archive
        consumer = stack.enter_context(open_archive(archive, settings.archive_limits, run_as))
        # 2. create its environment, 3. run init.sh in it and install the requirements into it; all go together, and
        # are the workers' business where those run the jobs
        engine = engines.remote_engine(consumer, settings, name)
        venv = None if engine else stack.enter_context(steps.venv_builder(consumer, settings, signals.stop, run_as))
        # 4. start the job queue
        runner = stack.enter_context(
            JobRunner(
                consumer.entry_point,
                settings.state_dir or defaults.default_state_dir(name),
                name=name,
                filter=consumer.filter,
                venv=venv,
                services=services,
                workers=engines.how_many(settings),
                timeout=settings.job_timeout,
                attempts=settings.attempts,
                crash_limit=settings.crash_limit,
                grace=settings.grace,
                output_limit=settings.output_limit,
                limits=settings.job_limits,
                keep=settings.keep,
                warm=settings.start == "warm",
                preload=(*consumer.preload, *settings.preload),
                strict=strict,
                max_depth=settings.max_depth,
                engine=engine,
                run_as=run_as,
            )
        )
        if venv:
            kept = runner.state_dir / venv.lock.name
            kept.touch(mode=0o600)
            shutil.copyfile(venv.lock, kept)
        signals.on_second = runner.halt
        # 5. start the web endpoint
        endpoint = Endpoint(
            accept=runner.accept_all,
            token=mint_token(),
            max_body=settings.max_body,
            strict=strict,
            max_events=settings.max_events,
            max_depth=settings.max_depth,
            signatures=signatures,
            max_signed_body=settings.max_signed_body,
            origins=settings.webhook_origins,
            rate=Rate(settings.webhook_rate),
        )
        endpoint.metrics = lambda: write_metrics(runner)
        listener = listening(endpoint, settings.address, settings.port, tls, settings.server_limits)
        server = stack.enter_context(listener)
        api = Api(runner, subscription=lambda: None)
        page = stack.enter_context(steps.status_page(api, settings, tls, endpoint.metrics))
        # 6. subscribe it to the producer
        signals.unless_stopped(lambda: check_user(services))
        target_url = settings.target_url or find_target_url(
            producer_url=services.producer_url,
            address=settings.address,
            port=server.server_port,
            path=RECEIVE,
            tls=tls is not None,
        )
        # When it has been taken back.
        stack.callback(endpoint.retire)
        making_subscription = subscribed(
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
        subscription = stack.enter_context(signals.abandoning(making_subscription))
        api.subscription = lambda: _describe(subscription, target_url)
        if services.policy_url is not None:
            stack.enter_context(catching_up(runner, services, settings.catch_up))
        if signals.stop.is_set():
            raise Cancelled("stopped by a signal before it was ready")
        endpoint.trouble = lambda: subscription.trouble or runner.trouble
        endpoint.ready = True
        log.info("ready: %s runs %s, its jobs in %s", name, archive, runner.state_dir)
        if engine:
            log.info("workers take its jobs from %s", engine.place)
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
