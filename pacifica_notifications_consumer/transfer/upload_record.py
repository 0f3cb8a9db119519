"""The record of an upload in ``DST``, from which a later attempt finds out whether a transaction was made.

The file ``upload-….jsonl`` has a JSON object on each line, each written and flushed to the disk as the event happens:

- ``{"sending": time}`` before the first byte is sent,
- ``{"rows": […]}``, several times, then ``{"sent": count}`` when all files have been sent,
- ``{"job_id": number}`` when ingest has assigned the number,
- ``{"failed": reason}`` when it is certain that the upload does not become a transaction.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import UploadError, explained
from ..system.files import sync_directory


class UploadRecord:
    """The record of all attempts to upload one set of files and metadata from one ``DST`` to one address of ingest.

    Only their names identify the files: an entry-point that runs again writes the same names, but the contents may
    differ, for example by a time stamp.
    """

    def __init__(self, directory: Path, url: str, rows: list[dict[str, Any]], names: Iterable[str]) -> None:
        identity = json.dumps([url, rows, sorted(names)]).encode("ascii")
        self.path = directory / f"upload-{hashlib.sha256(identity).hexdigest()[:12]}.jsonl"
        self._clear()
        lines: list[bytes] = []
        with (
            explained(UploadError, f"cannot read {self.path}", "check the access rights"),
            contextlib.suppress(FileNotFoundError),
        ):
            lines = self.path.read_bytes().splitlines()
        for line in lines:
            # A crash may have left an incomplete line.
            with contextlib.suppress(ValueError, TypeError, AttributeError):
                self._take(json.loads(line))

    def _clear(self) -> None:
        #: The rows of the files; None until all files have been sent.
        self.rows: list[dict[str, Any]] | None = None
        #: The number that ingest assigned.
        self.job_id: int | None = None
        #: When the last try began, in seconds since 1970; None if no try may still become a transaction.
        self.since: float | None = None
        self._rows: list[dict[str, Any]] = []

    def _take(self, fact: dict[str, Any]) -> None:
        if "sending" in fact or "failed" in fact:
            self._clear()
        self._rows += fact.get("rows", ())
        if "sent" in fact:
            self.rows = self._rows
        self.since = fact.get("sending", self.since)
        self.job_id = fact.get("job_id", self.job_id)

    def _add(self, *facts: dict[str, Any]) -> None:
        with explained(UploadError, f"cannot write {self.path}", "make room there"), self.path.open("ab") as file:
            # A crash may have left an incomplete line.
            file.write(b"\n" if file.tell() else b"")
            for fact in facts:
                self._take(fact)
                file.write(json.dumps(fact).encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def sending(self) -> None:
        """Record that a try begins."""
        self._add({"sending": time.time()})
        # The name of a new file has to reach the disk, too.
        sync_directory(self.path.parent)

    def sent(self, rows: list[dict[str, Any]]) -> None:
        """Record the rows of the files: all are sent, so ingest may make a transaction from now on."""
        batches = ({"rows": rows[start : start + _BATCH]} for start in range(0, len(rows), _BATCH))
        self._add(*batches, {"sent": len(rows)})

    def accepted(self, job_id: int) -> None:
        """Record the number that ingest assigned."""
        self._add({"job_id": job_id})

    def failed(self, reason: str) -> None:
        """Record that the last try does not become a transaction."""
        self._add({"failed": reason})


_BATCH = 500
