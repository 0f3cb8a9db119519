"""The engine that runs jobs on other machines, made from the settings."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from pacifica_notifications_consumer.archive.archive import Consumer, digest
from pacifica_notifications_consumer.engines.celery import Broker
from pacifica_notifications_consumer.engines.engine import RemoteEngine
from pacifica_notifications_consumer.errors import ConfigurationError
from pacifica_notifications_runner.options.settings import Settings

#: How many jobs run at the same time by default, here or on other machines.
_WORKERS, _REMOTE = 2, 64


def max_running(settings: Settings) -> int:
    """How many jobs run at the same time, here or on other machines."""
    return settings.workers or (_WORKERS if settings.engine == "local" else _REMOTE)


def make_broker(settings: Settings, name: str | None) -> Broker:
    """The broker; its queue has by default the consumer's name."""
    if not settings.broker_url:
        raise ConfigurationError("the address of the broker is missing", "set `broker_url`")
    queue = settings.queue or name
    if not queue:
        raise ConfigurationError(
            "the consumer whose jobs are to be run is not named",
            "set `name` to the name that the start command shows, or `queue` if the consumer has its own",
        )
    return Broker(
        url=settings.broker_url,
        results_url=settings.result_backend or "",
        queue=queue,
        priority=settings.priority,
        lost_after=settings.lost_after,
    )


def remote_engine(consumer: Consumer, settings: Settings, name: str) -> RemoteEngine | None:
    """The engine that hands jobs to other machines; None if they run here."""
    if settings.engine == "local":
        return None
    if settings.run_as:
        raise ConfigurationError("the workers run the jobs", "set `run_as` for the workers instead of here")
    celery = import_celery("engine")
    engine: RemoteEngine = celery.CeleryEngine(make_broker(settings, name), digest(consumer.directory))
    return engine


def import_celery(name: str) -> ModuleType:
    """Import a module of the engine celery, which needs optional packages."""
    try:
        return import_module(f"pacifica_notifications_consumer.engines.celery.{name}")
    except ModuleNotFoundError as error:
        if error.name not in ("celery", "kombu", "redis"):
            raise
        raise ConfigurationError(
            f"the package {error.name} is missing, which sends jobs to other machines",
            "install pacifica-notifications-consumer[celery]",
        ) from error
