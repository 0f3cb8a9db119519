"""The bodies of notifications: small bodies are in the database, large ones in files beside it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Collection
from pathlib import Path

from ..errors import StateError, explained
from ..system.files import replacing, sync_directory

#: Size in bytes from which a body is stored in a file.
_LARGE = 64 << 10


class Bodies:
    """The files of large bodies, in a directory that is created if missing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with self._explained():
            directory.mkdir(mode=0o700, exist_ok=True)
            sync_directory(directory.parent)

    def store(self, body: bytes) -> tuple[bytes | None, str | None]:
        """Return a small body and None; sync a large one to the disk in a file, and return None and the file's name."""
        if len(body) < _LARGE:
            return body, None
        name = f"{secrets.token_hex(16)}.json"
        with self._explained():
            with replacing(self._directory / name, sync=True) as file:
                file.write(body)
            sync_directory(self._directory)
        return None, name

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        advice = "check the disk's space and the access rights of the state directory"
        return explained(StateError, f"cannot write a notification to {self._directory}", advice)

    def load(self, body: bytes | None, name: str | None) -> bytes:
        """Load a body, which is in the database or in the file of this name."""
        if name is None:
            return body or b""
        path = self._directory / name
        advice = "restore the state directory from a backup; the job cannot run without it"
        with explained(StateError, f"cannot read the notification {path}", advice):
            return path.read_bytes()

    def remove(self, name: str | None) -> None:
        """Remove a body's file, if it has one."""
        if name is not None:
            with contextlib.suppress(OSError):
                (self._directory / name).unlink()

    def remove_all_but(self, names: Collection[str]) -> None:
        """Remove the files whose notifications were not committed because of a crash."""
        for path in self._directory.iterdir():
            if path.name not in names:
                self.remove(path.name)
