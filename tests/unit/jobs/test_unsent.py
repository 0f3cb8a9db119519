"""What a successful job has written and not uploaded is described, whichever way it did so."""

import json
from pathlib import Path

import attrs
import pytest

from pacifica_notifications_consumer.jobs import files
from pacifica_notifications_consumer.jobs.directory import JobDirectory
from pacifica_notifications_consumer.jobs.unsent import describe_unsent
from pacifica_notifications_consumer.streams.progress import Progress

NO_FILES = "it uploaded a transaction without files"
SENT = b'{"sending": 1.0}\n{"rows": [{}]}\n{"sent": 1}\n'
NONE_SENT = b'{"sending": 1.0}\n{"sent": 0}\n{"job_id": 5}\n'


@pytest.mark.parametrize(
    ("written", "uploaded", "described"),
    [
        ({}, None, ""),
        ({"uploads/a": b"", "b": b""}, 1, ""),
        ({"uploads/a": b"", "upload-5.jsonl": SENT}, None, ""),
        ({"a": b"", "upload-5.jsonl": NONE_SENT, "upload-6.jsonl": SENT}, None, ""),
        ({"notification.json": b"", "upload-5.jsonl": NONE_SENT}, None, NO_FILES),
        ({}, 0, NO_FILES),
        ({"a": b"", "b/c": b"", "b/d": b""}, None, "3 files lie beside uploads/, none was uploaded"),
        ({"uploads/a/b": b""}, None, "1 file lies in uploads/, none was uploaded"),
        (
            {"uploads/a": b"", "b": b""},
            None,
            "1 file lies in uploads/, none was uploaded; 1 file lies beside uploads/, none was uploaded",
        ),
        ({"a": b"", "upload-5.jsonl": NONE_SENT}, 0, f"{NO_FILES}; 1 file lies beside uploads/, none was uploaded"),
        ({"part/uploads/a": b""}, 1, ""),
    ],
)
def test_description(tmp_path: Path, written: dict[str, bytes], uploaded: int | None, described: str) -> None:
    """The files of ``DST`` are counted by their places, unless this attempt or an earlier one uploaded a file."""
    directory = JobDirectory(tmp_path)
    directory.prepare(b"{}", [])
    for name, content in written.items():
        path = directory.destination / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if uploaded is not None:
        directory.progress.write_text(json.dumps({"upload": attrs.asdict(Progress(files_total=uploaded))}))
    assert describe_unsent(directory) == described


def test_very_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more files than the runner looks at, some are counted; others may have been uploaded."""
    monkeypatch.setattr(files, "_MOST_ENTRIES", 5)
    directory = JobDirectory(tmp_path)
    directory.prepare(b"{}", [])
    for number in range(10):
        (directory.destination / str(number)).touch()
    described = describe_unsent(directory)
    assert described.startswith("at least ")
    assert described.endswith(" files lie beside uploads/")


def test_endless_record(tmp_path: Path) -> None:
    """Of a record without an end, or without lines, only a part is read."""
    directory = JobDirectory(tmp_path)
    directory.prepare(b"{}", [])
    for number in range(100):
        with (directory.destination / f"upload-{number}.jsonl").open("wb") as file:
            file.truncate(1 << 40)
    assert describe_unsent(directory) == NO_FILES


def test_what_has_the_name_of_a_record(tmp_path: Path) -> None:
    """Folders and links are not records of uploads."""
    directory = JobDirectory(tmp_path)
    directory.prepare(b"{}", [])
    (directory.destination / "upload-5.jsonl").mkdir()
    (directory.destination / "upload-6.jsonl").symlink_to(directory.source / "notification.json")
    assert describe_unsent(directory) == ""


def test_removed(tmp_path: Path) -> None:
    """Directories that the entry-point has removed hold nothing."""
    assert describe_unsent(JobDirectory(tmp_path / "gone")) == ""
