"""The sandbox's ingest: receives bundles and makes transactions of them in the background."""

from __future__ import annotations

import contextlib
import tarfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from http import HTTPStatus
from typing import Any

import attrs

from ...cloudevents.announcement import ingest_event
from ...http.errors import HTTPError
from ...settings.converters import counted
from . import bundle
from .policy import PolicyService
from .store import Store, timestamp
from .wire import ServiceHandler, error_page
from .workers import TaskThreads

_WORKERS = 2  # like Celery on a small machine, so that transactions do not always complete in the order of upload


@attrs.define(eq=False, slots=False)
class IngestService:
    """Processes uploads and stores their states; ``{id}`` in the source stands for the transaction's number."""

    _store: Store
    _policy: PolicyService
    _source: str = attrs.field(kw_only=True)
    _emit: Callable[[dict[str, Any]], object] = attrs.field(kw_only=True)
    _say: Callable[[str], None] = attrs.field(kw_only=True)

    def __attrs_post_init__(self) -> None:
        self._workers = TaskThreads("ingest", _WORKERS)
        for job in (_IngestJob(self._store, upload) for upload in self._store.pending_uploads()):
            if job.state["complete"]:
                # The last sandbox ended after completing the upload and before deleting the bundle.
                self._store.upload(job.number).unlink()
            else:
                self._workers.submit(partial(self._process, job))

    def accept(self, pieces: Iterable[bytes]) -> dict[str, Any]:
        """Receive a bundle, and return the state of the upload before the bundle is processed."""
        job = _IngestJob(self._store, self._store.reserve("upload"))
        job.update("UPLOADING", 0)
        state = dict(job.state)
        self._store.receive_upload(job.number, pieces)
        self._workers.submit(partial(self._process, job))
        return state

    def state(self, number: int) -> dict[str, Any]:
        """The state of an upload; raises `HTTPError` for an unknown upload."""
        if number <= 0:
            # The real ingest answers this without a query of its database.
            state = _fresh_state(None)
            return {**state, "state": "DATA_ACCESS_ERROR", "task": "read_state", "task_percent": "0"}
        known = self._store.state(number)
        if known is None:
            raise HTTPError(HTTPStatus.NOT_FOUND, f"job ID {number} does not exist.")
        return known

    def close(self) -> None:
        """Finish running uploads; queued bundles are processed when the sandbox starts again."""
        self._workers.close(drain=False, seconds=60.0)

    def _process(self, job: _IngestJob) -> None:
        try:
            event, number = self._ingest(job)
        except _Failed as failure:
            self._store.upload(job.number).unlink()
            self._say(f"upload {job.number} failed at {failure}")
            return
        self._store.upload(job.number).unlink()
        files = sum(record["destinationTable"] == "Files" for record in event["data"])
        self._say(f"transaction {number} complete: {counted(files, 'file')}")
        self._emit(event)

    def _ingest(self, job: _IngestJob) -> tuple[dict[str, Any], int]:
        path = self._store.upload(job.number)
        with contextlib.ExitStack() as stack:
            with job.task("open tar", lambda _: "Failed to open tarfile."):
                # "r:" refuses compressed tars.
                tar = stack.enter_context(tarfile.open(path, "r:"))
            with job.task("load metadata", str):
                records = bundle.read_records(tar)
                bundle.number_files(records, tar, self._store)
                records.append({"destinationTable": "Transactions._id", "value": job.number})
            with job.task("Policy Validation", _policy_answer):
                self._policy.check_upload(records)
            with job.task("ingest files", lambda error: f"{''.join(traceback.format_exception(error))}\n{error}"):
                bundle.archive_files(records, tar, self._store)
        with job.task("ingest metadata", lambda error: str(error_page(error))):
            number = bundle.transaction_number(records)
            event = self._event(number, records)
            bundle.check_records(records, number)
            self._store.insert(number, event)
        # Only after the last task, so that a caller of `wait_for_transaction` finds the upload complete.
        self._store.publish(number)
        return event, number

    def _event(self, number: int, records: list[bundle.Record]) -> dict[str, Any]:
        for record in records:
            if record["destinationTable"] == "Files":
                record["subdir"] = bundle.clipped(record["subdir"])
        # The real ingest sorts the keys of each record when it sends them to metadata.
        rows = [dict(sorted(record.items())) for record in records]
        return ingest_event((self._source.format(id=number), f"metadata.ingest.{number}"), rows)


class _Failed(Exception):  # noqa: N818  (it never leaves this module)
    """An upload failed; its state has the reason."""


class _IngestJob:
    """One upload and its state."""

    def __init__(self, store: Store, number: int) -> None:
        self.number = number
        self._store = store
        self.state = store.state(number) or _fresh_state(number)

    def update(self, task: str, percent: int, *, state: str = "OK", exception: str = "") -> None:
        """Store the state of the upload."""
        self.state.update(
            state=state,
            task=task,
            task_percent=f"{percent:.5f}",
            complete=state == "FAILED" or (task, percent) == ("ingest metadata", 100),
            updated=timestamp(),
            exception=exception,
        )
        self._store.save_state(self.number, self.state)

    @contextlib.contextmanager
    def task(self, name: str, explain: Callable[[Exception], str]) -> Iterator[None]:
        """Run a task of the sequence; an error in it fails the upload with the explanation."""
        self.update(name, 0)
        try:
            yield
        except Exception as error:
            self.update(name, 0, state="FAILED", exception=explain(error))
            raise _Failed(f"{name}: {_short(error)}") from error
        self.update(name, 100)


def _fresh_state(number: int | None) -> dict[str, Any]:
    now = timestamp()
    return {
        "job_id": number,
        "state": "OK",
        "task": "UPLOADING",
        "task_percent": "0.00000",
        "complete": False,
        "updated": now,
        "created": now,
        "exception": "",
    }


def _policy_answer(error: Exception) -> str:
    page = error_page(error)
    return f"{page['message']} ({page['traceback']})"


def _short(error: Exception) -> str:
    if isinstance(error, KeyError) and " " not in str(error):
        return f"{error} is missing"
    return (str(error).splitlines() or [type(error).__name__])[0]


class IngestHandler(ServiceHandler):
    """Answers ``/upload`` and ``/get_state``."""

    ingest: IngestService

    def route(self) -> None:
        """Answer a request."""
        match self.command, self.segments:
            case "POST", ["upload"]:
                self._upload()
            case "GET" | "HEAD", ["get_state", *rest] if len(rest) <= 1:
                # If the job_id is missing or not a number, the error becomes a 500, as with the real ingest.
                number = int(self.query["job_id"] if not rest else rest[0])
                self.reply_json(HTTPStatus.OK, self.ingest.state(number))
            case "GET" | "HEAD", []:
                self.reply_json(HTTPStatus.OK, {"message": "Pacifica Ingest Up and Running"})
            case _, ["upload" | "get_state"] | []:
                raise HTTPError(HTTPStatus.METHOD_NOT_ALLOWED, "Specified method is invalid for this resource")
            case _:
                raise HTTPError(HTTPStatus.NOT_FOUND, "Nothing matches the given URI")

    def _upload(self) -> None:
        if self.content_type() == "application/x-www-form-urlencoded":
            raise ValueError("a form is not a bundle")
        self.reply_json(HTTPStatus.OK, self.ingest.accept(self.body()))
