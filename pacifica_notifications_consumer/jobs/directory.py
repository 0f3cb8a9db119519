"""The state directory: the ledger, the directories of the jobs, and the lock that keeps a second runner out."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path

import attrs

from ..errors import ConfigurationError, InUse, StateError, explained
from ..streams.progress import FAILURE
from ..system.account import CURRENT_USER, Account
from ..system.files import make_folders, make_private, sync_directory, try_lock
from ..system.orphans import mark_of
from .files import open_file

log = logging.getLogger(__name__)

#: The name of the ledger in a state directory.
LEDGER = "ledger.sqlite3"


def check_used(state_dir: Path) -> None:
    """Check that a consumer has run in a directory, and that this user has access to it."""
    with explained(StateError, f"cannot look into {state_dir}", "do this as the user who runs the consumer"):
        used = (state_dir / LEDGER).is_file()
        a_file = state_dir.is_file()
    if a_file:
        raise StateError(f"{state_dir} is not a directory", "correct `state_dir`")
    if not used:
        raise ConfigurationError(f"no consumer has run in {state_dir}", "correct `name` or `state_dir`")


@attrs.frozen
class JobDirectory:
    """The directory of one job, which stays after the job has ended.

    Args:
        path: The directory.
        run_as: The user that runs the entry-point and owns what it may write to; by default the user of this process.
    """

    path: Path
    run_as: Account = CURRENT_USER

    @property
    def source(self) -> Path:
        """``SRC``: the notification and the downloaded files."""
        return self.path / "incoming"

    @property
    def destination(self) -> Path:
        """``DST``: the files to upload."""
        return self.path / "outgoing"

    @property
    def output(self) -> Path:
        """The file with the output of the entry-point."""
        return self.path / "output.log"

    @property
    def progress(self) -> Path:
        """The file in which downloads and uploads record their progress."""
        return self.path / "progress" / "progress.json"

    def make(self) -> None:
        """Create the directory if it is missing, with access for this user only."""
        make_private(self.path)
        _make_folder(self.progress.parent)

    def prepare(self, body: bytes, folders: Iterable[str]) -> None:
        """Create ``SRC`` and ``DST`` as an entry-point expects them; files of an earlier attempt stay.

        The folders are those of the notification's files, relative paths that stay below the directory.
        """
        uploads = self.destination / "uploads"
        self.make()
        # Parents come first, so `parents=True` is not needed: its failed first try costs as much as creating a folder.
        for folder in (self.source, self.destination):
            _make_folder(folder)
        self.run_as.admit(self.path, self.source, self.destination, self.progress.parent)
        # The record of an upload is in `DST`: if it vanished in a power cut, the next attempt would upload again.
        sync_directory(self.path)
        sync_directory(self.path.parent)
        with self.run_as.acting():
            for folder in (self.source / "downloads", uploads):
                folder.mkdir(mode=0o700, exist_ok=True)
            for folder in (uploads / folder for folder in folders):
                make_folders(folder, 0o700)
            with open_file(self.source, "notification.json", "wb") as file:
                file.write(body)
            for noted in (self.progress, self.progress.with_name(FAILURE)):
                noted.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink():  # made by an earlier attempt
        raise NotADirectoryError(f"{folder} is a link, not a directory")


class StateDirectory:
    """A state directory, locked for this process until it is closed.

    The user `run_as`, which runs entry-points, may traverse the directory, but read only its own files. The error of a
    second runner calls this process by the name `owner`.
    """

    def __init__(self, path: Path, owner: str, run_as: Account = CURRENT_USER) -> None:
        # Resolve the path, because entry-points run in another working directory.
        self.path = path.resolve()
        self._run_as = run_as
        with explained(StateError, f"cannot use the state directory {path}", "choose another with `state_dir`"):
            make_private(self.path)
            # The state directory may have existed before, with access for other users.
            (self.path / "jobs").mkdir(mode=0o700, exist_ok=True)
            sync_directory(self.path)
            for parent in () if self.ledger.exists() else self.path.parents:
                # Those that this user may not read are older than the state directory.
                with contextlib.suppress(OSError):
                    sync_directory(parent)
            run_as.admit(self.path)
            run_as.admit(self.path / "jobs")
            # Check the files, too: an earlier runner that ran as `run_as` may have created and still own them.
            for file in (self.path / "jobs", self.path / "lock", self.ledger):
                if file.exists():
                    run_as.check_way(file, "choose another directory with `state_dir`")
            if (owner_id := self.path.stat().st_uid) not in (0, os.geteuid(), run_as.uid):
                log.warning("the state directory %s belongs to user %d, who can change what jobs do", path, owner_id)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            locked = try_lock(self._lock)
        if not locked:
            holder = os.pread(self._lock, 500, 0).decode("utf-8", "replace").strip() or "another process"
            os.close(self._lock)
            raise InUse(
                f"the state directory {path} is in use by {holder}", "stop that one, or choose another with `state_dir`"
            )
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{owner} (process {os.getpid()})\n".encode(), 0)

    @property
    def mark(self) -> str:
        """The prefix of the marks of all processes that run jobs of this directory."""
        return mark_of(self.path)

    @property
    def ledger(self) -> Path:
        """The path of the ledger."""
        return self.path / LEDGER

    def job(self, name: int | str) -> JobDirectory:
        """The directory of a job, or of an attempt (by its name) that another machine has handed to this one."""
        return JobDirectory(self.path / "jobs" / str(name), self._run_as)

    def close(self) -> None:
        """Release the lock."""
        os.close(self._lock)
