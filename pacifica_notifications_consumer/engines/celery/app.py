"""The Celery application that runner and workers share: the queue, and how messages travel."""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.entity import Exchange, Queue

from .broker import HIGHEST_PRIORITY, Broker

#: Seconds between AMQP heartbeats; a connection to RabbitMQ without them is closed.
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
        # Only JSON, because reading it cannot execute code, unlike pickle.
        task_serializer="json",
        result_serializer="json",
        event_serializer="json",
        accept_content=["json"],
        # `AttemptRecords` holds the result, so Celery stores none.
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=True,
        # Let a job wait for the next free worker, not for the worker that fetched it.
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
    # Celery's environment variables would take precedence over the broker's URL.
    connect = app._connection
    app.connection_for_read = app.connection_for_write = lambda url=None, **options: connect(
        url or broker.url, **options
    )
    return app


def _transport_options(broker: Broker) -> dict[str, Any]:
    if not broker.is_redis:
        return {"confirm_publish": True}
    return {
        "visibility_timeout": broker.visibility_timeout,
        "queue_order_strategy": "priority",
        "priority_steps": list(range(HIGHEST_PRIORITY + 1)),
        # A prefix of our own, so that programs with Celery on the same Redis do not see each other's messages.
        "global_keyprefix": "pacifica-notifications-consumer:broker:",
        "socket_connect_timeout": 5.0,
        "socket_timeout": 10.0,
        "socket_keepalive": True,
        "health_check_interval": 10,
    }


def priority_of(broker: Broker) -> int:
    """Convert a priority to the broker's order: RabbitMQ delivers the highest number first, Redis the lowest."""
    return HIGHEST_PRIORITY - broker.priority if broker.is_redis else broker.priority


def count_waiting(app: Any, broker: Broker) -> int:
    """Count the attempts that wait in the queue; raises the errors of the broker's client."""
    with app.connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, timeout=5.0)
        with connection.channel() as channel:
            try:
                return int(channel.queue_declare(broker.queue, passive=True).message_count)
            except connection.channel_errors:
                # The queue has not been declared yet.
                return 0
