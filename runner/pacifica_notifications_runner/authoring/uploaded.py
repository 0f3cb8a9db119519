"""The transactions that a job has uploaded: from policy, else from the notification that upload() left in ``DST``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from pacifica_notifications_consumer.catch_up.newest import find_newest
from pacifica_notifications_consumer.clients.base import make_session
from pacifica_notifications_consumer.clients.policy import Policy
from pacifica_notifications_consumer.cloudevents.notification import PROVENANCE_KEY, Notification
from pacifica_notifications_consumer.endpoint.endpoint import MAX_BODY
from pacifica_notifications_consumer.errors import NotificationError, ServiceError
from pacifica_notifications_consumer.jobs.files import open_file
from pacifica_notifications_consumer.settings.services import Services

#: How many of the newest transactions are examined.
_MOST_EXAMINED = 1000


@attrs.frozen(kw_only=True)
class UploadedTransaction:
    """An uploaded transaction, without the key-value that names the consumer, with the files' sizes in bytes."""

    number: int
    key_values: Mapping[str, Any]
    files: Mapping[str, int]


class UploadWatch:
    """Notes the newest transaction, to find the later ones of a consumer."""

    def __init__(self, services: Services, consumer: str) -> None:
        self._services = services
        self._consumer = consumer
        self._before = self._newest()

    def uploaded(self, destination: Path) -> list[UploadedTransaction]:
        """The transactions that a job with this ``DST`` has uploaded since."""
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
            numbers = range(max(self._before, newest - _MOST_EXAMINED) + 1, newest + 1)
            found = ((number, policy.transaction(number)) for number in numbers)
            own = [
                (n, known) for n, known in found if known and known["key_values"].get(PROVENANCE_KEY) == self._consumer
            ]
        return [_uploaded(number, known["key_values"], known["files"].values()) for number, known in own]

    def _newest(self) -> int | None:
        if self._services.policy_url is None:
            return None
        try:
            with make_session(self._services) as session:
                return find_newest(Policy(self._services.policy_url, session), None).number
        except ServiceError:
            return None  # the job runs without policy, too


def _uploaded(number: int, pairs: Mapping[str, Any], files: Iterable[Mapping[str, Any]]) -> UploadedTransaction:
    return UploadedTransaction(
        number=number,
        key_values={key: value for key, value in pairs.items() if key != PROVENANCE_KEY},
        files={f"{file.get('subdir')}/{file.get('name')}".lstrip("/"): int(file.get("size") or 0) for file in files},
    )


def _left_in(destination: Path) -> Iterator[UploadedTransaction]:
    try:
        with open_file(destination, "notification.json") as file:
            notification = Notification.parse(file.read(MAX_BODY))
        number = int(notification.attributes["_id"])
    except (OSError, NotificationError, LookupError, TypeError, ValueError):
        return  # the file is missing, or is another file of the entry-point
    files = (row for row in notification.rows if row.get("destinationTable") == "Files")
    yield _uploaded(number, notification.key_values, files)
