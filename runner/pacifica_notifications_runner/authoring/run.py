"""The subcommand run: one job on this machine, through the same code as the start command."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import shutil
import signal
import textwrap
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.archive.packing import open_consumer
from pacifica_notifications_consumer.cloudevents.notification import Notification
from pacifica_notifications_consumer.errors import Cancelled, NotificationError, StateError, explained
from pacifica_notifications_consumer.jobs.directory import StateDirectory
from pacifica_notifications_consumer.jobs.job import Job, JobState, Verdict
from pacifica_notifications_consumer.ledger.ledger import Ledger
from pacifica_notifications_consumer.queue import workers
from pacifica_notifications_consumer.settings.converters import counted
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.system.temporary import make_temporary_directory
from pacifica_notifications_consumer.testing.sandbox import sandbox_environ
from pacifica_notifications_runner import defaults, steps
from pacifica_notifications_runner.authoring.uploaded import UploadedTransaction, UploadWatch
from pacifica_notifications_runner.options import command_line
from pacifica_notifications_runner.options.settings import NAMED, RIGHTS, SERVICES, SETUP, Settings
from pacifica_notifications_runner.process.formats import size
from pacifica_notifications_runner.process.signals import StopSignals
from pacifica_notifications_runner.process.terminal import note, write_bytes
from pacifica_notifications_runner.status.api.api import Api

DESCRIPTION = """\
Run a consumer for one notification, as the start command would: extract the archive, create its environment, test the
notification against its JSONPath, run the entry-point with SRC and DST, and show its output and its uploads. The job's
directory stays.
"""

EPILOG = """\
Exit status: that of the entry-point (128 and the signal's number if a signal ended it), also 75, after which a deployed
consumer would run it again later; 66 if nothing was run because the notification does not match; 65, 69, 73, 78 as with
the start command; 130 stopped by a signal.
"""

#: The exit status if nothing was run.
NOT_MATCHED = 66
#: The default user name with a sandbox, to which all users are the same.
_SANDBOX_USER = "sandbox"
_MOST_FILES = 20


def add_command(subparsers: Any) -> None:
    """Add the subcommand to the command."""
    settings = (*NAMED, *SERVICES, "job_timeout", *SETUP, *RIGHTS)
    parser = command_line.add_subcommand(
        subparsers, "run", run, "run a consumer for one notification", DESCRIPTION, EPILOG, settings=settings
    )
    parser.add_argument("archive", type=Path, metavar="consumer.zip|DIR", help="the consumer, packed or not")
    parser.add_argument("notification", type=Path, metavar="notification.json", help="the notification")
    parser.add_argument(
        "--sandbox", type=Path, metavar="DIR", help="download from and upload to the sandbox there, running or not"
    )
    steps.add_no_venv_cache(parser)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run one job and return the command's exit status."""
    body = _read(arguments.notification)
    event = Notification.parse(body).event
    name = settings.name or defaults.default_name(arguments.archive, settings.services.username, trial=True)
    if not settings.verbose:
        # The job's end is reported below, after the last output of the entry-point.
        logging.getLogger(workers.__name__).setLevel(logging.CRITICAL)
    run_as = steps.limit_privileges(settings)
    with StopSignals() as signals, ExitStack() as stack:
        consumer = stack.enter_context(open_consumer(arguments.archive, settings.archive_limits, run_as))
        if consumer.filter and not consumer.filter.matches(event):
            # Tested here, too, since the queue would test it only after the environment was created.
            status = _nothing_to_run(Verdict.UNMATCHED)
            note(textwrap.indent(str(consumer.filter.explain(event)), "    "))
            return status
        if settings.state_dir:
            _check_idle(settings.state_dir, name)
        services = settings.services
        if arguments.sandbox:
            environ = stack.enter_context(sandbox_environ(arguments.sandbox))
            services = attrs.evolve(Services.from_environment(environ), username=services.username or _SANDBOX_USER)
        settings = steps.with_venv_cache(arguments, settings, run_as)
        venv = stack.enter_context(steps.venv_builder(consumer, settings, signals.stop, run_as))
        state_dir = settings.state_dir or make_temporary_directory("pacifica-run-")
        runner = JobRunner(
            consumer.entry_point,
            state_dir,
            name=name,
            filter=consumer.filter,
            venv=venv,
            services=services,
            workers=1,
            timeout=settings.job_timeout,
            grace=0.0,
            deferrals=0,
            warm=False,  # which is faster for one job
            output_limit=None,
            run_as=run_as,
        )
        watch = UploadWatch(services, name)
        with runner:
            receipt = runner.accept(body)
            job = None if receipt.job_id is None else _follow(runner, receipt.job_id, signals)
            directory = runner.directory(job.id) if job else None
        if job is None or directory is None:
            if not settings.state_dir:
                shutil.rmtree(state_dir)
            return _nothing_to_run(receipt.verdict)
        for transaction in watch.uploaded(directory.destination):
            _show_uploaded(transaction)
        _say(f"{job.state.value}{': ' + job.reason if job.reason else ''}; {directory.path}")
    return _exit_status(job)


def _read(path: Path) -> bytes:
    with explained(NotificationError, f"cannot read {path}", "check the path"):
        return path.read_bytes()


def _check_idle(state_dir: Path, name: str) -> None:
    """Refuse a state directory that is in use or has unfinished jobs, before the environment is created."""
    with contextlib.closing(StateDirectory(state_dir, name)) as state:
        if not state.ledger.exists():
            return
        with contextlib.closing(Ledger(state.ledger)) as ledger:
            counts = ledger.count_jobs()
    if unfinished := sum(count for job_state, count in counts.items() if not job_state.final):
        raise StateError(
            f"the state directory {state_dir} has jobs that are not finished ({unfinished})",
            "let the start command finish them, or choose another `state_dir`",
        )


def _follow(runner: JobRunner, job_id: int, signals: StopSignals) -> Job:
    """Show the output of the entry-point until the job has ended."""
    for piece in Api(runner, closing=signals.stop).log(job_id, follow=True).pieces or ():
        write_bytes(piece)
    job = runner.job(job_id)
    if not job.state.final:
        raise Cancelled("stopped by a signal while the entry-point was running")
    return job


def _show_uploaded(transaction: UploadedTransaction) -> None:
    files = transaction.files
    pairs = ", ".join(f"{key} = {value}" for key, value in transaction.key_values.items())
    _say(f"uploaded transaction {transaction.number}: {counted(len(files), 'file')}{'; ' + pairs if pairs else ''}")
    for name, bytes_ in itertools.islice(files.items(), _MOST_FILES):
        note(f"    {name}  {size(bytes_)}")
    if len(files) > _MOST_FILES:
        note("    … and more")


def _exit_status(job: Job) -> int:
    if job.state is JobState.SUCCEEDED:
        return 0
    if job.exit_status is None:
        return NotificationError.exit_status
    # A job that ran into its time limit may still exit with 0.
    return job.exit_status if job.exit_status > 0 else 128 - (job.exit_status or -signal.SIGTERM)


def _nothing_to_run(verdict: Verdict) -> int:
    reasons = {
        Verdict.UNMATCHED: "the notification does not match the consumer's jsonpath2.txt",
        Verdict.OWN: "the notification announces an upload of this consumer itself",
        Verdict.DUPLICATE: "the notification was run in this state directory before",
    }
    _say(f"nothing was run: {reasons.get(verdict, verdict.value)}")
    return NOT_MATCHED


def _say(text: str) -> None:
    note(f"pacifica-notifications-consumer run: {text}")
