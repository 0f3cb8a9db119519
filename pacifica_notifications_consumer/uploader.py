"""upload(): send the files in ``uploads/`` to ingest as one new transaction."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from requests import Session

from .errors import ServiceError, UploadError
from .ingest import Ingest, IngestState
from .notification import PROVENANCE_KEY
from .policy import Policy
from .promises import Promise
from .services import Services
from .session import make_session, summarize
from .upload_tar import UploadTar

log = logging.getLogger(__name__)

#: Seconds without any progress after which ingest counts as stuck.
_STUCK_SECONDS = 3600.0
_FIRST_POLL, _SLOWEST_POLL = 0.02, 1.0
_EVENT_TYPE = "org.pacifica.metadata.ingest"


def upload(
    event_path: str | os.PathLike[str],
    transaction: Mapping[str, Any],
    key_values: Mapping[str, Any] | None = None,
    *,
    services: Services | None = None,
    timeout: float = _STUCK_SECONDS,
) -> Promise[dict[str, Any]]:
    """Make a new transaction of the files in ``event_path/uploads/``.

    Args:
        event_path: The job's directory ``DST``.
        transaction: The transaction's attributes by destination table, such as ``{"Transactions.submitter": 10,
            "Transactions.project": "1234a", "Transactions.instrument": 54}``.
        key_values: Its key-values, which become rows of ``TransactionKeyValue``.
        services: Where Pacifica is; by default what the environment says (``PACIFICA_INGEST_URL`` and so on).
        timeout: Seconds that ingest may stay without progress; an hour unless said otherwise.

    Returns:
        A promise of the new transaction's notification, fulfilled when ingest has completed it, and written to
        ``event_path/notification.json`` too. Its files carry their ``_id`` when policy's address is known
        (``PACIFICA_POLICY_URL``): ingest does not tell them. It is rejected with

        - `UploadError`: the arguments or the files are not usable, or ingest failed,
        - `ServiceError`: ingest cannot be reached or refuses.

        A rejection that no code handles ends the process with a status greater than 0.
    """
    return Promise(
        lambda resolve, _reject: resolve(_upload(Path(event_path), transaction, key_values or {}, services, timeout))
    )


def _upload(
    event_path: Path,
    transaction: Mapping[str, Any],
    key_values: Mapping[str, Any],
    services: Services | None,
    timeout: float,
) -> dict[str, Any]:
    services = services or Services.from_environment()
    rows = _transaction_rows(transaction) + _key_value_rows(key_values, services.consumer)
    with make_session(services) as session:
        ingest = Ingest(services.ingest_url, session)
        tar = UploadTar(event_path / "uploads", rows)
        job_id = ingest.upload(tar)
        _wait_until_complete(ingest, job_id, timeout)
        file_rows = _with_ids(tar.file_rows, job_id, services.policy_url, session)
    event = _event(job_id, rows + file_rows)
    _write_notification(event_path / "notification.json", event)
    return event


def _transaction_rows(transaction: Mapping[str, Any]) -> list[dict[str, Any]]:
    for table in transaction:
        if not table.startswith("Transactions."):
            raise UploadError(
                f"{table!r} is no attribute of a transaction",
                "name them Transactions.submitter and so on; everything else belongs into the key-values",
            )
        if table == "Transactions._id":
            raise UploadError(
                "Transactions._id stands among the attributes of the new transaction",
                "leave it out, since the server assigns it, or put it among the key-values to tell where it came from",
            )
    return [{"destinationTable": table, "value": value} for table, value in transaction.items()]


def _key_value_rows(key_values: Mapping[str, Any], consumer: str | None) -> list[dict[str, Any]]:
    if PROVENANCE_KEY in key_values:
        raise UploadError(f"the key {PROVENANCE_KEY!r} is the runner's own", "choose another key")
    values = dict(key_values)
    if consumer is not None:
        # Without this the consumer would be run on its own output, for ever.
        values[PROVENANCE_KEY] = consumer
    return [{"destinationTable": "TransactionKeyValue", "key": key, "value": value} for key, value in values.items()]


def _wait_until_complete(ingest: Ingest, job_id: int, timeout: float) -> None:
    pause = _FIRST_POLL
    seen: IngestState | None = None
    deadline = 0.0
    while not (state := ingest.state(job_id)).complete:
        if state != seen:
            seen, deadline = state, time.monotonic() + timeout
        if time.monotonic() > deadline:
            raise UploadError(
                f"ingest at {ingest.url} has been at {state.task!r} ({state.percent} %) of job {job_id} for more than "
                f"{timeout:g} seconds",
                "check that ingest's worker runs; the transaction may still be made",
            )
        time.sleep(pause)
        pause = min(pause * 1.5, _SLOWEST_POLL)
    if not state.ok:
        raise UploadError(
            f"ingest at {ingest.url} failed at {state.task!r} of job {job_id}: {summarize(state.exception)}",
            "no transaction was made; correct the cause and upload again",
            output=state.exception,
        )


def _with_ids(
    rows: list[dict[str, Any]], transaction_id: int, policy_url: str | None, session: Session
) -> list[dict[str, Any]]:
    """Add the ids of the files, as far as policy tells them."""
    if policy_url is None or not rows:
        return rows
    try:
        ids = Policy(policy_url, session).file_ids(transaction_id)
    except ServiceError as error:
        # The transaction exists: to fail now would invite the caller to make it once more.
        log.warning("the files of transaction %d stay without _id: %s", transaction_id, error)
        return rows
    return [
        {"_id": ids[row["subdir"], row["name"]], **row} if (row["subdir"], row["name"]) in ids else row for row in rows
    ]


def _event(transaction_id: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The notification of the new transaction in the producer's form; its source is the default of metadata."""
    return {
        "cloudEventsVersion": "0.1",
        "eventType": _EVENT_TYPE,
        "source": f"http://metadata.pacifica.org/transactions?_id={transaction_id}",
        "eventID": f"metadata.ingest.{transaction_id}",
        "eventTime": datetime.now().isoformat(timespec="seconds"),  # local and without zone, as the producer's
        "extensions": {},
        "contentType": "application/json",
        "data": [*rows, {"destinationTable": "Transactions._id", "value": transaction_id}],
    }


def _write_notification(path: Path, event: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(event), encoding="ascii")
    temporary.replace(path)
