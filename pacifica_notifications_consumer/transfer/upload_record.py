"""What is known of an upload, kept in ``DST``: after a crash it tells whether a transaction was made.

The file ``upload-….jsonl`` has a JSON object on each line, added when it became known and flushed to the disk:

- ``{"sending": time}`` before the first byte,
- ``{"rows": […]}``, several times, and ``{"sent": count}`` when all files have been sent,
- ``{"job_id": number}`` the moment ingest gave it,
- ``{"failed": reason}`` when it is certain that no transaction comes of it.
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
    """The record of the uploads of one content from one ``DST``.

    Args:
        directory: The job's directory ``DST``.
        url: Where it is sent: another ingest knows nothing of it.
        rows: The rows of the transaction that are not files.
        names: The names of the files. An entry-point that is run again makes the same names, but their contents may
            tell the time.

    Attributes:
        path: The file.
        rows: The rows of files that were sent, as soon as all of them were.
        job_id: The number that ingest gave.
        since: When the last try began, in seconds since 1970; None if there is none of which something may come.

    Raises:
        UploadError: The file cannot be read. Every method raises it, too, when the disk does not take a line.
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
            try:
                self._take(json.loads(line))
            except (ValueError, TypeError, AttributeError):
                # A crash may have left half a line.
                continue

    def _clear(self) -> None:
        self.rows: list[dict[str, Any]] | None = None
        self.job_id: int | None = None
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
            # A crash may have left half a line.
            file.write(b"\n" if file.tell() else b"")
            for fact in facts:
                self._take(fact)
                file.write(json.dumps(fact).encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def sending(self) -> None:
        """Note that a try begins."""
        self._add({"sending": time.time()})
        # The name of a new file has to reach the disk, too.
        sync_directory(self.path.parent)

    def sent(self, rows: list[dict[str, Any]]) -> None:
        """Note the rows of the files: they have been sent, and ingest may make a transaction from now on."""
        batches = ({"rows": rows[start : start + _BATCH]} for start in range(0, len(rows), _BATCH))
        self._add(*batches, {"sent": len(rows)})

    def accepted(self, job_id: int) -> None:
        """Note the number that ingest gave."""
        self._add({"job_id": job_id})

    def failed(self, reason: str) -> None:
        """Note that no transaction comes of the last try."""
        self._add({"failed": reason})


_BATCH = 500
