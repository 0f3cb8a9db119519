"""Finds the result of an upload whose response was lost: ingest received all files, but its number never arrived.

Ingest numbers uploads consecutively and reports the state of each number, so all uploads since the beginning of the
lost one can be examined; policy shows whether a transaction has the same content.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from ..clients.ingest import Ingest, IngestState
from ..clients.policy import Policy
from ..cloudevents.notification import Notification
from ..errors import UploadError

log = logging.getLogger(__name__)

#: Maximum difference between the clocks of ingest and of this machine, in seconds.
_CLOCKS = 600.0
#: Number of consecutive unknown numbers after which the search for the newest upload ends.
_GAP = 10


def find_upload(
    ingest: Ingest,
    policy: Policy | None,
    *,
    since: float,
    rows: Iterable[dict[str, Any]],
    wait: Callable[[int], IngestState],
) -> int | None:
    """Find the number of an upload.

    Args:
        ingest: The service that received the upload.
        policy: The service that looks up transactions; None if its address is not known.
        since: When the upload began, in seconds since 1970.
        rows: All metadata rows of the upload.
        wait: Waits until the upload with a given number has ended, and returns its state.

    Returns:
        The number; None when it is certain that the upload did not become a transaction.

    Raises:
        UploadError: The answer depends on policy, whose address is not known.
        ServiceError: ingest or policy cannot be reached or refuses.
    """
    rows = list(rows)
    running = []
    for job_id in range(_newest(ingest), 0, -1):
        state = ingest.state(job_id)
        if state is None:
            continue
        if state.created is not None and state.created < since - _CLOCKS:
            break
        if not state.complete:
            running.append(job_id)
        elif state.ok and _has_rows(policy, job_id, rows):
            return job_id
    for job_id in running:
        log.warning("waiting for upload %d of ingest: it may be the upload whose response was lost", job_id)
        if wait(job_id).ok and _has_rows(policy, job_id, rows):
            return job_id
    return None


def _newest(ingest: Ingest) -> int:
    def known(job_id: int) -> bool:
        return any(ingest.state(job_id + step) is not None for step in range(_GAP))

    low, high = 0, 1
    while known(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if known(middle) else (low, middle)
    return low + _GAP


def _has_rows(policy: Policy | None, transaction_id: int, rows: list[dict[str, Any]]) -> bool:
    if policy is None:
        raise UploadError(
            f"ingest had all of an earlier upload, but its answer was lost, and transaction {transaction_id} may be it",
            "set `policy_url`, so that policy can be asked",
        )
    known = policy.transaction(transaction_id)
    return known is not None and _facts_of_rows(rows) == _facts_of_transaction(known)


def _facts_of_rows(rows: list[dict[str, Any]]) -> tuple[Any, ...]:
    said = Notification(b"", {"data": rows})
    files = {(row["subdir"], row["name"], row["size"], row["hashsum"]) for row in said.rows_of("Files")}
    key_values = {key: str(value) for key, value in said.key_values.items()}
    return files, key_values, str(said.attributes.get("submitter")), str(said.attributes.get("instrument"))


def _facts_of_transaction(known: dict[str, Any]) -> tuple[Any, ...]:
    files = {(file["subdir"], file["name"], file["size"], file["hashsum"]) for file in known["files"].values()}
    key_values = {str(key): str(value) for key, value in (known.get("key_values") or {}).items()}
    return files, key_values, str(known.get("submitter")), str(known.get("instrument"))
