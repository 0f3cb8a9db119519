"""The state directory: the ledger, the jobs' directories, and the lock that keeps a second runner out."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

import attrs

from ..errors import ConfigurationError, InUse, StateError
from ..system.account import Account, acting_as

#: The name of the ledger in a state directory.
LEDGER = "ledger.sqlite3"


def check_used(state_dir: Path) -> None:
    """Insist that a consumer has run in a directory.

    Raises:
        ConfigurationError: None has.
        StateError: That is another user's business.
    """
    try:
        used = (state_dir / LEDGER).is_file()
    except OSError as error:
        raise StateError(
            f"cannot look into {state_dir}: {error.strerror}", "do this as the user who runs the consumer"
        ) from error
    if not used:
        raise ConfigurationError(f"no consumer has run in {state_dir}", "correct `name` or `state_dir`")


@attrs.frozen
class JobDirectory:
    """What belongs to one job; it stays after the job has ended.

    Args:
        path: Where it is.
        run_as: The user as whom its entry-point runs, if that is not this process's: what it may write to is his.
    """

    path: Path
    run_as: Account | None = None

    @property
    def source(self) -> Path:
        """``SRC``: the notification, and what is downloaded."""
        return self.path / "incoming"

    @property
    def destination(self) -> Path:
        """``DST``: what is uploaded."""
        return self.path / "outgoing"

    @property
    def output(self) -> Path:
        """What the entry-point prints."""
        return self.path / "output.log"

    @property
    def progress(self) -> Path:
        """Where its downloads and uploads note how far they are."""
        return self.path / "progress" / "progress.json"

    def make(self) -> None:
        """Make it, for this user alone, if it is not there."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.progress.parent.mkdir(mode=0o700, exist_ok=True)

    def prepare(self, body: bytes, folders: Iterable[str]) -> None:
        """Make ``SRC`` and ``DST`` as an entry-point expects them; what an earlier attempt left there stays.

        Args:
            body: The notification, byte for byte as received.
            folders: The folders of its files, which are safe to make.

        Raises:
            OSError: The disk does not take it.
        """
        uploads = self.destination / "uploads"
        self.make()
        # Each below one that is there: to find out that one is missing takes as long as to make it.
        for folder in (self.source, self.destination):
            folder.mkdir(mode=0o700, exist_ok=True)
        if self.run_as:
            self.run_as.let_through(self.path)
            for folder in (self.source, self.destination, self.progress.parent):
                self.run_as.own(folder)
        with acting_as(self.run_as):
            for folder in (self.source / "downloads", uploads):
                folder.mkdir(mode=0o700, exist_ok=True)
            for folder in (uploads / folder for folder in folders):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # An earlier attempt may have put a pipe there, at which we would wait.
            how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK
            with os.fdopen(os.open(self.source / "notification.json", how, 0o600), "wb") as file:
                file.write(body)
            self.progress.unlink(missing_ok=True)


class StateDirectory:
    """A state directory, locked for this process until it is closed.

    Args:
        path: Where it is; it is created when missing, for the user alone.
        owner: Who uses it, to be named to a second runner that tries.
        run_as: The user as whom entry-points run, if that is not this process's. He can go through it, and reads
            nothing but what is his.

    Raises:
        ConfigurationError: That user cannot reach it, or may change it.
        InUse: Another process uses it.
        StateError: It cannot be made or written to.
    """

    def __init__(self, path: Path, owner: str, run_as: Account | None = None) -> None:
        # Resolved, since entry-points run in another working directory.
        self.path = path.resolve()
        self._run_as = run_as
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The directory itself may be older, and open to others.
            (self.path / "jobs").mkdir(mode=0o700, exist_ok=True)
            if run_as:
                run_as.let_through(self.path)
                run_as.let_through(self.path / "jobs")
                # The files, too: a runner that was this user's may have made them.
                for path in (self.path / "jobs", self.path / "lock", self.ledger):
                    if path.exists():
                        run_as.check_way(path, "choose another directory with `state_dir`")
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StateError(
                f"cannot use the state directory {path}: {error.strerror}", "choose another with `state_dir`"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._lock, 500, 0).decode("utf-8", "replace").strip() or "another process"
            os.close(self._lock)
            raise InUse(
                f"the state directory {path} is in use by {holder}", "stop that one, or choose another with `state_dir`"
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{owner} (process {os.getpid()})\n".encode(), 0)

    @property
    def mark(self) -> str:
        """What the marks of all processes begin with that run jobs of this directory."""
        return f"{self.path}:"

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.path / LEDGER

    def job(self, job_id: int) -> JobDirectory:
        """The directory of a job."""
        return JobDirectory(self.path / "jobs" / str(job_id), self._run_as)

    def attempt(self, task: str) -> JobDirectory:
        """The directory of an attempt that another machine has handed to this one."""
        return JobDirectory(self.path / "jobs" / task, self._run_as)

    def close(self) -> None:
        """Let others in."""
        os.close(self._lock)
