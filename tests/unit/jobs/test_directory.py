"""Only one runner can use a state directory, and a job's directory has the structure that entry-points expect."""

import contextlib
import os
import stat
from pathlib import Path

import pytest

from pacifica_notifications_consumer.cloudevents.notification import Notification
from pacifica_notifications_consumer.errors import ConfigurationError, StateError
from pacifica_notifications_consumer.jobs.directory import JobDirectory, StateDirectory, check_used
from pacifica_notifications_consumer.system.temporary import remove_tree
from tests.support.machine.other_user import IS_ROOT
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


def modes(top: Path) -> dict[str, int]:
    """The access rights of all files and directories below a directory."""
    return {str(path.relative_to(top)): stat.S_IMODE(path.lstat().st_mode) for path in top.rglob("*")}


def test_other_users_see_nothing(tmp_path: Path) -> None:
    """All that is made in a state directory is private, even if the directory itself was not."""
    before = os.umask(0)
    try:
        with contextlib.closing(StateDirectory(tmp_path / "a" / "b" / "state", "name")):
            parents = {"a": 0o711, "a/b": 0o711}
            assert modes(tmp_path) == {
                **parents,
                **dict.fromkeys(("a/b/state", "a/b/state/jobs"), 0o700),
                "a/b/state/lock": 0o600,
            }
        tmp_path = tmp_path / "old"
        tmp_path.mkdir(0o755)
        with contextlib.closing(StateDirectory(tmp_path, "name")) as state:
            state.job(1).prepare(b"{}", ["a/b"])
    finally:
        os.umask(before)
    files = {"lock", "jobs/1/incoming/notification.json"}
    made = modes(tmp_path)
    assert files | {"jobs", "jobs/1/progress", "jobs/1/outgoing/uploads/a"} < made.keys()
    assert {path for path, mode in made.items() if mode != (0o600 if path in files else 0o700)} == set()


@pytest.mark.whole
def test_deep_folders(tmp_path: Path) -> None:
    """A file of a notification may be in a thousand folders, if the file system has such paths."""
    folders = "/".join(["d"] * 1200)
    with contextlib.closing(StateDirectory(tmp_path, "name")) as state:
        state.job(1).prepare(b"{}", [folders])
        uploads = state.job(1).destination / "uploads"
        assert (uploads / folders).is_dir()
        with pytest.raises(OSError, match="File name too long"):
            state.job(2).prepare(b"{}", [f"{folders}/{folders}"])
    remove_tree(tmp_path / "jobs")


def test_lock_that_is_a_link(tmp_path: Path) -> None:
    """A link that another user has put in the place of the lock is not followed."""
    (tmp_path / "other").write_text("precious")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "lock").symlink_to(tmp_path / "other")
    with pytest.raises(StateError, match="cannot use the state directory"):
        StateDirectory(tmp_path / "state", "name")
    assert (tmp_path / "other").read_text() == "precious"


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a directory to another user")
def test_state_directory_of_another_user(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A warning says whose the directory is."""
    os.chown(tmp_path, 12345, -1)
    StateDirectory(tmp_path, "name").close()
    assert f"the state directory {tmp_path} belongs to user 12345" in caplog.text


def test_lock_names_its_last_holder(tmp_path: Path) -> None:
    """The name of an earlier holder is not mixed with that of the present one."""
    StateDirectory(tmp_path, "a name much longer than the next").close()
    with contextlib.closing(StateDirectory(tmp_path, "short")):
        assert (tmp_path / "lock").read_text() == f"short (process {os.getpid()})\n"


def test_spoilt_notification_is_restored(tmp_path: Path) -> None:
    """Each attempt finds the notification byte for byte as received, and no progress of the attempt before."""
    job = JobDirectory(tmp_path / "1")
    job.prepare(b'{"id": 1}', [])
    (job.source / "notification.json").write_text("much longer than the notification")
    job.progress.write_text("{}")
    job.prepare(b'{"id": 1}', [])
    assert (job.source / "notification.json").read_bytes() == b'{"id": 1}'
    assert not job.progress.exists()


def test_pipe_in_place_of_the_notification(tmp_path: Path) -> None:
    """A pipe that an earlier attempt put in the notification's place is replaced, and does not block the runner."""
    job = JobDirectory(tmp_path / "1")
    job.prepare(b"{}", [])
    (job.source / "notification.json").unlink()
    os.mkfifo(job.source / "notification.json")
    job.prepare(b"second", [])
    assert (job.source / "notification.json").read_bytes() == b"second"


def test_notification_with_another_name(tmp_path: Path) -> None:
    """A further name that an earlier attempt gave the notification, to upload it, keeps its content."""
    job = JobDirectory(tmp_path / "1")
    job.prepare(b"first", [])
    os.link(job.source / "notification.json", job.destination / "uploads" / "original.json")
    job.prepare(b"second", [])
    assert (job.source / "notification.json").read_bytes() == b"second"
    assert (job.destination / "uploads" / "original.json").read_bytes() == b"first"


def test_folder_in_place_of_the_notification(tmp_path: Path) -> None:
    """A folder there is an error that names it."""
    job = JobDirectory(tmp_path / "1")
    (job.source / "notification.json" / "inner").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"notification\.json is not a regular file"):
        job.prepare(b"{}", [])
