"""The HTTP API of policy, as far as consumers use it.

Observed on pacifica-policy 0.8.3.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import attrs

from ..cloudevents.announcement import read_transaction
from ..errors import NotificationError, ServiceError, shown
from .base import ServiceClient

#: How many times the number of transactions may change while the first of them is looked for.
_MOST_TRIES = 20


@attrs.frozen(kw_only=True)
class Listing:
    """A page of the transactions that were last changed in a period."""

    #: The transactions' numbers, the highest first, with the time of the last change: ISO 8601 in UTC, without zone.
    times: dict[int, str]
    total: int  #: number of transactions on all pages


class Policy(ServiceClient):
    """Queries users, transactions, and which users may see a notification.

    All methods raise `ServiceError` when policy, or metadata behind it, cannot be reached or refuses.
    """

    title = "policy"
    setting = "policy_url"
    # A request takes policy milliseconds, and a start or stop of the consumer waits for it.
    timeouts = (10.0, 30.0)

    def knows_user(self, username: str) -> bool:
        """Whether metadata has a user with this network id.

        The producer disables the subscription of an unknown user at its first notification.
        """
        expect = (HTTPStatus.OK, HTTPStatus.NOT_FOUND)
        response = self.request("GET", f"/status/users/search/{quote(username, safe='')}", expect=expect)
        if response.status_code != HTTPStatus.OK:
            return False
        users = self.json(response)
        if not isinstance(users, list):
            raise self.unusable("without a list of users")
        # The search also finds users whose names only contain the text.
        return any(isinstance(user, dict) and user.get("network_id") == username for user in users)

    def transaction(self, transaction_id: int) -> dict[str, Any] | None:
        """Fetch a transaction: its ``files`` by their ids, its ``key_values``, and so on; None if it does not exist."""
        try:
            return read_transaction(self.answer(transaction_id))
        except NotificationError as error:
            raise ServiceError(error.problem, error.advice, transient=True) from error

    def answer(self, transaction_id: int) -> bytes:
        """Fetch a transaction as policy's JSON, unparsed."""
        return self.request("GET", f"/status/transactions/by_id/{transaction_id}").content

    def transactions(
        self, *, since: str | None = None, until: str | None = None, page: int = 1, size: int = 1
    ) -> Listing:
        """List the transactions that were last changed in a period, those with the highest numbers first.

        The period's limits are ISO 8601 in UTC, without zone. Pages count from 1; policy reads all files of a page's
        transactions, so a large page takes long.
        """
        wanted = {"item_count": size, "page": page, "start": since, "end": until}
        parameters = {name: value for name, value in wanted.items() if value is not None}
        answer = self.json(self.request("GET", "/status/transactions/search/list", params=parameters))
        try:
            times = {int(number): str(time) for number, time in answer["times"].items()}
            listing = Listing(times=dict(sorted(times.items(), reverse=True)), total=int(answer["total_count"]))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            listing = None
        # The ledger keeps no others.
        if listing is None or not all(0 < number < 1 << 63 for number in listing.times):
            # policy passes on the error pages of metadata with status 200.
            status = answer.get("status") if isinstance(answer, dict) else None
            raise ServiceError(
                f"{self.title} at {self.url} cannot list transactions: metadata answered {shown(str(status))}",
                "look into the logs of policy and of metadata",
                transient=True,
            )
        return listing

    def first_since(self, since: str) -> int | None:
        """The lowest number of the transactions that were last changed since a time, if any; see `transactions`."""
        page = self.transactions(since=since).total
        for _ in range(_MOST_TRIES):
            if not page:
                return None
            listing = self.transactions(since=since, page=page)
            if listing.total == page:
                return min(listing.times, default=None)
            # Transactions were added meanwhile, so the lowest one has moved to another page.
            page = listing.total
        problem = f"{self.title} at {self.url} answered with another number of transactions each time"
        raise ServiceError(problem, "try again", transient=True)

    def may_see(self, username: str, notification: bytes) -> bool:
        """Whether a user may see a notification in JSON; the producer asks this before it posts one."""
        refusals = (HTTPStatus.FORBIDDEN, HTTPStatus.PRECONDITION_FAILED)
        response = self.request(
            "POST",
            f"/events/{quote(username, safe='')}",
            expect=(HTTPStatus.OK, *refusals),
            data=notification,
            headers={"Content-Type": "application/json"},
        )
        return response.status_code == HTTPStatus.OK

    def check_upload(self, rows: list[dict[str, Any]]) -> None:
        """Check the attributes in the rows of an upload; ingest asks this when it has received all files.

        Raises:
            ServiceError: With the status 412 if policy refuses the upload.
        """
        self.request("POST", "/ingest", json=rows, tries=1)

    def file_ids(self, transaction_id: int) -> dict[tuple[str, str], int]:
        """Map the subdir and name of each file of a transaction to the file's id."""
        transaction = self.transaction(transaction_id)
        if transaction is None:
            raise ServiceError(
                f"policy at {self.url} does not know the transaction {transaction_id}", "look into the log of metadata"
            )
        files = transaction["files"].values()
        return {(file["subdir"], file["name"]): file["_id"] for file in files}
