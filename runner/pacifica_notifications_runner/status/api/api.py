"""The JSON API: what can be asked of a consumer's book of jobs, and done about them.

It knows nothing of HTTP's wire: the listener answers with it over a socket, and the command ``jobs`` without one where
the consumer is stopped.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs

from pacifica_notifications_consumer.errors import FilterError
from pacifica_notifications_consumer.http.errors import HTTPError
from pacifica_notifications_consumer.jobs.files import list_files, open_file
from pacifica_notifications_consumer.jobs.job import Job, JobState, Verdict
from pacifica_notifications_consumer.queue.job_book import JobBook
from pacifica_notifications_runner.status.api.documents import (
    incident_document,
    job_document,
    moment,
    notification_document,
)
from pacifica_notifications_runner.status.api.openapi import describe
from pacifica_notifications_runner.status.api.request import Answer, ApiRequest, check_known, read_selection
from pacifica_notifications_runner.status.api.routes import MOST_LISTED, ROUTES

_PIECE = 1 << 16
#: Seconds between two looks at what a running job has printed.
_FOLLOW = 0.2
_MOST_FOLLOWERS = 32
_LISTED = 100
#: How many of the jobs that are replayed are named in the answer.
_MOST_NAMED = 1000
_MINUTES = 60
_INCIDENTS = 20


def no_subscription() -> dict[str, Any] | None:
    """What is told of the subscription of a consumer that is stopped."""
    return None


@attrs.define
class Api:
    """Answers what is asked.

    Args:
        book: The consumer's notifications and jobs.
        subscription: Tells of the subscription: whether it is well, what is the matter, and its number.
        closing: Set when whoever follows a log must go.
    """

    book: JobBook
    subscription: Callable[[], dict[str, Any] | None] = no_subscription
    closing: threading.Event = attrs.field(factory=threading.Event)
    _followers: threading.BoundedSemaphore = attrs.field(
        factory=lambda: threading.BoundedSemaphore(_MOST_FOLLOWERS), init=False
    )

    def answer(self, method: str, path: str, query: Mapping[str, str], document: Any = None) -> Answer:
        """Answer a request.

        Raises:
            BadRequest: It cannot be met; the status and the reason are what is to be answered.
        """
        methods = []
        for route in ROUTES:
            open_parts = route.match(path)
            if open_parts is None:
                continue
            if route.method == method:
                check_known("parameter", query, route.query)
                if document and not route.takes:
                    raise HTTPError(HTTPStatus.BAD_REQUEST, "no body is expected here")
                answer: Answer = getattr(self, f"_{route.name}")(
                    ApiRequest(path=open_parts, query=query, document=document)
                )
                return answer
            methods.append(route.method)
        if methods:
            raise HTTPError(HTTPStatus.METHOD_NOT_ALLOWED, f"use {' or '.join(methods)}")
        raise HTTPError(HTTPStatus.NOT_FOUND, f"there is no {path}; /api/openapi.json says what there is")

    def _status(self, _: ApiRequest) -> Answer:
        missed = self.book.count_missed()
        due = self.book.next_due()
        ended = self.book.ended_by_minute(_MINUTES)
        return Answer(
            document={
                "name": self.book.name,
                "version": version("pacifica-notifications-consumer"),
                "state_dir": str(self.book.state_dir),
                "running": self.subscription is not no_subscription,
                "engine": {"place": self.book.place, "trouble": self.book.trouble},
                "subscription": self.subscription(),
                "jobs": {state.value: count for state, count in self.book.count_jobs().items()},
                "notifications": {verdict.value: count for verdict, count in self.book.count_verdicts().items()},
                "missed": attrs.asdict(missed),
                "waiting_seconds": None if due is None else max(0.0, time.time() - due),
                "incidents": [incident_document(incident) for incident in self.book.incidents(_INCIDENTS)],
                "ended_by_minute": [
                    {"minute": moment(each.minute), "succeeded": each.succeeded, "dead": each.dead} for each in ended
                ],
            }
        )

    def _jobs(self, request: ApiRequest) -> Answer:
        limit = request.number("limit", _LISTED, most=MOST_LISTED)
        before = request.number("before", _BEYOND)
        jobs = self.book.jobs(limit, before, request.word("state", JobState))
        return Answer(document={"jobs": [self._document(job) for job in jobs], "next": _next(jobs, limit)})

    def _job(self, request: ApiRequest) -> Answer:
        return Answer(document=self._document(self._find(request)))

    def _log(self, request: ApiRequest) -> Answer:
        job = self._find(request)
        output = self.book.directory(job.id).output
        size = output.stat().st_size if output.exists() else 0
        offset = request.number("offset", 0, least=-_BEYOND)
        # One that was cut at its end is shorter than before.
        start = max(0, size + offset) if offset < 0 else min(offset, size)
        headers = {"Log-Offset": str(start)}
        if not request.flag("follow"):
            pieces: Iterator[bytes] = _read(output, start, size)
            headers |= {"Log-End": str(size), "Job-State": job.state.value}
        elif self._followers.acquire(blocking=False):
            following = self._follow(job.id, output, start)
            # Once it has begun, it lets go of its place in any case.
            pieces = itertools.chain([next(following, b"")], following)
        else:
            raise HTTPError(HTTPStatus.SERVICE_UNAVAILABLE, f"{_MOST_FOLLOWERS} follow logs already; try again later")
        return Answer(pieces=pieces, content_type="text/plain; charset=utf-8", headers=headers)

    def _follow(self, job_id: int, output: Path, position: int) -> Iterator[bytes]:
        try:
            while True:
                going_on = not self.book.job(job_id).state.final and not self.closing.is_set()
                size = output.stat().st_size if output.exists() else 0
                for piece in _read(output, position, size):
                    position += len(piece)
                    yield piece
                if not going_on:
                    return
                # Also when nothing was printed, so that it is noticed when nobody listens any more.
                yield b""
                self.closing.wait(_FOLLOW)
        finally:
            self._followers.release()

    def _files(self, request: ApiRequest) -> Answer:
        directory = self.book.directory(self._find(request).id).path
        files, more = list_files(directory)
        return Answer(
            document={
                "directory": str(directory),
                "files": [
                    {"path": file.path, "size": file.size, "changed_at": moment(file.changed_at)} for file in files
                ],
                "more": more,
            }
        )

    def _file(self, request: ApiRequest) -> Answer:
        directory = self.book.directory(self._find(request).id).path
        path = request.path["path"]
        try:
            file = open_file(directory, path)
        except FileNotFoundError:
            raise HTTPError(HTTPStatus.NOT_FOUND, f"the job has no file {path!r}") from None

        def pieces() -> Iterator[bytes]:
            with file:
                yield from iter(lambda: file.read(_PIECE), b"")

        # Whatever it is, it is not to be run in the name of this page.
        headers = {"Content-Disposition": "attachment"}
        return Answer(pieces=pieces(), content_type="application/octet-stream", headers=headers)

    def _retry(self, request: ApiRequest) -> Answer:
        job = self._find(request)
        if not self.book.requeue(job.id):
            raise HTTPError(HTTPStatus.CONFLICT, f"job {job.id} is {job.state.value}: it need not be queued anew")
        return Answer(document=self._document(self.book.job(job.id)))

    def _cancel(self, request: ApiRequest) -> Answer:
        job = self._find(request)
        document = request.document or {}
        check_known("field", document, ("reason",))
        reason = " ".join(str(document.get("reason") or "cancelled by an operator").split())[:200]
        if job.state.final or not self.book.cancel(job.id, reason):
            raise HTTPError(HTTPStatus.CONFLICT, f"job {job.id} has ended: it is {job.state.value}")
        return Answer(document=self._document(self.book.job(job.id)))

    def _replay(self, request: ApiRequest) -> Answer:
        document = request.document or {}
        selection = read_selection(document)
        dry = document.get("dry_run") is True
        try:
            found = [job.id for job in self.book.select(selection)] if dry else self.book.replay(selection)
        except FilterError as error:
            raise HTTPError(HTTPStatus.BAD_REQUEST, str(error)) from error
        return Answer(document={"count": len(found), "jobs": found[:_MOST_NAMED], "dry_run": dry})

    def _notifications(self, request: ApiRequest) -> Answer:
        limit = request.number("limit", _LISTED, most=MOST_LISTED)
        before = request.number("before", _BEYOND)
        found = self.book.notifications(limit, before, request.word("verdict", Verdict))
        documents = [notification_document(record) for record in found]
        return Answer(document={"notifications": documents, "next": _next(found, limit)})

    def _notification(self, request: ApiRequest) -> Answer:
        number = request.number("id")
        try:
            return Answer(document=notification_document(self.book.notification(number)))
        except KeyError:
            raise HTTPError(HTTPStatus.NOT_FOUND, f"there is no notification {number}") from None

    def _body(self, request: ApiRequest) -> Answer:
        number = request.number("id")
        try:
            body = self.book.notification_body(number)
        except KeyError:
            raise HTTPError(HTTPStatus.NOT_FOUND, f"there is no notification {number}") from None
        if body is None:
            raise HTTPError(HTTPStatus.NOT_FOUND, f"what notification {number} said was not kept")
        headers = {"Content-Disposition": "attachment"}
        return Answer(pieces=iter([body]), content_type="application/octet-stream", headers=headers)

    def _openapi(self, _: ApiRequest) -> Answer:
        return Answer(document=describe(ROUTES))

    def _find(self, request: ApiRequest) -> Job:
        number = request.number("id")
        try:
            return self.book.job(number)
        except KeyError:
            raise HTTPError(HTTPStatus.NOT_FOUND, f"there is no job {number}") from None

    def _document(self, job: Job) -> dict[str, Any]:
        return job_document(job, self.book.directory(job.id))


_BEYOND = 1 << 61


def _next(found: Sequence[Any], limit: int) -> int | None:
    """Where the next page begins, if this one is full."""
    return int(found[-1].id) if len(found) == limit else None


def _read(path: Path, start: int, end: int) -> Iterator[bytes]:
    """The bytes of a file between two places, without those that were given back to the disk."""
    if start >= end:
        return
    with path.open("rb") as file:
        file.seek(start)
        while start < end and (piece := file.read(min(_PIECE, end - start))):
            start += len(piece)
            yield piece
