"""policy on the wire: the questions that a consumer may ask it.

Observed on pacifica-policy 0.8.3.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import attrs

from ..cloudevents.announcement import read_transaction
from ..errors import NotificationError, ServiceError
from .base import ServiceClient


@attrs.frozen(kw_only=True)
class Listing:
    """A page of the transactions of a time.

    Args:
        times: When each was last changed, by their numbers, the highest first: ISO 8601 in UTC, without zone.
        total: How many there are on all pages.
    """

    times: dict[int, str]
    total: int


class Policy(ServiceClient):
    """Knows users and transactions, and who may see what."""

    title = "policy"
    setting = "policy_url"
    # What it does takes milliseconds, and somebody waits for the start or the stop.
    timeouts = (10.0, 30.0)

    def knows_user(self, username: str) -> bool:
        """Whether metadata has a user of this network id.

        The producer disables the subscription of an unknown one at its first notification.

        Raises:
            ServiceError: policy cannot be reached or refuses.
        """
        expect = (HTTPStatus.OK, HTTPStatus.NOT_FOUND)
        response = self.request("GET", f"/status/users/search/{quote(username, safe='')}", expect=expect)
        if response.status_code != HTTPStatus.OK:
            return False
        users = self.json(response)
        if not isinstance(users, list):
            raise ServiceError(
                f"{self.title} at {self.url} answered without a list of users",
                f"check that `{self.setting}` is the address of {self.title}",
            )
        # The search finds parts of names too.
        return any(isinstance(user, dict) and user.get("network_id") == username for user in users)

    def transaction(self, transaction_id: int) -> dict[str, Any] | None:
        """Tell what metadata has of a transaction: its ``files`` by their ids, its ``key_values``, and so on.

        Returns:
            All that; None if there is no such transaction.

        Raises:
            ServiceError: policy cannot be reached or refuses, or metadata behind it.
        """
        try:
            return read_transaction(self.answer(transaction_id))
        except NotificationError as error:
            raise ServiceError(error.problem, error.advice, transient=True) from error

    def answer(self, transaction_id: int) -> bytes:
        """What `transaction` reads, as policy writes it.

        Raises:
            ServiceError: policy cannot be reached or refuses.
        """
        return self.request("GET", f"/status/transactions/by_id/{transaction_id}").content

    def transactions(
        self, *, since: str | None = None, until: str | None = None, page: int = 1, size: int = 1
    ) -> Listing:
        """List the transactions that were last changed in a time, those with the highest numbers first.

        Args:
            since: ISO 8601 in UTC, without zone; None for all times.
            until: The same.
            page: Which of the pages, from 1.
            size: How many stand on one. policy goes through all their files, so it takes its time.

        Raises:
            ServiceError: policy cannot be reached or refuses, or metadata behind it.
        """
        wanted = {"item_count": size, "page": page, "start": since, "end": until}
        parameters = {name: value for name, value in wanted.items() if value is not None}
        answer = self.json(self.request("GET", "/status/transactions/search/list", params=parameters))
        try:
            times = {int(number): str(time) for number, time in answer["times"].items()}
            return Listing(times=dict(sorted(times.items(), reverse=True)), total=int(answer["total_count"]))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            # The error pages of metadata are passed on with a status of 200.
            said = answer.get("status") if isinstance(answer, dict) else None
            raise ServiceError(
                f"{self.title} at {self.url} cannot list transactions: metadata answered it {str(said)[:100]}",
                "look into the logs of policy and of metadata",
                transient=True,
            ) from None

    def first_since(self, since: str) -> int | None:
        """The lowest number of the transactions that were last changed since a time; None if there are none.

        Raises:
            ServiceError: As `transactions`.
        """
        listing = self.transactions(since=since)
        page = listing.total
        while page:
            listing = self.transactions(since=since, page=page)
            if listing.total == page:
                return min(listing.times, default=None)
            # Others came meanwhile, and moved it to another page.
            page = listing.total
        return None

    def may_see(self, username: str, notification: bytes) -> bool:
        """Whether a user may see a notification: what the producer asks before it posts one.

        Raises:
            ServiceError: policy cannot be reached or refuses to say, as for a user whom it does not know.
        """
        refusals = (HTTPStatus.FORBIDDEN, HTTPStatus.PRECONDITION_FAILED)
        response = self.request(
            "POST",
            f"/events/{quote(username, safe='')}",
            expect=(HTTPStatus.OK, *refusals),
            data=notification,
            headers={"Content-Type": "application/json"},
        )
        return response.status_code == HTTPStatus.OK

    def file_ids(self, transaction_id: int) -> dict[tuple[str, str], int]:
        """Map the subdir and name of each file of a transaction to the file's id.

        Raises:
            ServiceError: policy cannot be reached, refuses, or does not know the transaction.
        """
        transaction = self.transaction(transaction_id)
        if transaction is None:
            raise ServiceError(
                f"policy at {self.url} does not know the transaction {transaction_id}", "look into the log of metadata"
            )
        files = transaction["files"].values()
        return {(file["subdir"], file["name"]): file["_id"] for file in files}
