"""The producer on the wire: Pacifica's notifications service and its resource ``/eventmatch``.

Observed on pacifica-notifications 0.5.2; a subscription is what it calls an *eventmatch*.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal

import attrs

from ..errors import ServiceError
from .base import ServiceClient

#: Who the producer is when it posts with basic authentication.
BASIC_USER = "pacifica"
AuthKind = Literal["bearer", "basic"]


@attrs.frozen(kw_only=True)
class SubscriptionSpec:
    """How a subscription is to be.

    Args:
        name: What it is called.
        jsonpath: The producer posts a notification when this finds something in it.
        target_url: Where it posts.
        token: What it shows there.
        auth: How it shows it: as bearer token, or as the password of `BASIC_USER`.
    """

    name: str
    jsonpath: str
    target_url: str
    token: str = attrs.field(repr=False)
    auth: AuthKind = "bearer"

    def document(self) -> dict[str, Any]:
        """It as the producer writes it; what is left out of a correction would be emptied."""
        if self.auth == "basic":
            auth: dict[str, Any] = {"type": "basic", "basic": {"username": BASIC_USER, "password": self.token}}
        else:
            auth = {"type": "header", "header": {"type": "Bearer", "credentials": self.token}}
        return {
            "name": self.name,
            "jsonpath": self.jsonpath,
            "target_url": self.target_url,
            "auth": auth,
            "extensions": {},
        }

    def differs_from(self, found: Mapping[str, Any]) -> list[str]:
        """What of a subscription is not as it should be, by the producer's names; never what it holds."""
        return [name for name, value in self.document().items() if found.get(name) != value]


class Producer(ServiceClient):
    """Makes, shows, corrects and deletes subscriptions of the session's user.

    All methods raise `ServiceError` when the producer cannot be reached, refuses, or answers nonsense.
    """

    title = "the producer"
    setting = "producer_url"
    # What it does takes milliseconds, and somebody waits for the start or the stop.
    timeouts = (10.0, 30.0)

    def subscribe(self, wanted: SubscriptionSpec) -> str:
        """Register an endpoint for notifications, and return the new subscription's UUID."""
        return self._uuid(self.json(self.request("POST", "/eventmatch", json=wanted.document())))

    def subscriptions(self) -> list[dict[str, Any]]:
        """All of the user's, the oldest first."""
        response = self.request("GET", "/eventmatch", expect=(HTTPStatus.OK, HTTPStatus.FORBIDDEN))
        if response.status_code == HTTPStatus.FORBIDDEN:
            # So it says that there are none.
            return []
        answer = self.json(response)
        if not isinstance(answer, list) or not all(isinstance(each, dict) for each in answer):
            raise self._nonsense("a list of subscriptions")
        return sorted(answer, key=lambda each: str(each.get("created")))

    def subscription(self, uuid: str) -> dict[str, Any] | None:
        """Show a subscription; ``disabled`` and ``error`` say whether and why the producer gave it up.

        Returns:
            What the producer knows of it, credentials included; None when it does not exist (any more).
        """
        gone = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
        response = self.request("GET", f"/eventmatch/{uuid}", expect=(HTTPStatus.OK, *gone))
        if response.status_code in gone:
            return None
        answer = self.json(response)
        if not isinstance(answer, dict):
            raise self._nonsense("a subscription")
        return answer

    def correct(self, uuid: str, wanted: SubscriptionSpec) -> None:
        """Have a subscription be as it should be, and active."""
        self.request("PUT", f"/eventmatch/{uuid}", json=wanted.document() | {"disabled": None, "error": None})

    def unsubscribe(self, uuid: str) -> None:
        """Delete a subscription; one that is gone already is fine."""
        self.request("DELETE", f"/eventmatch/{uuid}", expect=(HTTPStatus.OK, HTTPStatus.FORBIDDEN))

    def _uuid(self, answer: object) -> str:
        uuid = answer.get("uuid") if isinstance(answer, dict) else None
        if not isinstance(uuid, str):
            raise self._nonsense("the UUID of the new subscription")
        return uuid

    def _nonsense(self, expected: str) -> ServiceError:
        return ServiceError(
            f"{self.title} at {self.url} answered without {expected}",
            f"check that `{self.setting}` is the address of {self.title}",
        )
