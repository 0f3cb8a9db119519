"""The settings that say what runs jobs: this machine, or workers on others."""

from __future__ import annotations

from pacifica_notifications_consumer.engines.celery import Broker
from pacifica_notifications_consumer.engines.celery.broker import HIGHEST_PRIORITY, SCHEMES, check_url
from pacifica_notifications_consumer.settings.converters import consumer_name, count, lost_after, one_of, whole_number
from pacifica_notifications_consumer.settings.option import Option

ENGINE = Option(
    name="engine",
    help="what runs jobs: local, processes of this machine; or celery, workers on any machines, each started with "
    "pacifica-notifications-consumer worker",
    convert=one_of("local", "celery"),
    default="local",
    metavar="local|celery",
)
BROKER_URL = Option(
    name="broker_url",
    help="the broker through which workers get jobs, RabbitMQ or Redis: amqp://HOST:PORT or redis://HOST:PORT/NUMBER, "
    "with TLS amqps:// or rediss://; one with a password is not taken from the command line",
    convert=check_url,
    metavar="URL",
    secret=True,
)
RESULT_BACKEND = Option(
    name="result_backend",
    help="the Redis in which results are kept until they are in the ledger (default: the broker, if that is Redis)",
    convert=lambda text: check_url(text, SCHEMES[:2]),
    metavar="URL",
    secret=True,
)
QUEUE = Option(
    name="queue",
    help="the queue of jobs at the broker, which must be this consumer's own (default: the consumer's name)",
    convert=consumer_name,
    metavar="NAME",
)
PRIORITY = Option(
    name="priority",
    help=f"from 0 to {HIGHEST_PRIORITY}: of jobs in one queue, those of a higher priority come first",
    convert=lambda text: whole_number(text, 0, HIGHEST_PRIORITY),
    default=0,
    metavar="N",
)
LOST_AFTER = Option(
    name="lost_after",
    help="seconds without a sign of life after which a worker counts as lost, and its jobs are run elsewhere; it ends "
    "them itself before; to be the same for the consumer and its workers",
    convert=lost_after,
    default=Broker.__attrs_attrs__.lost_after.default,
    metavar="SECONDS",
)
CONCURRENCY = Option(
    name="concurrency",
    help="how many jobs a worker runs at the same time",
    convert=count,
    default=2,
    metavar="N",
)

BROKER_OPTIONS = (BROKER_URL, RESULT_BACKEND, QUEUE, LOST_AFTER)
ENGINE_OPTIONS = (ENGINE, *BROKER_OPTIONS, PRIORITY)
