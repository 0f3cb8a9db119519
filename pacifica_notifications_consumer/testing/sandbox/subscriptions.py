"""The subscriptions of the sandbox's producer, with its validation; the producer calls them eventmatches."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from types import NoneType
from typing import Any

from ...filter.filter import Filter
from ...http.errors import HTTPError
from .store import Store

Subscription = dict[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("uuid", "name", "jsonpath", "user", "target_url", "version", "created", "updated"), (str,)),
    **dict.fromkeys(("disabled", "error", "deleted"), (str, NoneType)),
    "extensions": (dict,),
}
#: In the order of the producer's answers.
_FIELDS = (
    *("uuid", "name", "jsonpath", "user", "disabled", "error", "target_url"),
    *("version", "extensions", "auth", "created", "updated", "deleted"),
)
_TIMES = ("disabled", "created", "updated", "deleted")
_CREDENTIALS = {"basic": ("username", "password"), "header": ("type", "credentials")}
_LONGEST_NAME = 255
# The real producer refuses a body with all of these: the unchanged answer to a GET cannot be sent with a PUT.
_ALL_READ_ONLY = {"uuid", "user", "created", "updated", "deleted", "version"}


class Subscriptions:
    """All subscriptions; users can access only their own, and others raise `HTTPError`."""

    def __init__(self, store: Store, say: Callable[[str], None]) -> None:
        self._store = store
        self._say = say
        self._lock = threading.Lock()
        self._all = {subscription["uuid"]: subscription for subscription in store.subscriptions()}

    def kept(self) -> list[Subscription]:
        """The subscriptions that are not deleted, the oldest first."""
        with self._lock:
            return [dict(subscription) for subscription in self._all.values() if not subscription["deleted"]]

    def active(self) -> list[Subscription]:
        """The subscriptions that are neither deleted nor disabled."""
        return [subscription for subscription in self.kept() if not subscription["disabled"]]

    def of(self, user: str) -> list[Subscription]:
        """The subscriptions of a user; raises `HTTPError` if there are none."""
        found = [subscription for subscription in self.kept() if subscription["user"] == user]
        if not found:
            raise _forbidden()
        return found

    def get(self, user: str, name: str) -> Subscription:
        """A subscription of a user by its UUID; raises `ValueError` if the name is not a UUID."""
        key = str(uuid.UUID(f"{{{name}}}"))
        with self._lock:
            subscription = self._all.get(key)
            if subscription is None or subscription["user"] != user or subscription["deleted"]:
                raise _forbidden()
            return dict(subscription)

    def create(self, user: str, body: Any) -> Subscription:
        """Create a subscription; any error in the body is raised."""
        values = _checked(body)
        now = datetime.now().isoformat()
        subscription: Subscription = {
            **dict.fromkeys(_FIELDS),
            "uuid": str(uuid.uuid4()),
            "version": "v0.1",
            "created": now,
            "updated": now,
            **values,
            "user": user,
        }
        subscription["uuid"] = str(uuid.UUID(subscription["uuid"]))
        for field in ("jsonpath", "name", "target_url"):
            if subscription[field] is None:
                raise ValueError(f'null value in column "{field}" violates not-null constraint')
        Filter(subscription["jsonpath"])
        with self._lock:
            if subscription["uuid"] in self._all:
                raise ValueError('duplicate key value violates unique constraint "eventmatch_pkey"')
            self._keep(subscription)
        self._say(f"subscription {named(subscription)} created")
        return self.get(user, subscription["uuid"])

    def update(self, user: str, name: str, read_body: Callable[[], Any]) -> Subscription:
        """Change the given values; ``auth`` and ``extensions`` are emptied if they are not given."""
        subscription = self.get(user, name)
        values = _checked(read_body())
        values.pop("uuid", None)
        subscription.update(values, updated=datetime.now().isoformat())
        Filter(subscription["jsonpath"])
        with self._lock:
            self._keep(subscription)
        self._say(f"subscription {named(subscription)} {'disabled' if subscription['disabled'] else 'updated'}")
        return self.get(user, name)

    def delete(self, user: str, name: str) -> None:
        """Delete a subscription."""
        now = datetime.now().isoformat()
        subscription = {**self.get(user, name), "deleted": now, "updated": now}
        with self._lock:
            self._keep(subscription)
        self._say(f"subscription {named(subscription)} deleted")

    def disable(self, key: str, error: str) -> None:
        """Disable a subscription, with the reason; ``updated`` is not changed."""
        with self._lock:
            self._keep({**self._all[key], "disabled": datetime.now().isoformat(), "error": error})

    def _keep(self, subscription: Subscription) -> None:
        self._store.save_subscription(subscription)
        self._all[subscription["uuid"]] = subscription


def named(subscription: Subscription) -> str:
    """The name of a subscription in a sentence, on one line."""
    return " ".join(str(subscription["name"]).split())


def _forbidden() -> HTTPError:
    return HTTPError(HTTPStatus.FORBIDDEN, "Forbidden")


def _checked(body: Any) -> Subscription:
    """Validate a body and return its fields, with the defaults of the fields that POST and PUT reset."""
    if not isinstance(body, dict):
        raise TypeError(f"{body!r} is not of type 'object'")
    for field, types in _TYPES.items():
        if field in body and not isinstance(body[field], types):
            raise TypeError(f"the {type(body[field]).__name__} in {field!r} is not of the right type")
    if "auth" in body:
        _check_auth(body["auth"])
    if body.keys() >= _ALL_READ_ONLY:
        raise ValueError(f"a body with all of {', '.join(sorted(_ALL_READ_ONLY))} is not allowed")
    if len(body.get("name", "")) > _LONGEST_NAME:
        raise ValueError(f"value too long for type character varying({_LONGEST_NAME})")
    values = {"extensions": {}, "auth": {}, **{field: body[field] for field in _FIELDS if field in body}}
    for field in _TIMES:
        if values.get(field) is not None:
            # The real producer's database does not store the zone.
            values[field] = datetime.fromisoformat(values[field]).replace(tzinfo=None).isoformat()
    return values


def _check_auth(auth: Any) -> None:
    if not isinstance(auth, dict) or auth.get("type") not in _CREDENTIALS:
        # Without the value, which may contain credentials.
        raise ValueError("'auth' is not an object with the 'type' basic or header")
    for kind, keys in _CREDENTIALS.items():
        part = auth.get(kind, dict.fromkeys(keys, ""))
        if not isinstance(part, dict) or not all(isinstance(part.get(key), str) for key in keys):
            raise ValueError(f"'auth.{kind}' is not an object with the strings {' and '.join(keys)}")
