"""The broker: where attempts are handed to workers on other machines, and where their records are kept."""

from __future__ import annotations

from urllib.parse import urlsplit

import attrs

from ...errors import ConfigurationError

#: What it may be: RabbitMQ or Redis, plain or with TLS.
SCHEMES = ("redis", "rediss", "amqp", "amqps")
_OF_REDIS = ("redis", "rediss")
#: The highest priority that an attempt may have; the lowest is 0.
HIGHEST_PRIORITY = 9
#: Seconds without a sign of life after which a worker counts as lost.
LOST_AFTER = 60.0


@attrs.frozen(kw_only=True)
class Broker:
    """Where attempts go, and on what terms; the runner and its workers must agree about all of it.

    Args:
        url: The broker: ``redis://[[USER]:PASSWORD@]HOST[:PORT][/NUMBER]``, ``amqp://[USER:PASSWORD@]HOST[:PORT][/VHOST]``,
            or either with TLS, ``rediss://`` and ``amqps://``.
        results_url: The Redis where records and results are kept; by default the broker, if that is Redis.
        queue: The queue of this consumer; another one's must have another name.
        priority: From 0 to 9: attempts of a higher one in the same queue come first.
        lost_after: Seconds without a sign of life after which a worker counts as lost, and its attempts as crashed.
        visibility_timeout: Seconds after which Redis, as a broker, delivers once more what was not acknowledged; a
            second delivery is left alone, so that this is only about messages.

    Raises:
        ConfigurationError: The addresses are not usable, or results have no place.
    """

    url: str = attrs.field(repr=False)
    results_url: str = attrs.field(default="", repr=False)
    queue: str
    priority: int = 0
    lost_after: float = LOST_AFTER
    visibility_timeout: float = 6 * 3600.0

    def __attrs_post_init__(self) -> None:
        for url, schemes in ((self.url, SCHEMES), (self.results_url or "redis://none", _OF_REDIS)):
            try:
                check_url(url, schemes)
            except ValueError as error:
                raise ConfigurationError(
                    f"the address of the broker or of its results is not usable: {error}"
                ) from None
        if not (self.results_url or self.is_redis):
            raise ConfigurationError(
                "RabbitMQ passes jobs on, but does not keep their results",
                "set `result_backend` to a Redis: redis://HOST:PORT/NUMBER",
            )

    @property
    def is_redis(self) -> bool:
        """Whether the broker is Redis."""
        return urlsplit(self.url).scheme in _OF_REDIS

    @property
    def records_url(self) -> str:
        """The Redis where records are kept."""
        return self.results_url or self.url

    @property
    def place(self) -> str:
        """What it is called, without secrets: the broker, where results are kept, and the queue."""
        through = "" if self.records_url == self.url else f" with results at {without_password(self.records_url)}"
        return f"the queue {self.queue!r} at {without_password(self.url)}{through}"


def check_url(text: str, schemes: tuple[str, ...] = SCHEMES) -> str:
    """Check the address of a broker.

    Raises:
        ValueError: It is none. It is not shown, since a password may stand in it.
    """
    try:
        parts = urlsplit(text)
        usable = parts.scheme in schemes and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"it must look like {' or '.join(f'{scheme}://HOST:PORT' for scheme in schemes)}")
    return text


def without_password(url: str) -> str:
    """An address to be shown."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
