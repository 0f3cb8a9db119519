"""The producer on the wire: Pacifica's notifications service and its resource ``/eventmatch``.

Observed on pacifica-notifications 0.5.2; a subscription is what it calls an *eventmatch*.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from .errors import ServiceError
from .services import PRODUCER_URL
from .session import ServiceClient

#: Who the producer is when it posts with basic authentication.
BASIC_USER = "pacifica"


class Producer(ServiceClient):
    """Makes, shows, corrects and deletes subscriptions of the session's user."""

    title = "the producer"
    option = PRODUCER_URL
    # What it does takes milliseconds, and somebody waits for the start or the stop.
    timeouts = (10.0, 30.0)

    def subscribe(self, *, name: str, jsonpath: str, target_url: str, token: str) -> str:
        """Register an endpoint for the notifications that a JSONPath matches.

        Args:
            name: What the subscription is called.
            jsonpath: The producer posts a notification when this finds something in it.
            target_url: Where it posts.
            token: What it sends as ``Authorization: Bearer …`` with each post.

        Returns:
            The subscription's UUID.

        Raises:
            ServiceError: The producer cannot be reached, refuses, or answers nonsense.
        """
        subscription = {
            "name": name,
            "jsonpath": jsonpath,
            "target_url": target_url,
            "auth": {"type": "header", "header": {"type": "Bearer", "credentials": token}},
            "extensions": {},
        }
        answer = self.json(self.request("POST", "/eventmatch", json=subscription))
        uuid = answer.get("uuid") if isinstance(answer, dict) else None
        if not isinstance(uuid, str):
            raise ServiceError(
                f"{self.title} at {self.url} answered without the UUID of the new subscription",
                f"check that {self.option.flag} ({self.option.variable}) is the address of {self.title}",
            )
        return uuid

    def subscription(self, uuid: str) -> dict[str, Any]:
        """Show a subscription; ``disabled`` and ``error`` say whether and why the producer gave it up.

        Raises:
            ServiceError: As `subscribe`; status 403 when it does not exist (any more).
        """
        answer: dict[str, Any] = self.json(self.request("GET", f"/eventmatch/{uuid}"))
        return answer

    def unsubscribe(self, uuid: str) -> None:
        """Delete a subscription; one that is gone already is fine.

        Raises:
            ServiceError: As `subscribe`.
        """
        self.request("DELETE", f"/eventmatch/{uuid}", expect=(HTTPStatus.OK, HTTPStatus.FORBIDDEN))
