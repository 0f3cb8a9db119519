"""Notifications of the real producer are read, and hostile ones are refused."""

import json
from typing import Any

import pytest

from pacifica_notifications_consumer.cloudevents.notification import PROVENANCE_KEY, Notification
from pacifica_notifications_consumer.errors import NotificationError
from tests.support.paths import NOTIFICATIONS

FILE = {"destinationTable": "Files", "_id": 1, "name": "a", "subdir": "", "size": 1, "hashtype": "sha1", "hashsum": "0"}


def notification(**event: Any) -> Notification:
    return Notification.parse(json.dumps(event).encode())


def test_real_notification() -> None:
    """A real notification's identity, files and folders are found, and its bytes are kept."""
    body = (NOTIFICATIONS / "ingest-nested-files.json").read_bytes()
    read = Notification.parse(body)
    assert read.body == body
    assert (read.source, read.event_id) == ("http://metadata.pacifica.org/transactions?_id=1", "metadata.ingest.1")
    assert [file.path for file in read.files] == [
        "blob.bin", "file0000.txt", "sub0/file0002.txt", "sub1/file0001.txt", "sub1/file0003.txt",
    ]  # fmt: skip
    assert read.files[0].size == 100_000
    assert read.folders == {"", "sub0", "sub1"}


@pytest.mark.parametrize("name", ["ingest-no-files", "orm-files"])
def test_notification_without_files(name: str) -> None:
    """A transaction without files, and an event whose data is an object, have no files and are not an error."""
    read = Notification.parse((NOTIFICATIONS / f"{name}.json").read_bytes())
    assert (read.files, read.folders) == ((), frozenset())


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "a number of too many digits"),
        (b"[]", "a JSON array"),
        (b'"text"', "a JSON string"),
        (b"7", "a JSON number"),
        (b"true", "a JSON boolean"),
        (b"null", "a JSON null"),
    ],
)
def test_unusable_body(body: bytes, problem: str) -> None:
    """A body that is not a JSON object is refused with the reason."""
    with pytest.raises(NotificationError, match=problem):
        Notification.parse(body)


@pytest.mark.parametrize("subdir", ["..", "a/../..", "a/..", "/etc", "/", "a\0b"])
def test_hostile_folder(subdir: str) -> None:
    """A subdir that would lead out of the job's directory is refused."""
    hostile = notification(data=[FILE | {"subdir": subdir}])
    with pytest.raises(NotificationError, match="not a plain path"):
        _ = hostile.folders
    with pytest.raises(NotificationError, match="not a plain path"):
        _ = hostile.files


@pytest.mark.parametrize(
    ("subdir", "folder"), [("a/b/", "a/b"), ("a/", "a"), ("a//b", "a/b"), ("./a/./b", "a/b"), (".", ""), ("./", "")]
)
def test_spellings_of_a_folder(subdir: str, folder: str) -> None:
    """Superfluous slashes and dots in a subdir change nothing: its files are where the entry-point looks for them."""
    read = notification(data=[FILE | {"subdir": subdir}])
    assert read.folders == {folder}
    assert [file.path for file in read.files] == [f"{folder}/a".lstrip("/")]
    with pytest.raises(NotificationError, match="a' twice"):
        _ = notification(data=[FILE | {"subdir": subdir}, FILE | {"subdir": folder}]).files


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc/passwd", "a\0"])
def test_hostile_name(name: str) -> None:
    """A file name with folders or other special parts is refused."""
    with pytest.raises(NotificationError, match="not a plain name"):
        _ = notification(data=[FILE | {"name": name}]).files


@pytest.mark.parametrize("column", ["_id", "name", "subdir", "size", "hashtype", "hashsum"])
def test_incomplete_file(column: str) -> None:
    """A file without a column that is needed to download and verify it is refused; the error names the column."""
    with pytest.raises(NotificationError, match=f"no usable '{column}'"):
        _ = notification(data=[{name: value for name, value in FILE.items() if name != column}]).files


def test_two_files_of_one_path() -> None:
    """Two files with the same path are refused: Pacifica accepts them, but only one could be downloaded."""
    with pytest.raises(NotificationError, match="'a' twice"):
        _ = notification(data=[FILE, FILE | {"_id": 2}]).files


def test_consumers() -> None:
    """The consumers that uploaded a transaction are read from its key-values."""
    row = {"destinationTable": "TransactionKeyValue", "key": PROVENANCE_KEY, "value": "mine"}
    assert notification(data=[row, row | {"value": "other"}, row | {"key": "Tag"}]).consumers == {"mine", "other"}


def test_malformed_identity() -> None:
    """A source or id that is not a string counts as missing, and a long id is shortened in the title."""
    read = notification(source=7, eventID=["x"])
    assert (read.source, read.event_id, read.title) == (None, None, "(without an id)")
    assert len(notification(eventID="x" * 10_000).title) == 200
    assert notification(eventID="a\x1b[2J\n\u202eb").title == r"a\x1b[2J\n\u202eb"
