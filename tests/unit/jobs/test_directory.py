"""Only one runner can use a state directory, and a job's directory has the structure that entry-points expect."""

import contextlib
from pathlib import Path

import pytest

from pacifica_notifications_consumer.cloudevents.notification import Notification
from pacifica_notifications_consumer.errors import ConfigurationError, StateError
from pacifica_notifications_consumer.jobs.directory import JobDirectory, StateDirectory, check_used
from tests.support.paths import NOTIFICATIONS


def test_second_runner_is_refused(tmp_path: Path) -> None:
    """The error of a second runner names the first; after close() the directory can be used again."""
    with contextlib.closing(StateDirectory(tmp_path / "state", "first")):
        with pytest.raises(StateError, match=r"is in use by first \(process \d+\); stop that one"):
            StateDirectory(tmp_path / "state", "second")
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    StateDirectory(tmp_path / "state", "second").close()


def test_place_that_cannot_be_a_directory(tmp_path: Path) -> None:
    """A state directory below a file is refused with advice."""
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=r"cannot use the state directory .*: Not a directory; choose another"):
        StateDirectory(tmp_path / "file" / "state", "name")


def test_prepared_job(tmp_path: Path) -> None:
    """SRC has the exact notification, DST the folders of its files; a second attempt keeps existing files."""
    body = (NOTIFICATIONS / "ingest-nested-files.json").read_bytes()
    job = JobDirectory(tmp_path / "1")
    job.prepare(body, Notification.parse(body).folders)
    assert (job.source / "notification.json").read_bytes() == body
    assert (job.source / "downloads").is_dir()
    assert sorted(path.name for path in (job.destination / "uploads").iterdir()) == ["sub0", "sub1"]
    (job.destination / "uploads" / "sub0" / "result").touch()
    job.prepare(body, Notification.parse(body).folders)
    assert (job.destination / "uploads" / "sub0" / "result").exists()


def test_directory_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory in which no consumer has run and one that this user cannot read have different errors."""
    with pytest.raises(ConfigurationError, match="no consumer has run in"):
        check_used(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="/file is not a directory; correct `state_dir`"):
        check_used(tmp_path / "file")

    def refuse(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(StateError, match="Permission denied; do this as the user who runs the consumer"):
        check_used(tmp_path)
