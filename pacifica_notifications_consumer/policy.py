"""policy on the wire: the questions that a consumer may ask it.

Observed on pacifica-policy 0.8.3.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from .errors import ServiceError
from .services import POLICY_URL
from .session import ServiceClient


class Policy(ServiceClient):
    """Knows users and transactions."""

    title = "policy"
    option = POLICY_URL
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
        # The search finds parts of names too.
        return response.status_code == HTTPStatus.OK and any(
            isinstance(user, dict) and user.get("network_id") == username for user in self.json(response)
        )

    def transaction(self, transaction_id: int) -> dict[str, Any] | None:
        """Tell what metadata has of a transaction: its ``files`` by their ids, its ``key_values``, and so on.

        Returns:
            All that; None if there is no such transaction.

        Raises:
            ServiceError: policy cannot be reached or refuses.
        """
        answer: Any = self.json(self.request("GET", f"/status/transactions/by_id/{transaction_id}"))
        # An unknown transaction is answered with 200 and an error's text.
        return answer if isinstance(answer, dict) and isinstance(answer.get("files"), dict) else None

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
