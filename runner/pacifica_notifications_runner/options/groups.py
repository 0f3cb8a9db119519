"""The settings of the commands: each is a flag, an environment variable and a key of the INI file in one."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pacifica_notifications_consumer.environment.cache import CacheLimits
from pacifica_notifications_consumer.environment.installer import INSTALLERS
from pacifica_notifications_consumer.jobs.retention import Keep
from pacifica_notifications_consumer.settings.converters import (
    consumer_name,
    count,
    limit,
    module_names,
    one_of,
    port,
    rate,
    seconds,
    size,
    switch,
    transaction_or_time,
    whole,
)
from pacifica_notifications_consumer.settings.option import CONFIG_VARIABLE, SECTION, Option, resolve
from pacifica_notifications_consumer.settings.services import ASKING_OPTIONS, PRODUCER_URL, SERVICE_OPTIONS
from pacifica_notifications_runner.options.endpoint import ENDPOINT_OPTIONS
from pacifica_notifications_runner.options.engine import BROKER_OPTIONS, CONCURRENCY, ENGINE_OPTIONS
from pacifica_notifications_runner.options.limits import ARCHIVE_OPTIONS, LIMIT_OPTIONS, PRIVILEGE_OPTIONS

NAME = Option(
    name="name",
    help="the consumer's name: the subscription carries it, and its own uploads do, by which it knows to leave them "
    "alone; must differ between consumers (default: USER@HOST:ARCHIVE)",
    convert=consumer_name,
    metavar="NAME",
)
STATE_DIR = Option(
    name="state_dir",
    help="where the queue and the jobs' directories live; one runner at a time may use it "
    "(default: a directory of the consumer's name in ~/.local/state/pacifica-notifications-consumer)",
    convert=Path,
    metavar="DIR",
)
WORKERS = Option(
    name="workers",
    help="how many jobs run at the same time, or are out with the workers of --engine celery (default: 2, or 64)",
    convert=count,
    metavar="N",
)
JOB_TIMEOUT = Option(
    name="job_timeout",
    help="seconds that an attempt may take; 0 for no limit",
    convert=limit,
    metavar="SECONDS",
)
ATTEMPTS = Option(
    name="attempts",
    help="how many times a job is tried before it is dead",
    convert=count,
    default=1,
    metavar="N",
)
GRACE = Option(
    name="grace",
    help="seconds that running jobs are given at a stop before they go back to the queue",
    convert=seconds,
    default=30.0,
    metavar="SECONDS",
)
PYTHON = Option(
    name="python",
    help="the interpreter of the consumer's environment, 3.11 or later (default: the running one)",
    metavar="FILE",
)
SETUP_TIMEOUT = Option(
    name="setup_timeout",
    help="seconds that init.sh may take, and installing the requirements; 0 for no limit",
    convert=limit,
    default=1800.0,
    metavar="SECONDS",
)
INSTALLER = Option(
    name="installer",
    help="what installs the requirements: auto takes uv where it is there, and else pip",
    convert=one_of(*INSTALLERS),
    default="auto",
    metavar="|".join(INSTALLERS),
)
VENV_CACHE = Option(
    name="venv_cache",
    help="a directory in which environments are kept for the next start of the same consumer, on which its init.sh "
    "does not run (default: none; the environment is removed at the end)",
    convert=Path,
    metavar="DIR",
)
VENV_CACHE_KEEP = Option(
    name="venv_cache_keep",
    help="which environments that nobody uses are kept there: an age since their last use (30d, 12h), a size of all "
    "together (20G), or both",
    convert=CacheLimits.parse,
    default=CacheLimits(),
    metavar="AGE,SIZE",
)
START = Option(
    name="start",
    help="how entry-points start: warm, within milliseconds, as children of a process that has imported what they "
    "need; or cold, each as an interpreter of its own",
    convert=one_of("warm", "cold"),
    default="warm",
    metavar="warm|cold",
)
PRELOAD = Option(
    name="preload",
    help="modules that are imported before entry-points start warm, in addition to requests, jsonpath2, promise, "
    "this library, and those in the archive's preload.txt",
    convert=module_names,
    default=(),
    metavar="MODULE,MODULE",
)
STATUS_ADDRESS = Option(
    name="status_address",
    help="the address the status page listens on; whoever is to see it must show the token that is new at each start",
    default="127.0.0.1",
    metavar="ADDRESS",
)
STATUS_PORT = Option(
    name="status_port",
    help="the port the status page listens on; 0 picks a free one",
    convert=port,
    default=0,
    metavar="PORT",
)
WATCH_INTERVAL = Option(
    name="watch_interval",
    help="seconds between two looks at the subscription, which is mended if the producer switched it off or lost it; "
    "0 for none",
    convert=seconds,
    default=30.0,
    metavar="SECONDS",
)
REGISTER_TIMEOUT = Option(
    name="register_timeout",
    help="seconds to go on trying at the start if the producer cannot be reached; 0 for one try",
    convert=seconds,
    default=300.0,
    metavar="SECONDS",
)
CATCH_UP_FROM = Option(
    name="catch_up_from",
    help="look for missed transactions from this one on: a number, or a time such as 2026-11-24T18:00; looked at once, "
    "however often the consumer is started with it (default: from where the last look ended, or the last announced "
    "one; on a new state directory, from the newest one on)",
    convert=transaction_or_time,
    metavar="ID|TIME",
)
CATCH_UP_INTERVAL = Option(
    name="catch_up_interval",
    help="seconds between two looks for transactions that nobody announced, if --policy-url says whom to ask; 0 for "
    "none but those at the start and after the subscription had to be mended",
    convert=seconds,
    default=600.0,
    metavar="SECONDS",
)
CATCH_UP_PATIENCE = Option(
    name="catch_up_patience",
    help="seconds after which a number that no transaction has counts as left out; an upload has its number before "
    "its transaction can be seen",
    convert=seconds,
    default=86_400.0,
    metavar="SECONDS",
)
CATCH_UP_RATE = Option(
    name="catch_up_rate",
    help="questions to policy in a second at most, while missed transactions are looked for",
    convert=rate,
    default=20.0,
    metavar="N",
)
CRASH_LIMIT = Option(
    name="crash_limit",
    help="how many times a job is run again that was running when the runner or the machine died",
    convert=whole,
    default=3,
    metavar="N",
)
OUTPUT_LIMIT = Option(
    name="output_limit",
    help="bytes of an entry-point's output that are kept, such as 16M; of more, the first and the last half of them",
    convert=size,
    default=16 << 20,
    metavar="BYTES",
)
KEEP = Option(
    name="keep",
    help="which finished jobs to keep, with their directories: those of an age (30d, 12h), a number of the newest "
    "(1000), or both (30d,1000); dead ones go by age only (default: all)",
    convert=Keep.parse,
    metavar="AGE,COUNT",
)
LOG_FORMAT = Option(
    name="log_format",
    help="text for people, json for one JSON object a line",
    convert=one_of("text", "json"),
    default="text",
    metavar="text|json",
)
VERBOSE = Option(
    name="verbose", help="log everything, the installer's output too", convert=switch, default=False, metavar=None
)

SANDBOX_PORTS = tuple(
    Option(
        name=f"{service}_port",
        help=f"the port of the sandbox's {service}; 0 picks a free one",
        convert=port,
        default=default,
        metavar="PORT",
    )
    for service, default in (("producer", 8070), ("cartd", 8081), ("ingest", 8066), ("policy", 8181))
)

PAGE_PORT = Option(
    name="page_port",
    help="the port of the sandbox's page, for uploads from a browser; 0 picks a free one",
    convert=port,
    default=0,
    metavar="PORT",
)
LOG_OPTIONS = (LOG_FORMAT, VERBOSE)
RUN_OPTIONS = (
    *(option for option in SERVICE_OPTIONS if option is not PRODUCER_URL),
    NAME,
    STATE_DIR,
    JOB_TIMEOUT,
    PYTHON,
    INSTALLER,
    VENV_CACHE,
    VENV_CACHE_KEEP,
    SETUP_TIMEOUT,
    *ARCHIVE_OPTIONS,
    *PRIVILEGE_OPTIONS,
    *LOG_OPTIONS,
)
CHECK_OPTIONS = (
    PYTHON,
    INSTALLER,
    VENV_CACHE,
    VENV_CACHE_KEEP,
    SETUP_TIMEOUT,
    *ARCHIVE_OPTIONS,
    *PRIVILEGE_OPTIONS,
    *LOG_OPTIONS,
)
JOB_OPTIONS = (
    *ENGINE_OPTIONS,
    START,
    PRELOAD,
    WORKERS,
    ATTEMPTS,
    CRASH_LIMIT,
    GRACE,
    OUTPUT_LIMIT,
    *LIMIT_OPTIONS,
    KEEP,
)
SUBSCRIPTION_OPTIONS = (REGISTER_TIMEOUT, WATCH_INTERVAL)
MISSED_OPTIONS = (CATCH_UP_FROM, CATCH_UP_INTERVAL, CATCH_UP_PATIENCE, CATCH_UP_RATE)
START_OPTIONS = (
    PRODUCER_URL,
    *RUN_OPTIONS,
    *JOB_OPTIONS,
    *ENDPOINT_OPTIONS,
    *SUBSCRIPTION_OPTIONS,
    *MISSED_OPTIONS,
    STATUS_ADDRESS,
    STATUS_PORT,
)

WORKER_OPTIONS = (
    *BROKER_OPTIONS,
    CONCURRENCY,
    *(option for option in RUN_OPTIONS if option is not JOB_TIMEOUT),
    START,
    PRELOAD,
    GRACE,
    KEEP,
)
ENVIRONMENTS_OPTIONS = (VENV_CACHE, VENV_CACHE_KEEP, *LOG_OPTIONS)
#: Of the subcommand, which is told the range by flags of its own.
CATCH_UP_OPTIONS = (
    *ASKING_OPTIONS,
    NAME,
    STATE_DIR,
    CATCH_UP_PATIENCE,
    CATCH_UP_RATE,
    *LOG_OPTIONS,
)
#: What it takes to find a consumer that was started here.
CONSUMER_OPTIONS = (NAME, STATE_DIR, *LOG_OPTIONS)
SANDBOX_OPTIONS = (*SANDBOX_PORTS, PAGE_PORT, *LOG_OPTIONS)
ALL_OPTIONS = (*START_OPTIONS, CONCURRENCY, *SANDBOX_PORTS, PAGE_PORT)

CONFIG_HELP = f"an INI file; its section [{SECTION}] may set these options, too ({CONFIG_VARIABLE})"


def add_subcommand(
    subparsers: Any, name: str, help_text: str, description: str, epilog: str = ""
) -> argparse.ArgumentParser:
    """Add a subcommand to a command.

    Args:
        subparsers: The subcommands.
        name: What it is called.
        help_text: What it does, in some words.
        description: What it does, whole.
        epilog: What else is to be said, its exit statuses above all.

    Returns:
        Its parser, to be given flags.
    """
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=help_text,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return parser


def add_options(parser: argparse.ArgumentParser, options: Sequence[Option]) -> None:
    """Give a command the flags of its settings, each documented with its variable and its default."""
    parser.add_argument("--config", metavar="FILE", type=Path, help=CONFIG_HELP)
    for option in options:
        if not option.has_flag:
            continue
        # Not with `in`, to which 1 is True.
        has_default = not any(option.default is word for word in (None, False, True, ()))
        default = f" (default: {_shown(option.default)})" if has_default else ""
        help_text = f"{option.help}{default} [{option.variable}]".replace("%", "%%")
        if option.metavar is None:
            parser.add_argument(option.flag, dest=option.name, action="store_const", const="yes", help=help_text)
        else:
            parser.add_argument(option.flag, dest=option.name, metavar=option.metavar, help=help_text)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def add_version(parser: argparse.ArgumentParser) -> None:
    """Give a command the flag ``--version``."""
    installed = version("pacifica-notifications-consumer")
    parser.add_argument("--version", action="version", version=f"pacifica-notifications-consumer {installed}")


def read_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Find the values of all settings, those that a command has no flags for included.

    Raises:
        ConfigurationError: One of them is wrong.
    """
    config = arguments.config or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    return resolve(ALL_OPTIONS, vars(arguments), os.environ, config)
