"""The JSON API of a consumer's notifications and jobs.

The listener serves it over HTTP, the pages call its methods, and the command ``jobs`` calls it for a stopped consumer.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import IO, Annotated, Any, TypeVar

import attrs

from pacifica_notifications_consumer.errors import FilterError, shown
from pacifica_notifications_consumer.http.errors import HTTPError
from pacifica_notifications_consumer.jobs.files import list_files, open_file
from pacifica_notifications_consumer.jobs.job import Job, JobState, Verdict
from pacifica_notifications_consumer.queue.job_book import JobBook
from pacifica_notifications_runner.status.api import documents
from pacifica_notifications_runner.status.api.openapi import describe
from pacifica_notifications_runner.status.api.request import Answer, read_selection
from pacifica_notifications_runner.status.api.routes import ANY_NUMBER, Router

Found = TypeVar("Found")

ROUTER = Router()

#: The entries of a list of jobs or notifications: by default, and at most.
LISTED, MOST_LISTED = 100, 1000
_PIECE = 1 << 16
#: Seconds between two reads of a running job's output.
_FOLLOW = 0.2
_MOST_FOLLOWERS = 32
#: How many replayed jobs the answer names.
_MOST_NAMED = 1000
_MINUTES = 60
_INCIDENTS = 20

Limit = Annotated[int, range(1, MOST_LISTED + 1), f"how many at most, up to {MOST_LISTED}"]
Before = Annotated[int | None, "only those with lower numbers; the field next of the previous page"]
FilePath = Annotated[str, "with / between names"]


@attrs.define
class Api:
    """The API of a consumer; its methods raise `HTTPError` for a refusal."""

    book: JobBook
    #: Returns the state of the subscription, None while it is made or removed; None for a stopped consumer.
    subscription: Callable[[], documents.SubscriptionStatus | None] | None = None
    #: Set to end the followers of logs.
    closing: threading.Event = attrs.field(factory=threading.Event)
    _followers: threading.BoundedSemaphore = attrs.field(
        factory=lambda: threading.BoundedSemaphore(_MOST_FOLLOWERS), init=False
    )

    def answer(self, method: str, path: str, query: Mapping[str, str], document: Any = None) -> Answer:
        """Answer a request."""
        unknown = f"{path} does not exist; see /api/openapi.json for the paths of the API"
        answer = ROUTER.dispatch(self, method, path, query, document, unknown=unknown)
        return answer if isinstance(answer, Answer) else Answer(document=answer)

    @ROUTER.route("GET", "/api/status")
    def status(self) -> documents.StatusDocument:
        """The state of the consumer."""
        ledger = self.book.ledger
        due = ledger.next_due()
        return documents.document_of(
            documents.StatusDocument,
            self.book,
            version=version("pacifica-notifications-consumer"),
            state_dir=str(self.book.state_dir),
            running=self.subscription is not None,
            engine={"place": self.book.engine_name, "trouble": self.book.trouble},
            subscription=self.subscription() if self.subscription else None,
            jobs=ledger.count_jobs(),
            notifications=ledger.count_verdicts(),
            missed=ledger.coverage.counts(),
            waiting_seconds=None if due is None else max(0.0, time.time() - due),
            incidents=ledger.incidents(_INCIDENTS),
            ended_by_minute=ledger.records.ended_by_minute(_MINUTES),
        )

    @ROUTER.route("GET", "/api/jobs")
    def jobs(
        self,
        limit: Limit = LISTED,
        before: Before = None,
        state: Annotated[JobState | None, "only those in this state"] = None,
    ) -> documents.JobsDocument:
        """The newest jobs, the newest first."""
        jobs = self.book.jobs(limit, before, state)
        return {"jobs": [self._document(job) for job in jobs], "next": _next(jobs, limit)}

    @ROUTER.route("GET", "/api/jobs/{id}", refusals=(404,))
    def job(self, id: int) -> documents.JobDocument:
        """A job."""
        return self._document(self._find(id))

    @ROUTER.route("GET", "/api/jobs/{id}/log", media_type="text/plain", refusals=(404, 503))
    def log(
        self,
        id: int,
        offset: Annotated[int, ANY_NUMBER, "the first byte; negative counts from the end"] = 0,
        follow: Annotated[bool, "yes to continue while the job waits or runs"] = False,
    ) -> Answer:
        """The output of the entry-point in all attempts; with follow until the job ends."""
        job = self._find(id)
        output = self.book.directory(id).output
        size = _size(output)
        # An output that exceeds its limit becomes shorter when its middle is removed.
        start = max(0, size + offset) if offset < 0 else min(offset, size)
        headers = {"Log-Offset": str(start)}
        if not follow:
            pieces: Iterator[bytes] = _read(output, start, size)
            headers |= {"Log-End": str(size), "Job-State": job.state.value}
        elif self._followers.acquire(blocking=False):
            following = self._follow(id, output, start)
            # Started here, since only a started generator releases its place.
            pieces = itertools.chain([next(following, b"")], following)
        else:
            raise HTTPError(HTTPStatus.SERVICE_UNAVAILABLE, f"{_MOST_FOLLOWERS} follow logs already; try again later")
        return Answer(pieces=pieces, content_type="text/plain; charset=utf-8", headers=headers)

    def _follow(self, id: int, output: Path, position: int) -> Iterator[bytes]:
        try:
            while True:
                last = self.book.job(id).state.final or self.closing.is_set()
                for piece in _read(output, position, _size(output)):
                    position += len(piece)
                    yield piece
                if last:
                    return
                yield b""  # detects that the client has disconnected
                self.closing.wait(_FOLLOW)
        finally:
            self._followers.release()

    @ROUTER.route("GET", "/api/jobs/{id}/files", refusals=(404,))
    def files(self, id: int) -> documents.FilesDocument:
        """The files in a job's directory."""
        directory = self._find_directory(id)
        files, more = list_files(directory)
        return {"directory": str(directory), "files": documents.plain(files), "more": more}

    @ROUTER.route("GET", "/api/jobs/{id}/files/{path}", media_type="application/octet-stream", refusals=(404,))
    def file(self, id: int, path: FilePath) -> Answer:
        """A file in a job's directory."""
        try:
            file = open_file(self._find_directory(id), path)
        except OSError:
            raise HTTPError(HTTPStatus.NOT_FOUND, f"the job has no file {path!r}") from None
        # Not to its end, because the job may go on writing.
        return _download(_pieces(file, os.fstat(file.fileno()).st_size))

    @ROUTER.route("POST", "/api/jobs/{id}/retry", refusals=(404, 409))
    def retry(self, id: int) -> documents.JobDocument:
        """Queue a job again that has ended or failed."""
        job = self._find(id)
        if not self.book.requeue(id):
            reason = f"job {id} is {job.state.value}: only jobs that have ended or failed can be queued again"
            raise HTTPError(HTTPStatus.CONFLICT, reason)
        return self.job(id)

    @ROUTER.route("POST", "/api/jobs/{id}/cancel", refusals=(404, 409))
    def cancel(self, id: int, document: documents.CancellationDocument) -> documents.JobDocument:
        """Cancel a job that waits or runs."""
        job = self._find(id)
        reason = shown(" ".join(str(document.get("reason") or "cancelled by an operator").split()), 200)
        if job.state.final or not self.book.cancel(id, reason):
            raise HTTPError(HTTPStatus.CONFLICT, f"job {id} has ended: it is {job.state.value}")
        return self.job(id)

    @ROUTER.route("POST", "/api/replay")
    def replay(self, document: documents.SelectionDocument) -> documents.ReplayedDocument:
        """Queue all jobs again that have ended or failed and that the selection matches."""
        selection = read_selection(document)
        dry = document.get("dry_run") is True
        try:
            found = [job.id for job in self.book.select(selection)] if dry else self.book.replay(selection)
        except FilterError as error:
            raise HTTPError(HTTPStatus.BAD_REQUEST, str(error)) from error
        return {"count": len(found), "jobs": found[:_MOST_NAMED], "dry_run": dry}

    @ROUTER.route("GET", "/api/notifications")
    def notifications(
        self,
        limit: Limit = LISTED,
        before: Before = None,
        verdict: Annotated[Verdict | None, "only those with this verdict"] = None,
    ) -> documents.NotificationsDocument:
        """The newest notifications, the newest first."""
        found = self.book.ledger.records.notifications(limit, before, verdict)
        return {"notifications": [documents.notification_document(each) for each in found], "next": _next(found, limit)}

    @ROUTER.route("GET", "/api/notifications/{id}", refusals=(404,))
    def notification(self, id: int) -> documents.NotificationDocument:
        """A notification."""
        return documents.notification_document(_found("notification", id, self.book.ledger.records.notification))

    @ROUTER.route("GET", "/api/notifications/{id}/body", media_type="application/octet-stream", refusals=(404,))
    def body(self, id: int) -> Answer:
        """A notification, byte for byte as it was received."""
        body = _found("notification", id, self.book.ledger.records.body)
        if body is None:
            raise HTTPError(HTTPStatus.NOT_FOUND, f"the body of notification {id} was not kept")
        return _download(iter([body]))

    @ROUTER.route("GET", "/api/openapi.json")
    def openapi(self) -> Answer:
        """This description."""
        return Answer(document=describe(ROUTER))

    def _find(self, id: int) -> Job:
        return _found("job", id, self.book.job)

    def _find_directory(self, id: int) -> Path:
        return self.book.directory(self._find(id).id).path

    def _document(self, job: Job) -> documents.JobDocument:
        return documents.job_document(job, self.book.directory(job.id))


def _found(thing: str, id: int, find: Callable[[int], Found]) -> Found:
    try:
        return find(id)
    except KeyError:
        raise HTTPError(HTTPStatus.NOT_FOUND, f"{thing} {id} does not exist") from None


def _next(found: Sequence[Any], limit: int) -> int | None:
    """The value of ``before`` for the next page, if this one is full."""
    return int(found[-1].id) if len(found) == limit else None


def _download(pieces: Iterator[bytes]) -> Answer:
    """An answer that a browser saves, so that no content of a job runs with the rights of the page."""
    headers = {"Content-Disposition": "attachment"}
    return Answer(pieces=pieces, content_type="application/octet-stream", headers=headers)


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.lstat().st_size
    return 0


def _read(path: Path, start: int, end: int) -> Iterator[bytes]:
    """The bytes of a job's file from a position to another, or to its end."""
    if start < end:
        with contextlib.suppress(OSError), open_file(path.parent, path.name) as file:
            file.seek(start)
            yield from _pieces(file, end - start)


def _pieces(file: IO[Any], size: int) -> Iterator[bytes]:
    with file:
        while size > 0 and (piece := file.read(min(_PIECE, size))):
            size -= len(piece)
            yield piece
