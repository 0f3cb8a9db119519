"""The sandbox's producer: sends each event once to the matching subscriptions, and disables them on any error."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any

import requests

from ...errors import FilterError
from ...filter.filter import Filter
from ...http.errors import HTTPError
from .policy import PolicyService
from .store import Store
from .subscriptions import Subscription, Subscriptions, named
from .wire import ServiceHandler, error_page, from_json
from .workers import TaskThreads

_WORKERS = 2  # as in Pacifica: two slow consumers delay the events of all others
_compiled = lru_cache(maxsize=256)(Filter)


class ProducerService:
    """Matches and delivers events."""

    def __init__(self, store: Store, policy: PolicyService, say: Callable[[str], None]) -> None:
        self.subscriptions = Subscriptions(store, say)
        self._policy = policy
        self._say = say
        self._closed = threading.Event()
        # Separate from the deliveries, so that a slow consumer does not delay matching.
        self._matching = TaskThreads("matching", 1)
        self._delivering = TaskThreads("delivering", _WORKERS)

    def receive(self, event: Any) -> str:
        """Queue an event, and return the id of the task."""
        self._matching.submit(partial(self._dispatch, event))
        return str(uuid.uuid4())

    def close(self, seconds: float = 5.0) -> None:
        """Deliver the queued events within the given seconds; later ones are lost, as in Pacifica."""
        self._matching.close(drain=True, seconds=seconds)
        self._delivering.close(drain=True, seconds=seconds)
        self._closed.set()

    def _dispatch(self, event: Any) -> None:
        # A subscription that is disabled between matching and delivery still gets the event, as in Pacifica.
        for subscription in self.subscriptions.active():
            try:
                matches = _compiled(subscription["jsonpath"]).matches(event)
            except FilterError as error:
                self._say(f"{_title(event)} not routed to {named(subscription)}: {error.problem}")
                continue
            if matches and self._permitted(subscription, event):
                self._delivering.submit(partial(self._deliver, subscription, event))

    def _permitted(self, subscription: Subscription, event: Any) -> bool:
        try:
            self._policy.check_event(subscription["user"], event)
        except HTTPError as refusal:
            self._say(f"{_title(event)} not routed to {named(subscription)}: {refusal}")
            return False
        except Exception as error:
            self._disable(subscription, json.dumps(error_page(error)), f"policy failed: {error}")
            return False
        return True

    def _deliver(self, subscription: Subscription, event: dict[str, Any]) -> None:
        event = {**event, "extensions": {**event.get("extensions", {}), **subscription["extensions"]}}
        headers = {"Content-Type": "application/json"}
        auth = subscription["auth"]
        basic = None
        if auth.get("type") == "basic":
            part = auth.get("basic", {})
            basic = (part.get("username", ""), part.get("password", ""))
        elif auth.get("type") == "header":
            part = auth.get("header", {})
            headers["Authorization"] = f"{part.get('type', '')} {part.get('credentials', '')}"
        try:
            with requests.Session() as session:
                # Ignores proxies and .netrc: the sandbox and its consumers run on the same machine.
                session.trust_env = False
                # Without a timeout, like the real producer.
                response = session.post(subscription["target_url"], data=json.dumps(event), headers=headers, auth=basic)
        except requests.RequestException as error:
            self._disable(subscription, str(error), f"cannot reach its target ({type(error).__name__})")
            return
        self._say(f"{_title(event)} delivered to {named(subscription)}: {response.status_code}")
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            self._disable(subscription, response.text, f"its target answered {response.status_code}")

    def _disable(self, subscription: Subscription, error: str, reason: str) -> None:
        # A delivery that ends after `close` must not write to the directory, which another sandbox may use already.
        if not self._closed.is_set():
            self.subscriptions.disable(subscription["uuid"], error)
            # Without the response's body and the error's text, which may contain credentials.
            self._say(f"subscription {named(subscription)} disabled: {reason}")


def _title(event: Any) -> str:
    return f"notification {event.get('eventID', 'without eventID') if isinstance(event, dict) else 'with a bad body'}"


class ProducerHandler(ServiceHandler):
    """Answers ``/eventmatch`` and ``/receive``."""

    producer: ProducerService

    def route(self) -> None:
        """Answer a request."""
        match self.command, self.segments:
            case (("GET" | "HEAD" | "POST" | "PUT" | "DELETE"), ["eventmatch", *rest]):
                self._eventmatch(rest)
            case "POST", ["receive"]:
                task = self.producer.receive(self._read_json())
                self.reply(HTTPStatus.OK, task.encode(), "text/html;charset=utf-8")
            case _:
                raise HTTPError(HTTPStatus.METHOD_NOT_ALLOWED, "Specified method is invalid for this resource")

    def _eventmatch(self, rest: list[str]) -> None:
        subscriptions = self.producer.subscriptions
        user = self.headers.get("Http-Remote-User", "default_user")
        match self.command, rest:
            case "POST", []:
                self.reply_json(HTTPStatus.OK, subscriptions.create(user, self._read_json()))
            case "GET" | "HEAD", []:
                self.reply_json(HTTPStatus.OK, subscriptions.of(user))
            case "GET" | "HEAD", [name]:
                self.reply_json(HTTPStatus.OK, subscriptions.get(user, name))
            case "PUT", [name]:
                self.reply_json(HTTPStatus.OK, subscriptions.update(user, name, self._read_json))
            case "DELETE", [name]:
                subscriptions.delete(user, name)
                self.reply(HTTPStatus.OK, b"", "application/json")
            case "PUT" | "DELETE", []:
                raise HTTPError(HTTPStatus.NOT_FOUND, "Missing parameters: event_uuid")
            case _:
                raise HTTPError(HTTPStatus.NOT_FOUND, "Nothing matches the given URI")

    def _read_json(self) -> Any:
        body = self.document()
        if self.content_type() == "application/x-www-form-urlencoded":
            # The real producer's web framework consumes the body of a form itself.
            raise HTTPError(HTTPStatus.BAD_REQUEST, "Unexpected body parameters")
        return from_json(body)
