"""Finds the result of an upload whose response was lost: ingest received all files, but its number never arrived.

Ingest numbers uploads consecutively and reports the state of each number, so all uploads since the beginning of the
lost one can be examined; policy shows whether a transaction has the same content.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
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
#: The seconds that looking through uploads may take, and the highest number that an upload may have.
_LONGEST, _HIGHEST = 3600.0, 1 << 62


def find_upload(
    ingest: Ingest,
    policy: Policy | None,
    *,
    since: float,
    rows: list[dict[str, Any]],
    wait: Callable[[int], IngestState],
) -> int | None:
    """Find the number of an upload; None when it is certain that the upload did not become a transaction.

    The upload began at `since`, in seconds since 1970, with all these metadata rows. `wait` waits until the upload with
    a given number has ended. Without policy, an UploadError is raised if the answer depends on it.
    """
    running = []
    deadline = time.monotonic() + _LONGEST
    newest = _newest(ingest)
    for job_id in range(newest, 0, -1):
        if time.monotonic() > deadline:
            raise ingest.unusable(
                f"for {_LONGEST:g} seconds with uploads, any of which may be the one whose response was lost"
            )
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
        if high > _HIGHEST:
            raise ingest.unusable("with a state for every number")
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if known(middle) else (low, middle)
    return low + _GAP


def _has_rows(policy: Policy | None, transaction_id: int, rows: list[dict[str, Any]]) -> bool:
    if policy is None:
        raise UploadError(
            f"ingest received an earlier upload, but its response was lost; it may be transaction {transaction_id}",
            "set `policy_url`, so that policy can be asked",
        )
    known = policy.transaction(transaction_id)
    sent = Notification(b"", {"data": rows})
    return known is not None and _facts(sent.rows_of("Files"), sent.key_values, sent.attributes) == _facts(
        known["files"].values(), known.get("key_values") or {}, known
    )


def _facts(files: Iterable[dict[str, Any]], key_values: Mapping[str, Any], attributes: Mapping[str, Any]) -> Any:
    return (
        {(file["subdir"], file["name"], file.get("size"), file.get("hashsum")) for file in files},
        {str(key): str(value) for key, value in key_values.items()},
        str(attributes.get("submitter")),
        str(attributes.get("instrument")),
    )
