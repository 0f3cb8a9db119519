"""Finds files that an entry-point wrote and did not upload, although it succeeded."""

from __future__ import annotations

import contextlib
import fnmatch
import os
from pathlib import Path

from ..settings.converters import counted
from ..streams.progress import parse_progress
from .directory import JobDirectory
from .files import list_files, open_file, read_note

#: The names of the records of uploads.
_RECORDS = "upload-*.jsonl"
#: The line with which the record of an upload ends, if it was of no files; see `transfer.upload_record`.
_NONE_SENT = b'{"sent": 0}\n'
#: The most records that are read, and the bytes of each, from its end.
_MOST_RECORDS, _RECORD_END = 1000, 64 << 10
_MOST_FILES = 10_000


def describe_unsent(directory: JobDirectory) -> str:
    """Describe what a job has left in ``DST`` if it uploaded no file; empty if it uploaded some, or left nothing."""
    upload = parse_progress(read_note(directory.progress)).get("upload")
    if upload and upload.files_total:
        return ""
    with directory.run_as.acting():
        found, more = list_files(directory.destination, _MOST_FILES)
        records = dict.fromkeys(fnmatch.filter((each.path for each in found if "/" not in each.path), _RECORDS))
        # An earlier attempt may have uploaded the files.
        if any(_sent_files(directory.destination, record) for record in list(records)[:_MOST_RECORDS]):
            return ""
    paths = [file.path for file in found if file.path != "notification.json"]
    written = [path.split("/") for path in paths if path not in records]
    beside = sum("uploads" not in path[:-1] for path in written)
    described = ["it uploaded a transaction without files"] if upload or records else []
    for number, where in ((len(written) - beside, "in uploads/"), (beside, "beside uploads/")):
        if number:
            lie = f"{counted(number, 'file')} {'lies' if number == 1 else 'lie'} {where}"
            described.append(f"at least {lie}" if more else f"{lie}, none was uploaded")
    return "; ".join(described)


def _sent_files(directory: Path, record: str) -> bool:
    with contextlib.suppress(OSError), open_file(directory, record) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _RECORD_END))
        lines = file.read(_RECORD_END).splitlines(keepends=True)
        return any(line.startswith(b'{"sent": ') and line != _NONE_SENT for line in lines)
    return False
