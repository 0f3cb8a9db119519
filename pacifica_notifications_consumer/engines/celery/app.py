"""The Celery application that runner and workers share: the queue, and how messages travel."""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.entity import Exchange, Queue

from .broker import HIGHEST_PRIORITY, Broker

#: Seconds without a sign of RabbitMQ after which a connection counts as cut.
_HEARTBEAT = 10
#: Seconds that the broker may take to confirm that it has a message.
CONFIRM = 10.0


def make_app(broker: Broker) -> Any:
    """Make the application."""
    app = Celery("pacifica_notifications_consumer", broker=broker.url, set_as_current=False)
    queue = Queue(
        broker.queue,
        Exchange(broker.queue, type="direct", durable=True),
        routing_key=broker.queue,
        durable=True,
        max_priority=None if broker.is_redis else HIGHEST_PRIORITY,
    )
    app.conf.update(
        task_queues=[queue],
        task_default_queue=broker.queue,
        task_default_exchange=broker.queue,
        task_default_routing_key=broker.queue,
        # What can be written as JSON can do no harm when it is read.
        task_serializer="json",
        result_serializer="json",
        event_serializer="json",
        accept_content=["json"],
        # The record in Redis is the result: a result of Celery's would be a second one.
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=True,
        # So that a job waits for the next free worker, not for the one that fetched it.
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_heartbeat=_HEARTBEAT,
        broker_connection_timeout=5.0,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=_transport_options(broker),
    )
    # Variables of Celery's own would come before what was said here.
    connect = app._connection
    app.connection_for_read = lambda url=None, **options: connect(url or broker.url, **options)
    app.connection_for_write = lambda url=None, **options: connect(url or broker.url, **options)
    return app


def _transport_options(broker: Broker) -> dict[str, Any]:
    if not broker.is_redis:
        return {"confirm_publish": True}
    return {
        "visibility_timeout": broker.visibility_timeout,
        "queue_order_strategy": "priority",
        "priority_steps": list(range(HIGHEST_PRIORITY + 1)),
        # A key of its own: another program's Celery on the same Redis must not see our messages, nor we its.
        "global_keyprefix": "pacifica-notifications-consumer:broker:",
        "socket_connect_timeout": 5.0,
        "socket_timeout": 10.0,
        "socket_keepalive": True,
        "health_check_interval": 10,
    }


def priority_of(broker: Broker) -> int:
    """A priority as the broker counts: to RabbitMQ the highest number comes first, to Redis the lowest."""
    return HIGHEST_PRIORITY - broker.priority if broker.is_redis else broker.priority


def count_waiting(app: Any, broker: Broker) -> int:
    """How many attempts wait in the queue.

    Raises:
        OSError: The broker cannot be reached; or another error of its client's.
    """
    with app.connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, timeout=5.0)
        with connection.channel() as channel:
            try:
                return int(channel.queue_declare(broker.queue, passive=True).message_count)
            except connection.channel_errors:
                # Nobody has declared it so far.
                return 0
