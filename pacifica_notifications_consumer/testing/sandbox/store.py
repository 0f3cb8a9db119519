"""The sandbox's directory, with its files, transactions, subscriptions and ids."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, Literal

from ...errors import InUse, StateError, explained
from ...http.errors import HTTPError
from ...system.files import NEW, make_private, replacing, try_lock


class Store:
    """The sandbox's persistent data; its files are named by ids, so that no name from a client becomes a path."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files = directory / "files"
        self._jobs = directory / "jobs"
        self._subscriptions = directory / "subscriptions"
        self._transactions = directory / "transactions"
        self.uploads = directory / "uploads"
        self.carts = directory / "carts"
        self._id_file = directory / "ids.json"
        self._lock = threading.Lock()
        self._completion = threading.Condition()
        self._completed: list[int] = []
        self._events: dict[int, Path] = {}
        with _usable(directory):
            make_private(directory)
            self._guard = (directory / "lock").open("ab")
        try:
            with _usable(directory):
                self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        if not try_lock(self._guard):
            raise InUse(f"another sandbox uses {self.directory}", "stop it, or choose another directory")
        for folder in (self._files, self._jobs, self._subscriptions, self._transactions, self.uploads, self.carts):
            folder.mkdir(mode=0o700, exist_ok=True)
        for leftover in (*self.uploads.glob(f"*{NEW}"), *self._files.glob(f"*{NEW}"), *self.carts.iterdir()):
            leftover.unlink()
        self._ids = {"upload": 0, "file": 0}
        with contextlib.suppress(FileNotFoundError):
            self._ids.update(json.loads(self._id_file.read_bytes()))
        for path in sorted(self._transactions.glob("*.json")):
            number = int(path.stem.partition("-")[2])
            self._completed.append(number)
            self._events[number] = path
        self._sequence = len(self._completed)

    def close(self) -> None:
        """Release the directory for another sandbox."""
        self._guard.close()

    def reserve(self, kind: Literal["upload", "file"], count: int = 1) -> int:
        """Reserve consecutive ids, which are not assigned again, and return the first."""
        with self._lock:
            first = self._ids[kind] + 1
            self._ids[kind] += count
            _write(self._id_file, self._ids)
        return first

    def file(self, file_id: int | str) -> Path | None:
        """The path of a file's content in the archive; None for an unknown id."""
        name = str(file_id)
        if not (name.isascii() and name.isdigit()):
            return None
        path = self._files / name
        return path if path.is_file() else None

    def incoming_file(self, file_id: int) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Write a file of the archive; it is added when the context ends without an error."""
        return replacing(self._files / str(file_id))

    def receive_upload(self, upload: int, pieces: Iterable[bytes]) -> None:
        """Store a bundle as it arrives; if it does not arrive whole, it is deleted."""
        with replacing(self.upload(upload)) as out:
            out.writelines(pieces)

    def upload(self, upload: int) -> Path:
        """The path of an upload's bundle."""
        return self.uploads / f"{upload}.tar"

    def pending_uploads(self) -> list[int]:
        """The numbers of the uploads that have arrived and are not processed, the oldest first."""
        return sorted(int(path.stem) for path in self.uploads.glob("*.tar"))

    def save_state(self, upload: int, state: dict[str, Any]) -> None:
        """Store the state of an upload."""
        _write(self._jobs / f"{upload}.json", state)

    def state(self, upload: int) -> dict[str, Any] | None:
        """The state of an upload; None for an unknown id."""
        try:
            state: dict[str, Any] = json.loads((self._jobs / f"{upload}.json").read_bytes())
        except FileNotFoundError:
            return None
        return state

    def insert(self, number: int, event: dict[str, Any]) -> None:
        """Store a transaction as its event; `publish` wakes the callers that wait for it."""
        with self._lock:
            if number in self._events:
                raise HTTPError(
                    HTTPStatus.BAD_REQUEST,
                    f"Could not insert records [ID: {number}] due to duplicated ID values. "
                    "Remove or change the duplicated id values",
                )
            self._sequence += 1
            path = self._transactions / f"{self._sequence:010}-{number}.json"
            _write(path, event)
            self._events[number] = path

    def publish(self, number: int) -> None:
        """Wake the callers that wait for a complete transaction."""
        with self._completion:
            self._completed.append(number)
            self._completion.notify_all()

    def transactions(self) -> list[int]:
        """The numbers of the transactions, the oldest first, with those that are not published yet."""
        with self._lock:
            return list(self._events)

    def wait_for_completed(self, after: int, timeout: float) -> int | None:
        """Wait for a complete transaction with a number above ``after``; None after ``timeout`` seconds."""

        def first() -> int | None:
            return next((number for number in self._completed if number > after), None)

        with self._completion:
            self._completion.wait_for(lambda: first() is not None, timeout)
            return first()

    def event(self, number: int) -> bytes | None:
        """The event of a transaction as JSON; None if the transaction does not exist."""
        path = self._events.get(number)
        return path.read_bytes() if path else None

    def times(self) -> dict[int, str]:
        """The time of each transaction: ISO 8601 in UTC, without zone, to the second."""
        return {number: _time(path.stat().st_mtime) for number, path in list(self._events.items())}

    def time(self, number: int) -> str:
        """The time of a transaction, as in `times`."""
        return _time(self._events[number].stat().st_mtime)

    def save_subscription(self, subscription: dict[str, Any]) -> None:
        """Store a subscription."""
        _write(self._subscriptions / f"{subscription['uuid']}.json", subscription)

    def subscriptions(self) -> list[dict[str, Any]]:
        """All subscriptions, including deleted ones, the oldest first."""
        kept = [json.loads(path.read_bytes()) for path in self._subscriptions.glob("*.json")]
        return sorted(kept, key=lambda subscription: str(subscription["created"]))


def timestamp() -> str:
    """The current time in UTC, in ingest's format."""
    return str(datetime.now(UTC).replace(tzinfo=None))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).replace(tzinfo=None).isoformat()


def _write(path: Path, document: Any) -> None:
    # A reader, or a sandbox started after a crash, sees the old document or the new one, never half of one.
    with replacing(path, mode=0o600) as out:
        out.write(json.dumps(document).encode("ascii"))


def _usable(directory: Path) -> contextlib.AbstractContextManager[None]:
    advice = "choose a directory that can be written, or a new one"
    return explained(StateError, f"cannot keep a sandbox in {directory}", advice, cause=(OSError, ValueError))
