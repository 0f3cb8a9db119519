"""The broker, through which attempts reach workers on other machines, and the Redis that keeps their records."""

from __future__ import annotations

from urllib.parse import urlsplit

import attrs

from ...errors import ConfigurationError
from ...settings.converters import checked, header_text, listed, seconds, whole_number

#: The schemes of a broker's URL: Redis or RabbitMQ, plain or with TLS.
SCHEMES = ("redis", "rediss", "amqp", "amqps")
_OF_REDIS = ("redis", "rediss")
#: The highest priority that an attempt may have; the lowest is 0.
HIGHEST_PRIORITY = 9
#: Seconds without a sign of life after which a worker counts as lost.
LOST_AFTER = 60.0


@attrs.frozen(kw_only=True)
class Broker:
    """The broker and the settings of its queue; they must be the same for the runner and its workers.

    Args:
        url: The broker: ``redis://[[USER]:PASSWORD@]HOST[:PORT][/NUMBER]``, ``amqp://[USER:PASSWORD@]HOST[:PORT][/VHOST]``,
            or either with TLS, ``rediss://`` and ``amqps://``.
        results_url: The Redis that keeps records and results; by default the broker, if that is Redis.
        queue: The queue of this consumer; each consumer needs a queue of its own.
        priority: From 0 to 9; attempts of higher priority in the same queue come first.
        lost_after: Seconds without heartbeat after which a worker counts as lost, and its attempts as crashed.
        visibility_timeout: Seconds after which Redis, as a broker, delivers an unacknowledged message again; the
            worker ignores the second message of an attempt.

    Raises:
        ConfigurationError: An argument is wrong, or ``results_url`` is missing.
    """

    url: str = attrs.field(repr=False)
    results_url: str = attrs.field(default="", repr=False)
    queue: str = attrs.field(validator=checked(header_text))
    priority: int = attrs.field(default=0, validator=checked(lambda text: whole_number(text, 0, HIGHEST_PRIORITY)))
    lost_after: float = attrs.field(default=LOST_AFTER, validator=checked(seconds))
    visibility_timeout: float = attrs.field(default=6 * 3600.0, validator=checked(seconds))

    def __attrs_post_init__(self) -> None:
        for url, schemes in ((self.url, SCHEMES), (self.results_url or "redis://none", _OF_REDIS)):
            try:
                check_url(url, schemes)
            except ValueError as error:
                problem = f"the address of the broker or of its results is not usable: {error}"
                raise ConfigurationError(problem) from None
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
    def name(self) -> str:
        """The queue, the broker and the Redis with the results, without passwords."""
        through = "" if self.records_url == self.url else f" with results at {without_password(self.records_url)}"
        return f"the queue {self.queue!r} at {without_password(self.url)}{through}"


def check_url(text: str, schemes: tuple[str, ...] = SCHEMES) -> str:
    """Return a valid address; the `ValueError` for another does not contain it, because it may contain a password."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in schemes and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"it must look like {listed([f'{scheme}://HOST:PORT' for scheme in schemes])}")
    return text


def without_password(url: str) -> str:
    """A URL without user and password, to be shown."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
