"""Temporary directories that are removed after use, or after a crash when the next one is created."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import StateError, explained
from .account import CURRENT_USER, Account
from .files import try_lock
from .orphans import end_marked, mark_of
from .processes import KILL_AFTER

log = logging.getLogger(__name__)

#: Seconds after its creation in which a directory may not have been locked yet.
_MADE_JUST_NOW = 60.0


def make_temporary_directory(prefix: str) -> Path:
    """Make a new directory that only this user can access, and that is not removed; raises `StateError`."""
    with explained(
        StateError, "cannot make a temporary directory", "let TMPDIR name a directory that can be written to"
    ):
        # Resolve the path, because programs show it, and some systems have a link there.
        return Path(tempfile.mkdtemp(prefix=prefix)).resolve()


@contextlib.contextmanager
def temporary_directory(prefix: str, run_as: Account = CURRENT_USER) -> Iterator[Path]:
    """Make a new directory that is removed, with all that it contains, when the context ends.

    If the process is killed before, any process removes it when it makes the next directory with this prefix, and ends
    programs of the user ``run_as`` whose mark begins with its path.
    """
    directory = make_temporary_directory(prefix)
    # The system releases the lock when the process ends in any way.
    lock = os.open(directory, os.O_RDONLY)
    try:
        try_lock(lock)
        _remove_abandoned(directory.parent, prefix, run_as)
        yield directory
    finally:
        remove_tree(directory)
        os.close(lock)


def _remove_abandoned(parent: Path, prefix: str, run_as: Account) -> None:
    """Remove directories of this user that are not locked by a process."""
    for path in parent.glob(f"{glob.escape(prefix)}*"):
        with contextlib.suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                found = os.fstat(lock)
                # The process of a new directory may not have locked it yet.
                is_older = time.time() - found.st_mtime > _MADE_JUST_NOW
                if found.st_uid == os.geteuid() and is_older and try_lock(lock):
                    log.info("removing %s, which a process that died has left", path)
                    end_marked(mark_of(path), 0.0, run_as, most=KILL_AFTER)
                    remove_tree(path)
            finally:
                os.close(lock)


def remove_tree(directory: Path) -> None:
    """Remove a directory with all that it contains, including read-only folders, and folders nested without a limit."""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(directory, ignore_errors=True)
    # Root does not need rights, and must not change the rights of files that another user creates meanwhile.
    changes = [["chmod", "-R", "u+rwx", "--"]] if os.geteuid() != 0 else []
    for command in (*changes, ["rm", "-rf", "--"]):
        if directory.exists():
            subprocess.run([*command, directory], stderr=subprocess.DEVNULL, check=False)
    if directory.exists():
        log.warning("could not remove %s", directory)
