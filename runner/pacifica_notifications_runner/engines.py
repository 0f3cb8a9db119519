"""What runs jobs, as the settings say: the engine of the start command, and the worker on another machine."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from pacifica_notifications_consumer.archive.archive import Consumer, digest
from pacifica_notifications_consumer.engines.celery import Broker
from pacifica_notifications_consumer.engines.engine import RemoteEngine
from pacifica_notifications_consumer.engines.local import LocalEngine
from pacifica_notifications_consumer.errors import ConfigurationError
from pacifica_notifications_runner.options.settings import Settings

#: How many jobs run at the same time by default, or are out on other machines.
_WORKERS, _OUT = 2, 64


def how_many(settings: Settings) -> int:
    """How many jobs run, or are out, at the same time."""
    default = _WORKERS if settings.engine == "local" else _OUT
    return settings.workers or default


def make_broker(settings: Settings, name: str | None) -> Broker:
    """The broker, as the settings say.

    Args:
        settings: The command's settings.
        name: The consumer's name, after which the queue is called unless it has another one.

    Raises:
        ConfigurationError: It is not said where it is, or what the queue is called.
    """
    if not settings.broker_url:
        raise ConfigurationError("it is not said where the broker is", "set `broker_url`")
    queue = settings.queue or name
    if not queue:
        raise ConfigurationError(
            "it is not said which consumer's jobs are to be run",
            "set `name` to its name, as the start command shows it, or `queue` if it has one",
        )
    return Broker(
        url=settings.broker_url,
        results_url=settings.result_backend or "",
        queue=queue,
        priority=settings.priority,
        lost_after=settings.lost_after,
    )


def remote_engine(consumer: Consumer, settings: Settings, name: str) -> RemoteEngine | None:
    """The engine that hands jobs to other machines; None if they are to be run here.

    Raises:
        ConfigurationError: The settings do not fit together, or a package is missing.
    """
    if settings.engine == "local":
        return None
    if settings.run_as:
        raise ConfigurationError("the workers run the jobs", "set `run_as` for them, not here")
    from_celery = _import("engine")
    engine: RemoteEngine = from_celery.CeleryEngine(make_broker(settings, name), digest(consumer.directory))
    return engine


def remote_worker(
    broker: Broker,
    consumer_digest: str,
    engine: LocalEngine,
    settings: Settings,
    state_dir: Path,
    on_end: Callable[[], object],
) -> Any:
    """The worker, as the settings say.

    Raises:
        ConfigurationError: A package is missing.
    """
    from_celery = _import("worker")
    return from_celery.RemoteWorker(
        broker,
        engine,
        consumer_digest,
        state_dir,
        concurrency=settings.concurrency,
        grace=settings.grace,
        keep=settings.keep,
        run_as=engine.run_as,
        on_end=on_end,
    )


def _import(name: str) -> ModuleType:
    """Import what only those have who want it.

    Raises:
        ConfigurationError: They do not have it.
    """
    try:
        return import_module(f"pacifica_notifications_consumer.engines.celery.{name}")
    except ModuleNotFoundError as error:
        if error.name not in ("celery", "kombu", "redis"):
            raise
        raise ConfigurationError(
            f"the package {error.name} is missing, through which jobs reach other machines",
            "install pacifica-notifications-consumer[celery]",
        ) from error
