"""The transactions that a job has made: from policy, or else from the notification that upload() left in ``DST``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from pacifica_notifications_consumer.catch_up.newest import find_newest
from pacifica_notifications_consumer.clients.base import make_session
from pacifica_notifications_consumer.clients.policy import Policy
from pacifica_notifications_consumer.cloudevents.notification import PROVENANCE_KEY, Notification
from pacifica_notifications_consumer.errors import NotificationError, ServiceError
from pacifica_notifications_consumer.jobs.files import open_file
from pacifica_notifications_consumer.settings.services import Services

#: How many transactions are looked at, the newest ones.
_MOST_ASKED = 1000


@attrs.frozen(kw_only=True)
class UploadedTransaction:
    """A transaction that was made."""

    number: int
    #: Without the one that names the consumer.
    key_values: Mapping[str, Any]
    #: The sizes in bytes, by path.
    files: Mapping[str, int]


class UploadWatch:
    """Notes the newest transaction, to find those that a consumer makes afterwards."""

    def __init__(self, services: Services, consumer: str) -> None:
        self._services = services
        self._consumer = consumer
        self._before = self._newest()

    def made(self, destination: Path) -> list[UploadedTransaction]:
        """The transactions that were made since, by a job with this ``DST``."""
        try:
            return self._from_policy()
        except ServiceError:
            return list(_left_in(destination))

    def _from_policy(self) -> list[UploadedTransaction]:
        newest = self._newest()
        if self._before is None or newest is None or self._services.policy_url is None:
            raise ServiceError("policy cannot be asked")
        with make_session(self._services) as session:
            policy = Policy(self._services.policy_url, session)
            # Other users upload, too, but not that many while one job runs.
            numbers = range(max(self._before, newest - _MOST_ASKED) + 1, newest + 1)
            found = ((number, policy.transaction(number)) for number in numbers)
            return [_made(number, known) for number, known in found if known and self._is_ours(known)]

    def _newest(self) -> int | None:
        if self._services.policy_url is None:
            return None
        try:
            with make_session(self._services) as session:
                return find_newest(Policy(self._services.policy_url, session), None).number
        except ServiceError:
            # The job does not depend on policy.
            return None

    def _is_ours(self, known: Mapping[str, Any]) -> bool:
        return bool(known["key_values"].get(PROVENANCE_KEY) == self._consumer)


def _made(number: int, known: Mapping[str, Any]) -> UploadedTransaction:
    key_values = {key: value for key, value in known["key_values"].items() if key != PROVENANCE_KEY}
    files = {f"{file['subdir']}/{file['name']}".lstrip("/"): file["size"] for file in known["files"].values()}
    return UploadedTransaction(number=number, key_values=key_values, files=files)


def _left_in(destination: Path) -> Iterator[UploadedTransaction]:
    try:
        with open_file(destination, "notification.json") as file:
            notification = Notification.parse(file.read())
        number = int(notification.attributes["_id"])
    except (OSError, NotificationError, LookupError, TypeError, ValueError):
        # There is no notification, or the entry-point has put something else there.
        return
    files = (row for row in notification.rows if row.get("destinationTable") == "Files")
    key_values = {key: value for key, value in notification.key_values.items() if key != PROVENANCE_KEY}
    sizes = {f"{row.get('subdir')}/{row.get('name')}".lstrip("/"): int(row.get("size") or 0) for row in files}
    yield UploadedTransaction(number=number, key_values=key_values, files=sizes)
