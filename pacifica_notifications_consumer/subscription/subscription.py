"""The subscription at the producer: created at the start, checked and repaired at intervals, deleted at the end.

The producer posts each notification once. After the first error it disables the subscription without telling the
consumer, so the consumer has to check it.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import attrs
import requests

from ..clients.base import make_session, summarize
from ..clients.producer import AuthKind, Producer, SubscriptionSpec
from ..clients.retry import growing_pause
from ..errors import Cancelled, ServiceError, shown
from ..filter.filter import Filter
from ..settings.converters import check, seconds
from ..settings.services import Services
from ..system.periodic import Periodic
from .incident import Incident, IncidentKind

log = logging.getLogger(__name__)

#: The JSONPath of a subscription without a filter: it finds the whole notification, so it matches all.
EVERYTHING = "$"
_TOKEN_BYTES = 32
#: Seconds before another try to reach the producer: the first pause, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
#: The maximum of seconds between two checks when the producer disables the subscription repeatedly.
_LONGEST_REPAIR_PAUSE = 600.0


def mint_token() -> str:
    """Make a random bearer token, too long to be guessed."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


@attrs.define(eq=False, slots=False)
class Subscription:
    """A subscription at the producer.

    Args:
        producer: The client of the producer.
        wanted: The desired subscription.
        on_incident: Called with each incident.

    Attributes:
        uuid: The producer's id of the subscription, which changes when it is created again.
        trouble: A description of the problem; empty when the subscription is healthy.
    """

    _producer: Producer
    _wanted: SubscriptionSpec
    _on_incident: Callable[[Incident], None]
    #: The last time that it was healthy.
    _healthy_at: float | None = attrs.field(default=None, init=False)
    _counts: collections.Counter[IncidentKind] = attrs.field(factory=collections.Counter, init=False)
    #: The number of repairs since a check last found it healthy.
    repairs: int = attrs.field(default=0, init=False)
    uuid: str = attrs.field(default="", init=False)
    trouble: str = attrs.field(default="", init=False)

    @property
    def incidents(self) -> Mapping[IncidentKind, int]:
        """The number of incidents since the start, by cause."""
        return dict(self._counts)

    def establish(self) -> None:
        """Create it, or take over a subscription of the same name that an earlier run left behind.

        Raises `ServiceError` if the producer cannot be reached or refuses.
        """
        leftovers = [each for each in self._producer.subscriptions() if each.get("name") == self._wanted.name]
        if not leftovers:
            self.uuid = self._producer.subscribe(self._wanted)
        else:
            adopted, *others = leftovers
            self._producer.correct(uuid := shown(str(adopted.get("uuid"))), self._wanted)
            self.uuid = uuid
            for other in others:
                self._producer.unsubscribe(shown(str(other.get("uuid"))))
            if self._healthy_at is None:
                self._note(IncidentKind.LEFT_BEHIND, self._disabled_at(adopted), _said(adopted))
        self._healthy_at = time.time()

    def check(self) -> None:
        """Check it, and repair it if necessary.

        Raises:
            ServiceError: The producer cannot be reached or refuses; `trouble` contains the error, too.
        """
        asked_at = time.time()
        try:
            found = self._producer.subscription(self.uuid)
            kind, detail = self._diagnose(found)
            if kind is None:
                if self.trouble and not self.repairs:
                    self._note(IncidentKind.UNREACHABLE, self._healthy_at, self.trouble)
                self.trouble, self.repairs, self._healthy_at = "", 0, asked_at
                return
            since = self._disabled_at(found) if found else self._healthy_at
            if found is None:
                self.establish()
            else:
                self._producer.correct(self.uuid, self._wanted)
        except ServiceError as error:
            self.trouble = str(error)
            raise
        self.repairs += 1
        self._note(kind, since, detail)
        self._healthy_at = time.time()
        self.trouble = "" if self.repairs == 1 else f"it had to be repaired {self.repairs} times in a row: {detail}"

    def _diagnose(self, found: Mapping[str, Any] | None) -> tuple[IncidentKind | None, str]:
        if found is None:
            return IncidentKind.DELETED, ""
        if found.get("disabled"):
            return IncidentKind.DISABLED, _said(found)
        if differences := self._wanted.differs_from(found):
            return IncidentKind.CHANGED, f"another client changed its {', '.join(differences)}"
        return None, ""

    def remove(self) -> None:
        """Delete it; raises `ServiceError` if the producer cannot be reached or refuses."""
        self._producer.unsubscribe(self.uuid)

    def _disabled_at(self, found: Mapping[str, Any]) -> float | None:
        """The time when it was disabled, as the producer says if that is plausible, else when it was last healthy."""
        with contextlib.suppress(ValueError):
            # The producer writes its local time without the zone, which may differ from ours.
            disabled_at = datetime.fromisoformat(str(found.get("disabled"))).timestamp()
            if (self._healthy_at or 0.0) <= disabled_at <= time.time():
                return disabled_at
        return self._healthy_at

    def _note(self, kind: IncidentKind, since: float | None, detail: str) -> None:
        incident = Incident(kind=kind, since=since, until=time.time(), detail=detail)
        self._counts[kind] += 1
        log.warning("%s", _describe(incident, self._wanted.target_url))
        try:
            self._on_incident(incident)
        except Exception:
            # An error of the callback must not end the repair.
            log.exception("an incident of the subscription could not be recorded")


@contextlib.contextmanager
def subscribed(
    services: Services,
    *,
    name: str,
    filter: Filter | str | None,
    target_url: str,
    token: str,
    auth: AuthKind = "bearer",
    watch_interval: float = 30.0,
    register_timeout: float = 0.0,
    on_incident: Callable[[Incident], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> Iterator[Subscription]:
    """Subscribe an endpoint to the producer, check the subscription at intervals, and delete it with the context.

    Args:
        services: The URL of the producer, and the user name.
        name: The name of the subscription.
        filter: The filter that notifications must match, or its JSONPath; None matches all.
        target_url: The URL to which the producer posts notifications.
        token: The token that the producer sends with each notification.
        auth: The authentication scheme of the token.
        watch_interval: Seconds between two checks of the subscription; 0 for none.
        register_timeout: Seconds to retry while the producer cannot be reached; 0 for one try.
        on_incident: Called with each incident; called on another thread, too.
        stop: The event that ends the retries.

    Raises:
        ConfigurationError: An argument is wrong.
        ServiceError: The producer cannot be reached or refuses.
        Cancelled: ``stop`` was set before the producer could be reached.
    """
    check(seconds, watch_interval=watch_interval, register_timeout=register_timeout)
    matching = filter if filter is None or isinstance(filter, Filter) else Filter(filter)
    jsonpath = matching.jsonpath if matching else EVERYTHING
    wanted = SubscriptionSpec(name=name, jsonpath=jsonpath, target_url=target_url, token=token, auth=auth)
    with make_session(services) as session:
        subscription = Subscription(Producer(services.producer_url, session), wanted, on_incident)
        _establish(subscription, register_timeout, stop or threading.Event())
        log.info("subscribed %s at %s as %s", target_url, services.producer_url, subscription.uuid)
        try:
            with _watching(subscription, watch_interval):
                yield subscription
        finally:
            try:
                subscription.remove()
                log.info("unsubscribed")
            except ServiceError as error:
                log.warning("the subscription %s stays behind at the producer: %s", subscription.uuid, error)


def _establish(subscription: Subscription, timeout: float, stop: threading.Event) -> None:
    deadline = time.monotonic() + timeout
    failures = 0
    while True:
        try:
            return subscription.establish()
        except ServiceError as error:
            left = deadline - time.monotonic()
            if not _may_pass(error) or left <= 0:
                raise
            failures += 1
            pause = min(_pause(failures), left)
            log.warning("%s; trying again in %.0f s, for another %.0f s", error.problem, pause, left)
        if stop.wait(pause):
            raise Cancelled("stopped by a signal before the producer could be reached")


def _watching(subscription: Subscription, interval: float) -> contextlib.AbstractContextManager[object]:
    failures = 0

    def look() -> float:
        nonlocal failures
        try:
            subscription.check()
        except ServiceError as error:
            failures += 1
            if failures == 1:
                log.warning("the subscription cannot be checked: %s", error)
                return min(_pause(failures), interval)
            return _pause(failures)
        failures = 0
        # A subscription that is disabled repeatedly must not flood the logs.
        return min(interval * 2.0 ** max(0, subscription.repairs - 1), max(interval, _LONGEST_REPAIR_PAUSE))

    if not interval:
        return contextlib.nullcontext()
    # Stopping waits for a running check, which may be creating the subscription again.
    return Periodic(look, name="subscription", interval=interval, delay=interval, daemon=True)


def _may_pass(error: ServiceError) -> bool:
    unreachable = isinstance(error.__cause__, requests.ConnectionError | requests.Timeout)
    return error.transient or (unreachable and not isinstance(error.__cause__, requests.exceptions.SSLError))


def _pause(failures: int) -> float:
    return growing_pause(failures, _FIRST_PAUSE, _LONGEST_PAUSE)


def _said(found: Mapping[str, Any]) -> str:
    """The producer's error message for a disabled subscription."""
    error = found.get("error")
    return summarize(error) if isinstance(error, str) and error.strip() else ""


def _describe(incident: Incident, target_url: str) -> str:
    """Describe an incident in one sentence."""
    event = {
        IncidentKind.DISABLED: "the producer had switched the subscription off, since it could not reach "
        f"{target_url} or did not like the answer; it is on again",
        IncidentKind.DELETED: "the subscription had been deleted, and was created again",
        IncidentKind.CHANGED: "the subscription had been changed, and was corrected",
        IncidentKind.UNREACHABLE: "the producer can be reached again, and the subscription is healthy",
        IncidentKind.LEFT_BEHIND: "an earlier run had left its subscription behind, which was taken over",
    }[incident.kind]
    since = "an unknown time" if incident.since is None else _clock(incident.since)
    detail = f" ({incident.detail})" if incident.detail else ""
    return f"{event}{detail}; notifications may have been missed from {since} to {_clock(incident.until)}"


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
