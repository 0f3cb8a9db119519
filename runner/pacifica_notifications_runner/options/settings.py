"""The settings of the commands: each field is a flag, an environment variable and a key of the INI file in one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import attrs

from pacifica_notifications_consumer.archive.archive import ArchiveLimits
from pacifica_notifications_consumer.catch_up.catch_up import CatchUpRules
from pacifica_notifications_consumer.cloudevents.notification import MAX_DEPTH
from pacifica_notifications_consumer.endpoint.endpoint import MAX_BODY, MAX_EVENTS, MAX_SIGNED_BODY
from pacifica_notifications_consumer.engines.celery.broker import HIGHEST_PRIORITY, LOST_AFTER, SCHEMES, check_url
from pacifica_notifications_consumer.environment.cache import CacheLimits
from pacifica_notifications_consumer.environment.installer import INSTALLERS
from pacifica_notifications_consumer.http.limits import ServerLimits
from pacifica_notifications_consumer.jobs.limits import JobLimits
from pacifica_notifications_consumer.jobs.retention import Keep
from pacifica_notifications_consumer.settings import converters as read
from pacifica_notifications_consumer.settings.option import Option, options_of, setting, settings_of
from pacifica_notifications_consumer.settings.services import Services

CONSUMER, PACIFICA, ENDPOINT, JOBS, ENVIRONMENT = "Consumer", "Pacifica", "Endpoint", "Jobs", "Environment"
MACHINES, STATUS, SECURITY, LIMITS, SANDBOX = "Many machines", "Status page", "Security", "Limits", "Sandbox"


@attrs.frozen(kw_only=True)
class Settings:
    """The settings of all commands, in the order in which a command's help shows them."""

    name: str | None = setting(
        "the consumer's name, which its subscription and its uploads carry, so that it ignores its own uploads; must "
        "differ between consumers (default: USER@HOST:ARCHIVE)",
        read.consumer_name,
        group=CONSUMER,
    )
    state_dir: Path | None = setting(
        "the directory of the queue and of the jobs' directories, for one running consumer only "
        "(default: ~/.local/state/pacifica-notifications-consumer/NAME)",
        Path,
        metavar="DIR",
    )
    log_format: str = setting(
        "text for people, json for one JSON object a line", read.one_of("text", "json"), default="text"
    )
    verbose: bool = setting("log everything, the installer's output too", read.switch, default=False)

    services: Services = settings_of(Services, PACIFICA)
    register_timeout: float = setting(
        "seconds to go on trying at the start if the producer cannot be reached; 0 for one try",
        read.seconds,
        default=300.0,
    )
    watch_interval: float = setting(
        "seconds between two checks of the subscription, which is repaired if the producer disabled or lost it; "
        "0 for none",
        read.seconds,
        default=30.0,
    )
    catch_up: CatchUpRules = settings_of(CatchUpRules, PACIFICA)

    address: str = setting(
        "the address the endpoint listens on; 0.0.0.0 for all",
        str,
        default="127.0.0.1",
        metavar="ADDRESS",
        group=ENDPOINT,
    )
    port: int = setting("the port the endpoint listens on; 0 picks a free one", read.port, default=0)
    target_url: str | None = setting(
        "the address that the producer calls, if it differs from http://ADDRESS:PORT/receive (behind a proxy)",
        read.url_with_path,
    )
    response_policy: str = setting(
        "the answer to a request that is JSON but not a notification: pacifica accepts it and sets it aside, since "
        "Pacifica's producer disables a subscription at the first refusal; strict refuses it, and offers other "
        "senders the handshake of the specification of webhooks",
        read.one_of("pacifica", "strict"),
        default="pacifica",
    )
    webhook_origins: tuple[str, ...] = setting(
        "with `response_policy` strict: the senders that the handshake permits to send; * for any",
        read.origins,
        default=("*",),
        metavar="NAME,NAME",
    )

    workers: int | None = setting(
        "how many jobs run, or are handed to workers, at the same time (default: 2, with `engine` celery 64)",
        read.concurrency,
        group=JOBS,
    )
    job_timeout: float | None = setting("seconds that an attempt may take", read.limit)
    attempts: int = setting("how many times a job is tried before it is dead", read.count, default=1)
    crash_limit: int = setting(
        "how many times a job is run again if the runner or the machine died meanwhile", read.whole, default=3
    )
    grace: float = setting(
        "seconds that running jobs get at a stop before they go back to the queue", read.seconds, default=30.0
    )
    start: str = setting(
        "how entry-points start: warm, within milliseconds, as children of a process that has imported their modules; "
        "or cold, each in an interpreter of its own",
        read.one_of("warm", "cold"),
        default="warm",
    )
    preload: tuple[str, ...] = setting(
        "modules to import before entry-points start warm, besides requests, jsonpath2, promise, this library, and "
        "those in the archive's preload.txt",
        read.module_names,
        default=(),
        metavar="MODULE,MODULE",
    )
    keep: Keep | None = setting(
        "the finished jobs to keep, with their directories: up to an age (30d, 12h), a number of the newest (1000), "
        "or both (30d,1000); dead jobs are removed by age only (default: all)",
        Keep.parse,
        metavar="AGE,COUNT",
    )

    python: str | None = setting(
        "the interpreter of the consumer's environment, 3.11 or later (default: the running one)",
        str,
        metavar="FILE",
        group=ENVIRONMENT,
    )
    installer: str = setting(
        "the installer of the requirements: auto is uv if it is installed, else pip",
        read.one_of(*INSTALLERS),
        default="auto",
    )
    venv_cache: Path | None = setting(
        "a directory that keeps environments for the next start of the same consumer, which does not run init.sh then "
        "(default: none, the environment is removed at the end; of check, run and environments: "
        "~/.cache/pacifica-notifications-consumer/environments, with `run_as` none)",
        Path,
        metavar="DIR",
    )
    venv_cache_keep: CacheLimits = setting(
        "the unused environments to keep there: up to an age since their last use (30d, 12h), a total size (20G), or "
        "both",
        CacheLimits.parse,
        default=CacheLimits(),
        metavar="AGE,SIZE",
    )
    setup_timeout: float | None = setting(
        "seconds that init.sh and the installer may each take", read.limit, default=1800.0
    )

    engine: str = setting(
        "the engine that runs jobs: local, processes of this machine; or celery, workers on any machines, each started "
        "with pacifica-notifications-consumer worker",
        read.one_of("local", "celery"),
        default="local",
        group=MACHINES,
    )
    broker_url: str | None = setting(
        "the broker that passes jobs to workers, RabbitMQ or Redis: amqp://HOST:PORT or redis://HOST:PORT/NUMBER, with "
        "TLS amqps:// or rediss://; an address with a password is not taken from the command line",
        check_url,
        metavar="URL",
        secret=True,
    )
    result_backend: str | None = setting(
        "the Redis that keeps results until they are in the ledger (default: the broker, if that is Redis)",
        lambda text: check_url(text, SCHEMES[:2]),
        metavar="URL",
        secret=True,
    )
    queue: str | None = setting(
        "the queue of jobs at the broker, used by this consumer only (default: the consumer's name)", read.consumer_name
    )
    lost_after: float = setting(
        "seconds without contact after which a worker counts as lost, and its jobs run elsewhere; it ends them itself "
        "after half that time; must be the same for the consumer and its workers",
        read.lost_after,
        default=LOST_AFTER,
    )
    priority: int = setting(
        f"the priority of the consumer's jobs in the queue, 0 to {HIGHEST_PRIORITY}; workers take the highest first",
        lambda text: read.whole_number(text, 0, HIGHEST_PRIORITY),
        default=0,
        metavar="N",
    )
    concurrency: int = setting("how many jobs a worker runs at the same time", read.concurrency, default=2)

    status_address: str = setting(
        "the address the status page listens on; its token is new at each start",
        str,
        default="127.0.0.1",
        metavar="ADDRESS",
        group=STATUS,
    )
    status_port: int = setting("the port the status page listens on; 0 picks a free one", read.port, default=0)

    tls_cert: Path | None = setting(
        "the certificate of the endpoint with its chain, in PEM; the endpoint then speaks HTTPS", Path, group=SECURITY
    )
    tls_key: Path | None = setting("the private key of `tls_cert`, unless the same file holds it", Path)
    endpoint_auth: Literal["bearer", "basic"] = setting(
        "how the producer authenticates itself, with a secret that is new at each start",
        read.one_of("bearer", "basic"),
        default="bearer",
    )
    webhook_secrets: Path | None = setting(
        "a file with secrets of Standard Webhooks (whsec_...), one a line: a request signed with one of them needs no "
        "token",
        Path,
    )
    run_as: str | None = setting(
        "the user of this machine under which init.sh, the installer and entry-points run, out of reach of the "
        "consumer's secrets and queue; works for root only (default: the user of the command)",
        str,
        metavar="USER",
    )
    allow_new_privileges: bool = setting(
        "let init.sh and entry-points gain rights through programs such as sudo", read.switch, default=False
    )

    max_body: int = setting(
        "the largest body in bytes, such as 256M; a notification of 100,000 files has 26 million",
        read.size,
        default=MAX_BODY,
        group=LIMITS,
    )
    max_signed_body: int = setting(
        "the largest body in bytes of a request without the token, whose signature is checked after reading it",
        read.size,
        default=MAX_SIGNED_BODY,
    )
    max_events: int = setting(
        "the most events in a batch, which are all committed together", read.count, default=MAX_EVENTS
    )
    max_depth: int = setting(
        "the most levels of objects and arrays in a notification; Pacifica's have 3, and deeper ones are set aside, "
        "since other programs may fail on them",
        read.count,
        default=MAX_DEPTH,
    )
    webhook_rate: int | None = setting(
        "with `response_policy` strict: the most requests accepted per minute", read.count_limit
    )
    server_limits: ServerLimits = settings_of(ServerLimits, LIMITS)
    archive_limits: ArchiveLimits = settings_of(ArchiveLimits, LIMITS)
    output_limit: int = setting(
        "the most output in bytes to keep of each attempt, such as 16M; the middle of a longer output is left out",
        read.size,
        default=16 << 20,
    )
    job_limits: JobLimits = settings_of(JobLimits, LIMITS)

    producer_port: int = setting(
        "the port of the sandbox's producer; 0 picks a free one", read.port, default=8070, group=SANDBOX
    )
    cartd_port: int = setting("the port of the sandbox's cartd; 0 picks a free one", read.port, default=8081)
    ingest_port: int = setting("the port of the sandbox's ingest; 0 picks a free one", read.port, default=8066)
    policy_port: int = setting("the port of the sandbox's policy; 0 picks a free one", read.port, default=8181)


#: The settings by their names.
OPTIONS = {option.name: option for option in options_of(Settings)}

#: Settings that have no effect without another one, or without its value, by that.
NEEDED = {
    ("response_policy", "strict"): ("webhook_origins", "webhook_rate"),
    ("start", "warm"): ("preload",),
    ("engine", "celery"): ("broker_url", "result_backend", "queue", "lost_after", "priority"),
    ("venv_cache", ""): ("venv_cache_keep",),
    ("policy_url", ""): ("catch_up_from", "catch_up_interval"),
    ("authentication", "clientssl"): ("client_cert", "client_key"),
}

# The settings for which several commands have flags.
LOG = ("log_format", "verbose")
NAMED = ("name", "state_dir")
ASKING = ("policy_url", "username", "password_file", "authentication", "client_cert", "client_key", "ca_bundle")
SERVICES = ("cartd_url", "proxy_url", "ingest_url", "ingest_upload_url", "ingest_status_url", *ASKING)
SETUP = ("python", "installer", "venv_cache", "venv_cache_keep", "setup_timeout", "archive_size")
RIGHTS = ("run_as", "allow_new_privileges")

_NAMES = re.compile("`([a-z_]+)`")


def with_flags(text: str, *, variables: bool = True) -> str:
    """Replace the names of settings in backticks by their flags and variables."""

    def show(found: re.Match[str]) -> str:
        option = Option(name="config", help="", convert=Path) if found[1] == "config" else OPTIONS.get(found[1])
        if option is None:
            return found[0]
        if not option.has_flag:
            return option.variable
        return f"{option.flag} ({option.variable})" if variables else option.flag

    return _NAMES.sub(show, text)
