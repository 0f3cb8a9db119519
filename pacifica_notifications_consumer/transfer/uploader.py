"""upload(): send the files in ``uploads/`` to ingest as one new transaction."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from ..clients.base import PATIENT_TRIES, ends_of, make_session
from ..clients.ingest import Ingest, IngestState
from ..clients.policy import Policy
from ..clients.retry import Backoff, pauses
from ..cloudevents.announcement import Identity, ingest_event
from ..errors import ServiceError, UploadError, explained, shown
from ..settings.services import Services
from ..streams.json_pieces import json_pieces
from ..streams.progress import ProgressCallback, TransferMeter
from ..system.files import replacing
from .background import in_background
from .metadata_rows import advice_on_refusal, key_value_rows, transaction_rows
from .promises import Promise
from .upload_record import UploadRecord
from .upload_recovery import find_upload
from .upload_tar import UploadTar

log = logging.getLogger(__name__)

#: Seconds without progress after which ingest is considered stuck.
_STUCK_SECONDS = 3600.0


def upload(
    event_path: str | os.PathLike[str],
    transaction: Mapping[str, Any],
    key_values: Mapping[str, Any] | None = None,
    *,
    services: Services | None = None,
    timeout: float = _STUCK_SECONDS,
    progress: ProgressCallback | None = None,
) -> Promise[dict[str, Any]]:
    """Make a new transaction of the files in ``event_path/uploads/``.

    The upload runs on a background thread, so several uploads and downloads can run at the same time. It is recorded in
    ``event_path``: a second call with the same attributes, key-values and file names does not make a second
    transaction but waits for the first, unless that one has failed.

    Args:
        event_path: The job's directory ``DST``.
        transaction: The transaction's attributes by destination table, such as ``{"Transactions.submitter": 10,
            "Transactions.project": "1234a", "Transactions.instrument": 54}``.
        key_values: The transaction's key-values, which become rows of ``TransactionKeyValue``: texts of at most 255
            characters, and numbers.
        services: The addresses of Pacifica's services; by default those in the environment (``PACIFICA_INGEST_URL`` and
            so on).
        timeout: Seconds that ingest may take without progress; by default one hour.
        progress: Called with the bytes done, the total bytes, the files done and the total files, at most ten times a
            second and at the end, on the background thread; by default a progress bar on a terminal, else log lines.

    Returns:
        A promise of the new transaction's notification. It is fulfilled when ingest has completed the transaction; the
        notification is also written to ``event_path/notification.json``. The files have an ``_id`` only if the address
        of policy is set (``PACIFICA_POLICY_URL``), because ingest does not report ids. The promise is rejected with

        - `UploadError`: the arguments or the files are not usable, or ingest failed,
        - `ServiceError`: ingest cannot be reached or refuses.

        Callbacks run on the thread that waits for the promise with ``get()``, or on the main thread at the end of the
        program. An unhandled rejection ends the process with a status greater than 0.
    """
    advice = "give `transaction` and `key_values` as dicts"
    with explained(UploadError, "the arguments are not usable", advice, cause=(TypeError, ValueError)):
        attributes, values = dict(transaction), dict(key_values or {})
    path = Path(event_path)
    return in_background(lambda: _upload(path, attributes, values, services, timeout, progress))


def _upload(
    event_path: Path,
    transaction: Mapping[str, Any],
    key_values: Mapping[str, Any],
    services: Services | None,
    timeout: float,
    progress: ProgressCallback | None,
) -> dict[str, Any]:
    services = services or Services.from_environment()
    rows = transaction_rows(transaction) + key_value_rows(key_values, services.consumer)
    tar = UploadTar(event_path / "uploads", rows)
    with make_session(services) as session:
        ingest = Ingest(services, session)
        record = UploadRecord(event_path, ingest.upload_url, rows, tar.names)
        policy = Policy(services.policy_url, session) if services.policy_url else None
        if not _was_uploaded_before(ingest, policy, record, rows, timeout):
            if policy is not None:
                _ask(policy, rows)
            if not tar.file_rows:
                log.warning("the new transaction has no files: %s is empty", event_path / "uploads")
            with TransferMeter("upload", tar.size, len(tar.file_rows), progress) as tar.meter:
                _send(ingest, tar, record)
            _finish(ingest, record, rows, timeout)
        assert record.job_id is not None  # noqa: S101  (ingest has made the transaction)
        file_rows = _with_ids(record.rows or [], record.job_id, policy)
    number = {"destinationTable": "Transactions._id", "value": record.job_id}
    event = ingest_event(Identity().of(record.job_id), [*rows, *file_rows, number])
    _write_notification(event_path / "notification.json", event)
    return event


def _was_uploaded_before(
    ingest: Ingest, policy: Policy | None, record: UploadRecord, rows: list[dict[str, Any]], timeout: float
) -> bool:
    """Whether an earlier upload of the same content became a transaction; waits for it if ingest still works on it."""
    if record.job_id is None and record.rows is not None and record.since is not None:
        job_id = find_upload(
            ingest,
            policy,
            since=record.since,
            rows=rows + record.rows,
            wait=lambda job_id: _wait_until_complete(ingest, job_id, timeout),
        )
        if job_id is None:
            record.failed("ingest made no transaction of this upload")
        else:
            record.accepted(job_id)
    if record.job_id is None:
        return False
    log.info("these files were already sent to ingest as upload %d", record.job_id)
    state = _wait_until_complete(ingest, record.job_id, timeout)
    if not state.ok:
        log.warning("upload %d failed at %r: %s; uploading again", record.job_id, state.task, state.reason)
        record.failed(state.reason)
    return state.ok


def _ask(policy: Policy, rows: list[dict[str, Any]]) -> None:
    """Ask policy what ingest will ask it after all files were sent."""
    try:
        policy.check_upload(rows)
    except ServiceError as error:
        if error.status == HTTPStatus.PRECONDITION_FAILED:
            raise UploadError(error.problem, f"{advice_on_refusal(rows, error.problem)}; nothing was sent") from error
        log.info("policy cannot tell whether it accepts the upload: %s", error.problem)


def _send(ingest: Ingest, tar: UploadTar, record: UploadRecord) -> None:
    """Send the tar, retry while it certainly did not arrive, and record the number that ingest assigns."""
    backoff = Backoff(PATIENT_TRIES)
    tar.on_metadata = lambda: record.sent(tar.file_rows)
    while True:
        record.sending()
        try:
            return record.accepted(ingest.upload(tar))
        except ServiceError as error:
            if record.rows is not None and _may_have_arrived(error):
                raise UploadError(
                    f"{error.problem}, after all files were sent, so ingest may have made a transaction or not",
                    "call upload() again: it checks this before it sends anything",
                ) from error
            record.failed(error.problem)
            if not error.transient or not backoff.pause(error.problem, error.retry_after):
                raise


def _may_have_arrived(error: ServiceError) -> bool:
    """Whether a completely sent upload may become a transaction despite an error."""
    # 503 means that the server did not accept the request; another 5xx may have occurred after it was accepted.
    return error.status is None or (
        error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and error.status != HTTPStatus.SERVICE_UNAVAILABLE
    )


def _finish(ingest: Ingest, record: UploadRecord, rows: list[dict[str, Any]], timeout: float) -> None:
    """Wait until ingest has made the transaction; if ingest is stuck, the record keeps the number for a later call."""
    assert record.job_id is not None  # noqa: S101
    job_id = record.job_id
    state = _wait_until_complete(ingest, job_id, timeout)
    if not state.ok:
        record.failed(state.reason)
        advice = _ADVICE.get(state.task, "correct the cause")
        if state.task == "Policy Validation":
            advice = advice_on_refusal(rows, state.reason)
        raise UploadError(
            f"ingest at {ingest.url} failed at {state.task!r} of job {job_id}: {state.reason}",
            f"no transaction was made; {advice} and upload again",
            output="\n".join(shown(line, 10_000) for line in ends_of(state.exception).splitlines()[-200:]),
        )


#: Advice for a failure, by the task at which ingest failed.
_ADVICE = {
    "open tar": "check for a proxy on the way to ingest that changes uploads",
    "load metadata": "check for a proxy on the way to ingest that truncates uploads",
    "ingest files": "check that the archive is up and has free space",
    "ingest metadata": "correct the values that metadata does not accept",
}


def _wait_until_complete(ingest: Ingest, job_id: int, timeout: float) -> IngestState:
    seen: set[tuple[str, str]] = set()
    deadline = 0.0
    for pause in pauses():
        state = _state(ingest, job_id)
        if state.complete:
            break
        # A percentage that returns to an earlier value is no progress.
        if (state.task, state.percent) not in seen:
            seen.add((state.task, state.percent))
            deadline = time.monotonic() + timeout
        if time.monotonic() > deadline:
            raise UploadError(
                f"ingest at {ingest.url} has been at {state.task!r} ({state.percent} %) of job {job_id} for more than "
                f"{timeout:g} seconds",
                "check that ingest's worker runs; the transaction may still be made, and upload() waits for it again",
            )
        time.sleep(pause)
    return state


def _state(ingest: Ingest, job_id: int) -> IngestState:
    state = ingest.state(job_id)
    if state is None:
        raise UploadError(
            f"ingest at {ingest.url} does not know its own job {job_id} any more",
            "check the database of ingest; to upload again, remove the file upload-….jsonl in DST",
        )
    return state


def _with_ids(rows: list[dict[str, Any]], transaction_id: int, policy: Policy | None) -> list[dict[str, Any]]:
    """Add the ids of the files that policy knows."""
    if policy is None or not rows:
        return rows
    try:
        ids = policy.file_ids(transaction_id)
    except ServiceError as error:
        # The transaction exists: an error now would make the caller upload it again.
        log.warning("the files of transaction %d have no _id in the notification: %s", transaction_id, error)
        return rows
    return [
        {"_id": ids[row["subdir"], row["name"]], **row} if (row["subdir"], row["name"]) in ids else row for row in rows
    ]


def _write_notification(path: Path, event: dict[str, Any]) -> None:
    head = json.dumps({name: value for name, value in event.items() if name != "data"}).encode("ascii")
    with replacing(path, mode=0o666) as file:
        file.write(head[:-1] + b', "data": [')
        file.writelines(json_pieces(event["data"]))
        file.write(b"]}")
