"""A subscription at the producer, for as long as the consumer runs: made, watched, mended and unmade.

The producer posts each notification once. At the first answer that it does not like it switches the subscription off,
silently and for good; so somebody has to look.
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

import requests

from ..clients.base import make_session, summarize
from ..clients.producer import AuthKind, Producer, SubscriptionSpec
from ..clients.retry import growing_pause
from ..errors import Cancelled, ServiceError
from ..filter.filter import Filter
from ..settings.services import Services
from ..system.periodic import Periodic
from .incident import Incident, IncidentKind

log = logging.getLogger(__name__)

#: What a subscription without a filter says: it finds the whole notification, so it matches every one.
EVERYTHING = "$"
_TOKEN_BYTES = 32
#: Seconds before the second try to reach a producer, and at most before any.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
#: Seconds at most between two repairs, when the producer switches the subscription off again and again.
_LONGEST_REPAIR_PAUSE = 600.0


def mint_token() -> str:
    """Make a bearer token that nobody can guess."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


class Subscription:
    """A subscription at the producer, to be looked at now and then.

    Args:
        producer: The producer.
        wanted: How it is to be.
        on_incident: Takes each time in which notifications may have been missed.

    Attributes:
        uuid: The producer's name for it; it changes when it had to be made anew.
        trouble: What is the matter with it, in words; empty when it is well.
    """

    def __init__(self, producer: Producer, wanted: SubscriptionSpec, on_incident: Callable[[Incident], None]) -> None:
        self._producer = producer
        self._wanted = wanted
        self._on_incident = on_incident
        # When it was last known to be well.
        self._well_at: float | None = None
        self._repairs = 0
        self._counts: collections.Counter[IncidentKind] = collections.Counter()
        self.uuid = ""
        self.trouble = ""

    @property
    def incidents(self) -> Mapping[IncidentKind, int]:
        """How often it had to be mended since the start, by what was the matter."""
        return dict(self._counts)

    @property
    def repairs(self) -> int:
        """How often it had to be mended since it was last found well."""
        return self._repairs

    def establish(self) -> None:
        """Make it; what an earlier run left behind under its name is taken over, not doubled.

        Raises:
            ServiceError: The producer cannot be reached or refuses.
        """
        leftovers = [each for each in self._producer.subscriptions() if each.get("name") == self._wanted.name]
        if not leftovers:
            self.uuid = self._producer.subscribe(self._wanted)
        else:
            adopted, *others = leftovers
            uuid = str(adopted.get("uuid"))
            self._producer.correct(uuid, self._wanted)
            self.uuid = uuid
            for other in others:
                self._producer.unsubscribe(str(other.get("uuid")))
            if self._well_at is None:
                self._note(IncidentKind.LEFT_BEHIND, self._disabled_at(adopted), _said(adopted))
        self._well_at = time.time()

    def check(self) -> None:
        """Look at it, and mend it if need be.

        Raises:
            ServiceError: The producer cannot be asked, or does not let it be mended; `trouble` says so, too.
        """
        asked_at = time.time()
        try:
            found = self._producer.subscription(self.uuid)
            kind, detail = self._diagnose(found)
            if kind is None:
                if self.trouble and not self._repairs:
                    self._note(IncidentKind.UNREACHABLE, self._well_at, self.trouble)
                self.trouble, self._repairs, self._well_at = "", 0, asked_at
                return
            since = self._disabled_at(found) if found else self._well_at
            if found is None:
                self.establish()
            else:
                self._producer.correct(self.uuid, self._wanted)
        except ServiceError as error:
            self.trouble = str(error)
            raise
        self._repairs += 1
        self._note(kind, since, detail)
        self._well_at = time.time()
        self.trouble = "" if self._repairs == 1 else f"it had to be mended {self._repairs} times in a row: {detail}"

    def _diagnose(self, found: Mapping[str, Any] | None) -> tuple[IncidentKind | None, str]:
        if found is None:
            return IncidentKind.DELETED, ""
        if found.get("disabled"):
            return IncidentKind.DISABLED, _said(found)
        if differences := self._wanted.differs_from(found):
            return IncidentKind.CHANGED, f"somebody changed its {', '.join(differences)}"
        return None, ""

    def remove(self) -> None:
        """Delete it.

        Raises:
            ServiceError: The producer cannot be reached or refuses.
        """
        self._producer.unsubscribe(self.uuid)

    def _disabled_at(self, found: Mapping[str, Any]) -> float | None:
        """Since when it has been off: as the producer says, if that can be, else since it was last known to be well."""
        with contextlib.suppress(ValueError):
            # The producer writes its local time, without saying which that is.
            disabled_at = datetime.fromisoformat(str(found.get("disabled"))).timestamp()
            if (self._well_at or 0.0) <= disabled_at <= time.time():
                return disabled_at
        return self._well_at

    def _note(self, kind: IncidentKind, since: float | None, detail: str) -> None:
        incident = Incident(kind=kind, since=since, until=time.time(), detail=detail)
        self._counts[kind] += 1
        log.warning("%s", _describe(incident, self._wanted.target_url))
        try:
            self._on_incident(incident)
        except Exception:
            # Whoever keeps the books: the subscription comes first.
            log.exception("what happened to the subscription could not be noted")


@contextlib.contextmanager
def subscribed(
    services: Services,
    *,
    name: str,
    filter: Filter | None,
    target_url: str,
    token: str,
    auth: AuthKind = "bearer",
    watch_interval: float = 30.0,
    register_timeout: float = 0.0,
    on_incident: Callable[[Incident], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> Iterator[Subscription]:
    """Subscribe an endpoint to the producer, watch over that, and unsubscribe it with the context.

    Args:
        services: Where the producer is and who asks it.
        name: What the subscription is called.
        filter: Which notifications the producer is to post; None means all.
        target_url: Where it posts them.
        token: What it shows with each.
        auth: How it shows it.
        watch_interval: Seconds between two looks at the subscription; 0 for none.
        register_timeout: Seconds to go on trying while the producer cannot be reached; 0 for one try.
        on_incident: Takes each time in which notifications may have been missed; called on another thread, too.
        stop: Ends the trying when set.

    Raises:
        ServiceError: The producer cannot be reached or refuses.
        Cancelled: ``stop`` was set before the producer could be reached.
    """
    jsonpath = filter.jsonpath if filter else EVERYTHING
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
                log.warning("the subscription cannot be looked at: %s", error)
                return min(_pause(failures), interval)
            return _pause(failures)
        failures = 0
        # One that is switched off again and again is not to flood the log, nor the producer's.
        return min(interval * 2.0 ** max(0, subscription.repairs - 1), max(interval, _LONGEST_REPAIR_PAUSE))

    if not interval:
        return contextlib.nullcontext()
    # When it is stopped, it may be about to make the subscription anew, which is waited for.
    return Periodic(look, name="subscription", interval=interval, delay=interval, daemon=True)


def _may_pass(error: ServiceError) -> bool:
    unreachable = isinstance(error.__cause__, requests.ConnectionError | requests.Timeout)
    return error.transient or (unreachable and not isinstance(error.__cause__, requests.exceptions.SSLError))


def _pause(failures: int) -> float:
    return growing_pause(failures, _FIRST_PAUSE, _LONGEST_PAUSE)


def _said(found: Mapping[str, Any]) -> str:
    """What the producer says why it switched a subscription off."""
    error = found.get("error")
    return summarize(error) if isinstance(error, str) and error.strip() else ""


def _describe(incident: Incident, target_url: str) -> str:
    """An incident in one sentence."""
    what = {
        IncidentKind.DISABLED: "the producer had switched the subscription off, since it could not reach "
        f"{target_url} or did not like the answer; it is on again",
        IncidentKind.DELETED: "the subscription was gone, and was made anew",
        IncidentKind.CHANGED: "the subscription was not as it should be, and was corrected",
        IncidentKind.UNREACHABLE: "the producer can be asked again, and the subscription is well",
        IncidentKind.LEFT_BEHIND: "an earlier run had left its subscription behind, which was taken over",
    }[incident.kind]
    since = "an unknown time" if incident.since is None else _clock(incident.since)
    detail = f" ({incident.detail})" if incident.detail else ""
    return f"{what}{detail}; notifications may have been missed from {since} to {_clock(incident.until)}"


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
