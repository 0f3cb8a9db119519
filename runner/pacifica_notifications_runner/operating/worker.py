"""The subcommand worker: runs jobs of a consumer on another machine."""

from __future__ import annotations

import argparse
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pacifica_notifications_consumer.archive.archive import digest
from pacifica_notifications_consumer.archive.packing import open_consumer
from pacifica_notifications_consumer.engines.local import LocalEngine
from pacifica_notifications_consumer.errors import Cancelled, ServiceError
from pacifica_notifications_runner import defaults, engines, steps
from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.settings import NAMED, RIGHTS, SERVICES, SETUP, Settings
from pacifica_notifications_runner.process.signals import StopSignals
from pacifica_notifications_runner.process.systemd import Notifier

log = logging.getLogger(__name__)

DESCRIPTION = """\
Run jobs of a consumer that was started, on any machine, with --engine celery: extract the same archive, create its
environment here, and take jobs from its broker, several at a time. Their directories stay here; their output, progress
and results are sent to the consumer. SIGINT, SIGTERM or SIGHUP stops it: running jobs get a grace period, and then run
elsewhere. A second signal does not wait for them.
"""

EPILOG = """\
The consumer's entry-point gets the addresses and the password of Pacifica from this command's options; no password
travels through the broker. --name, as the start command shows it, or --queue selects the jobs.

Exit status: 0 stopped by a signal; 2 wrong command line; 65 the archive is not usable; 69 the broker or an installer
refused; 73 the state directory is not usable; 78 wrong settings, or this system is not Linux; 130 stopped before it was
ready.
"""


def add_command(subparsers: Any) -> None:
    """Add the subcommand to the command."""
    broker = ("broker_url", "result_backend", "queue", "lost_after", "concurrency")
    settings = (*NAMED, *SERVICES, *SETUP, *RIGHTS, *broker, "start", "preload", "grace", "keep")
    parser = command_line.add_subcommand(
        subparsers, "worker", work, "run jobs of a consumer on another machine", DESCRIPTION, EPILOG, settings=settings
    )
    parser.set_defaults(needs_linux=True)
    parser.add_argument("archive", type=Path, metavar="consumer.zip|DIR", help="the consumer that was started")


def work(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run jobs until a signal comes."""
    broker = engines.make_broker(settings, settings.name)
    notifier = Notifier.from_environment()
    run_as = steps.limit_privileges(settings)
    with StopSignals() as signals, ExitStack() as stack:
        consumer = stack.enter_context(open_consumer(arguments.archive, settings.archive_limits, run_as))
        consumer_digest = digest(consumer.directory)  # before init.sh can add files to it
        venv = stack.enter_context(steps.venv_builder(consumer, settings, signals.stop, run_as))
        engine = LocalEngine(
            entry_point=consumer.entry_point,
            venv=venv,
            services=settings.services,
            warm=settings.start == "warm",
            preload=(*consumer.preload, *settings.preload),
            run_as=run_as,
        )
        remote_worker = engines.import_celery("worker").RemoteWorker(
            broker,
            engine,
            consumer_digest,
            settings.state_dir or defaults.default_state_dir(f"{broker.queue} (worker)"),
            concurrency=settings.concurrency,
            grace=settings.grace,
            keep=settings.keep,
            run_as=run_as,
            on_end=signals.stop.set,
        )
        worker = stack.enter_context(remote_worker)
        signals.on_second = worker.halt
        if signals.stop.is_set():
            raise Cancelled("stopped by a signal before it was ready")
        log.info("ready: runs jobs of %s from %s in %s", arguments.archive, broker.name, worker.state_dir)
        steps.keep_running(lambda: worker.alive, lambda: f"{worker.running} jobs running", notifier, signals)
        if not worker.alive:
            raise ServiceError("the worker has ended unexpectedly", "see the log for the reason, and start it again")
        log.info("stopping; running jobs are given %g seconds, a second signal stops them now", settings.grace)
    log.info("stopped")
    return 0
