"""A directory that `upload()` cannot use is refused with the advice for its case."""

from pathlib import Path

import pytest

from pacifica_notifications_consumer.errors import UploadError
from pacifica_notifications_consumer.transfer.uploads import find_files


@pytest.mark.parametrize(
    ("passed", "sentence"),
    [
        ("nowhere", "{here}/nowhere does not exist; pass DST, the second argument of the entry-point"),
        ("file", "{here}/file is not a directory; pass DST, the second argument of the entry-point"),
        ("DST/uploads", "{here}/DST/uploads/uploads does not exist; pass {here}/DST instead of {here}/DST/uploads"),
        ("SRC", "{here}/SRC/uploads does not exist; make it, or pass DST, the second argument of the entry-point"),
        ("empty", "{here}/empty/uploads does not exist; make it, or pass DST, the second argument of the entry-point"),
        ("odd", "{here}/odd/uploads is not a directory; make it, or pass DST, the second argument of the entry-point"),
    ],
)
def test_directory_that_is_not_dst(tmp_path: Path, passed: str, sentence: str) -> None:
    """The sentence names what is missing, and what to pass or to make."""
    for folder in ("DST/uploads", "SRC/downloads", "empty", "odd"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("file", "odd/uploads"):
        (tmp_path / file).touch()
    with pytest.raises(UploadError) as caught:
        find_files(tmp_path / passed / "uploads")
    assert str(caught.value) == sentence.format(here=tmp_path)
