"""The record of an upload survives its process, and crashes in the middle of a line."""

from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer.errors import UploadError
from pacifica_notifications_consumer.transfer.upload_record import UploadRecord

ROWS = [{"destinationTable": "Transactions.project", "value": "1"}]
FILES = [{"destinationTable": "Files", "name": str(number), "hashsum": "é"} for number in range(1200)]


def record(directory: Path, **changes: Any) -> UploadRecord:
    arguments: dict[str, Any] = {"url": "http://ingest/upload", "rows": ROWS, "names": ["a", "b"]} | changes
    return UploadRecord(directory, **arguments)


def facts(directory: Path) -> tuple[bool, int | None, int | None]:
    """Whether a try began, the number of sent files, and the number of the upload, as another process reads them."""
    found = record(directory)
    return found.since is not None, None if found.rows is None else len(found.rows), found.job_id


def test_what_became_known(tmp_path: Path) -> None:
    """The next process reads each recorded fact, and a failure resets the facts of a try."""
    assert facts(tmp_path) == (False, None, None)
    known = record(tmp_path)
    known.sending()
    assert facts(tmp_path) == (True, None, None)
    known.sent(FILES)
    assert facts(tmp_path) == (True, len(FILES), None)
    assert record(tmp_path).rows == FILES
    known.accepted(7)
    assert facts(tmp_path) == (True, len(FILES), 7)
    known.failed("the archive is down")
    assert facts(tmp_path) == (False, None, None)
    known.sending()
    assert facts(tmp_path) == (True, None, None)


def test_half_a_line(tmp_path: Path) -> None:
    """A crash in the middle of a line loses only that line."""
    known = record(tmp_path)
    known.sending()
    known.sent(FILES)
    with known.path.open("ab") as file:
        file.write(b'{"job_')
    assert facts(tmp_path) == (True, len(FILES), None)
    record(tmp_path).accepted(7)
    assert facts(tmp_path) == (True, len(FILES), 7)


def test_rows_without_an_end(tmp_path: Path) -> None:
    """Rows without the final "sent" entry count as not sent."""
    known = record(tmp_path)
    known.sending()
    known.sent(FILES)
    lines = known.path.read_bytes().splitlines(keepends=True)
    known.path.write_bytes(b"".join(lines[:-1]))
    assert facts(tmp_path) == (True, None, None)


@pytest.mark.parametrize(
    "changes",
    [{"url": "http://other/upload"}, {"rows": [{**ROWS[0], "value": "2"}]}, {"names": ["a"]}, {"names": ["a", "c"]}],
)
def test_another_upload_has_another_record(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Another ingest, other attributes or other files have another record; another order of the files has not."""
    record(tmp_path).accepted(7)
    assert record(tmp_path, **changes).job_id is None
    assert record(tmp_path, names=["b", "a"]).job_id == 7


def test_disk_that_takes_nothing(tmp_path: Path) -> None:
    """A record that cannot be written or read is an error."""
    known = record(tmp_path / "missing")
    with pytest.raises(UploadError, match=r"cannot write .*missing"):
        known.sending()
    known.path.parent.mkdir()
    known.path.mkdir()
    with pytest.raises(UploadError, match="cannot read"):
        record(tmp_path / "missing")
