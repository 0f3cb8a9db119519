"""The producer's subscriptions, which it calls eventmatches: what they hold, and what it takes and refuses."""

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

FIELDS = (
    "uuid",
    "name",
    "jsonpath",
    "user",
    "disabled",
    "error",
    "target_url",
    "version",
    "extensions",
    "auth",
    "created",
    "updated",
    "deleted",
)
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("uuid", "name", "jsonpath", "user", "target_url", "version", "created", "updated"), (str,)),
    **dict.fromkeys(("disabled", "error", "deleted"), (str, NoneType)),
    "extensions": (dict,),
}
_TIMES = ("disabled", "created", "updated", "deleted")
_CREDENTIALS = {"basic": ("username", "password"), "header": ("type", "credentials")}
_LONGEST_NAME = 255
# A body with all of these is refused, so nothing that GET answers can be sent back as it is.
_TELLTALE = {"uuid", "user", "created", "updated", "deleted", "version"}


class Subscriptions:
    """All subscriptions, each seen by its owner only.

    Args:
        store: Where they are kept.
        say: Takes a sentence on each thing that happens.
    """

    def __init__(self, store: Store, say: Callable[[str], None]) -> None:
        self._store = store
        self._say = say
        self._lock = threading.Lock()
        self._all = {subscription["uuid"]: subscription for subscription in store.subscriptions()}

    def kept(self) -> list[Subscription]:
        """Those that are not deleted, oldest first."""
        with self._lock:
            return [dict(subscription) for subscription in self._all.values() if not subscription["deleted"]]

    def active(self) -> list[Subscription]:
        """Those that get events."""
        return [subscription for subscription in self.kept() if not subscription["disabled"]]

    def of(self, user: str) -> list[Subscription]:
        """A user's.

        Raises:
            HTTPError: There are none.
        """
        found = [subscription for subscription in self.kept() if subscription["user"] == user]
        if not found:
            raise _forbidden()
        return found

    def get(self, user: str, name: str) -> Subscription:
        """One of a user's.

        Args:
            user: Who asks.
            name: The UUID as text.

        Raises:
            HTTPError: There is none, or it is somebody else's.
            ValueError: The name is no UUID.
        """
        key = str(uuid.UUID(f"{{{name}}}"))
        with self._lock:
            subscription = self._all.get(key)
            if subscription is None or subscription["user"] != user or subscription["deleted"]:
                raise _forbidden()
            return dict(subscription)

    def create(self, user: str, body: Any) -> Subscription:
        """Make one.

        Raises:
            HTTPError: It is deleted from the start.
            Exception: The body is refused.
        """
        values = _checked(body)
        now = datetime.now().isoformat()
        subscription: Subscription = {
            **dict.fromkeys(FIELDS),
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
        """Change the values given; ``auth`` and ``extensions`` are emptied if they are not given.

        Raises:
            HTTPError: It cannot be seen by the user, before the change or after it.
            Exception: The body is refused.
        """
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
        """Delete one.

        Raises:
            HTTPError: It cannot be seen by the user.
        """
        now = datetime.now().isoformat()
        subscription = {**self.get(user, name), "deleted": now, "updated": now}
        with self._lock:
            self._keep(subscription)
        self._say(f"subscription {named(subscription)} deleted")

    def disable(self, key: str, error: str) -> None:
        """Disable one for good, with the reason; ``updated`` stays as it is."""
        with self._lock:
            self._keep({**self._all[key], "disabled": datetime.now().isoformat(), "error": error})

    def _keep(self, subscription: Subscription) -> None:
        self._store.save_subscription(subscription)
        self._all[subscription["uuid"]] = subscription


def named(subscription: Subscription) -> str:
    """What a sentence calls a subscription."""
    return " ".join(str(subscription["name"]).split())


def _forbidden() -> HTTPError:
    return HTTPError(HTTPStatus.FORBIDDEN, "Forbidden")


def _checked(body: Any) -> Subscription:
    """What of a body is taken, with the defaults of what POST and PUT reset."""
    if not isinstance(body, dict):
        raise TypeError(f"{body!r} is not of type 'object'")
    for field, types in _TYPES.items():
        if field in body and not isinstance(body[field], types):
            raise TypeError(f"the {type(body[field]).__name__} in {field!r} is not of the right type")
    if "auth" in body:
        _check_auth(body["auth"])
    if body.keys() >= _TELLTALE:
        raise ValueError(f"a body with all of {', '.join(sorted(_TELLTALE))} is not allowed")
    if len(body.get("name", "")) > _LONGEST_NAME:
        raise ValueError(f"value too long for type character varying({_LONGEST_NAME})")
    values = {"extensions": {}, "auth": {}, **{field: body[field] for field in FIELDS if field in body}}
    for field in _TIMES:
        if values.get(field) is not None:
            # The database keeps no zone.
            values[field] = datetime.fromisoformat(values[field]).replace(tzinfo=None).isoformat()
    return values


def _check_auth(auth: Any) -> None:
    if not isinstance(auth, dict) or auth.get("type") not in _CREDENTIALS:
        # Not repeated here: it may hold credentials.
        raise ValueError("'auth' is no object with the 'type' basic or header")
    for kind, keys in _CREDENTIALS.items():
        part = auth.get(kind, dict.fromkeys(keys, ""))
        if not isinstance(part, dict) or not all(isinstance(part.get(key), str) for key in keys):
            raise ValueError(f"'auth.{kind}' is no object with the texts {' and '.join(keys)}")
