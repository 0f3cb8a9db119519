"""The HTTP API of the producer, Pacifica's notifications service.

Observed on pacifica-notifications 0.5.2, which calls a subscription an *eventmatch*.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal, get_args

import attrs

from ..errors import shown
from ..settings.converters import checked, header_text, one_of, url
from .base import ServiceClient

#: The user name with which the producer posts if it uses basic authentication.
BASIC_USER = "pacifica"
AuthKind = Literal["bearer", "basic"]


@attrs.frozen(kw_only=True)
class SubscriptionSpec:
    """The wanted content of a subscription."""

    name: str = attrs.field(validator=checked(header_text))
    jsonpath: str
    target_url: str = attrs.field(validator=checked(lambda text: url(text.partition("?")[0])))
    #: the secret with which the producer authenticates itself at the address
    token: str = attrs.field(repr=False, validator=checked(header_text, show=False))
    #: how the token is sent: as bearer token, or as the password of `BASIC_USER`
    auth: AuthKind = attrs.field(default="bearer", validator=checked(one_of(*get_args(AuthKind))))

    def document(self) -> dict[str, Any]:
        """The producer's JSON document of it, with all keys: a key that is missing in a PUT would be emptied."""
        if self.auth == "basic":
            auth: dict[str, Any] = {"type": "basic", "basic": {"username": BASIC_USER, "password": self.token}}
        else:
            auth = {"type": "header", "header": {"type": "Bearer", "credentials": self.token}}
        name, jsonpath, target_url = self.name, self.jsonpath, self.target_url
        return {"name": name, "jsonpath": jsonpath, "target_url": target_url, "auth": auth, "extensions": {}}

    def differs_from(self, found: Mapping[str, Any]) -> list[str]:
        """The keys of the producer's document whose values differ from a found subscription's."""
        return [name for name, value in self.document().items() if found.get(name) != value]


class Producer(ServiceClient):
    """Creates, reads, corrects and deletes subscriptions of the session's user.

    All methods raise `ServiceError` when the producer cannot be reached, refuses, or sends a malformed answer.
    """

    title = "the producer"
    setting = "producer_url"
    # A request takes the producer milliseconds, and a start or stop of the consumer waits for it.
    timeouts = (10.0, 30.0)

    def subscribe(self, wanted: SubscriptionSpec) -> str:
        """Create a subscription and return its UUID."""
        answer = self.json(self.request("POST", "/eventmatch", json=wanted.document()))
        if not isinstance(answer, dict) or not isinstance(uuid := answer.get("uuid"), str):
            raise self.unusable("without the UUID of the new subscription")
        return shown(uuid)

    def subscriptions(self) -> list[dict[str, Any]]:
        """All subscriptions of the user, the oldest first."""
        response = self.request("GET", "/eventmatch", expect=(HTTPStatus.OK, HTTPStatus.FORBIDDEN))
        if response.status_code == HTTPStatus.FORBIDDEN:
            return []  # the user has no subscriptions
        answer = self.json(response)
        if not isinstance(answer, list) or not all(isinstance(each, dict) for each in answer):
            raise self.unusable("without a list of subscriptions")
        return sorted(answer, key=lambda each: str(each.get("created")))

    def subscription(self, uuid: str) -> dict[str, Any] | None:
        """The producer's document of a subscription, with the credentials; None if it does not exist.

        Its ``disabled`` and ``error`` tell whether and why the producer has disabled it.
        """
        gone = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
        response = self.request("GET", f"/eventmatch/{uuid}", expect=(HTTPStatus.OK, *gone))
        if response.status_code in gone:
            return None
        answer = self.json(response)
        if not isinstance(answer, dict):
            raise self.unusable("without a subscription")
        return answer

    def correct(self, uuid: str, wanted: SubscriptionSpec) -> None:
        """Give a subscription the wanted content, and enable it."""
        self.request("PUT", f"/eventmatch/{uuid}", json=wanted.document() | {"disabled": None, "error": None})

    def unsubscribe(self, uuid: str) -> None:
        """Delete a subscription, if it exists."""
        self.request("DELETE", f"/eventmatch/{uuid}", expect=(HTTPStatus.OK, HTTPStatus.FORBIDDEN))
