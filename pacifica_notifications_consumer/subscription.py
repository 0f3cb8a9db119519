"""A subscription at the producer, for as long as the consumer runs."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Iterator

from .errors import ServiceError
from .filter import Filter
from .producer import Producer
from .services import Services
from .session import make_session

log = logging.getLogger(__name__)

#: What a subscription without a filter says: it finds the whole notification, so it matches every one.
EVERYTHING = "$"
_TOKEN_BYTES = 32


def mint_token() -> str:
    """Make a bearer token that nobody can guess."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


@contextlib.contextmanager
def subscribed(
    services: Services,
    *,
    name: str,
    filter: Filter | None,
    target_url: str,
    token: str,
) -> Iterator[str]:
    """Subscribe an endpoint to the producer, and unsubscribe it with the context; yields the subscription's UUID.

    Args:
        services: Where the producer is and who asks it.
        name: What the subscription is called.
        filter: Which notifications the producer is to post; None means all.
        target_url: Where it posts them.
        token: The bearer token that it sends with each.

    Raises:
        ServiceError: The producer cannot be reached or refuses.
    """
    with make_session(services) as session:
        producer = Producer(services.producer_url, session)
        jsonpath = filter.jsonpath if filter else EVERYTHING
        uuid = producer.subscribe(name=name, jsonpath=jsonpath, target_url=target_url, token=token)
        log.info("subscribed %s at %s as %s", target_url, services.producer_url, uuid)
        try:
            yield uuid
        finally:
            try:
                producer.unsubscribe(uuid)
                log.info("unsubscribed")
            except ServiceError as error:
                log.warning("the subscription %s stays behind at the producer: %s", uuid, error)
