"""A SQLite database whose writers share their commits."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from ..errors import StateError
from ..system.files import open_private

T = TypeVar("T")

#: Seconds to wait for another process that has locked the database. A timeout would refuse a notification.
_PATIENCE = 60.0
#: How many writes share one commit at most.
_LARGEST_BATCH = 128


class Database:
    """A database in a file, for one process; its methods may be called from any thread.

    Changes are on the disk when `write` returns, because ``synchronous=FULL`` makes each commit wait for the disk. All
    threads that write during a commit share the next one. Of the migrations, element N changes the tables from version
    N to version N + 1. Every method raises StateError if the database cannot be read or written.
    """

    def __init__(self, path: Path, steps: Sequence[str]) -> None:
        self._path = path
        self._mutex = threading.Lock()
        self._waiting: list[_Write[Any]] = []
        self._led = False
        self._reading_lock, self._looking_lock = threading.Lock(), threading.Lock()
        # Create the file with access for this user only. If that fails, SQLite reports a better error below.
        with contextlib.suppress(OSError):
            open_private(path).close()
        with contextlib.ExitStack() as stack:
            self._writer = stack.enter_context(contextlib.closing(self._connect()))
            with self._explained():
                self._migrate(steps)
            self._reader = stack.enter_context(contextlib.closing(self._connect()))
            self._looker = stack.enter_context(contextlib.closing(self._connect()))
            self._opened = stack.pop_all()

    def _connect(self) -> sqlite3.Connection:
        with self._explained():
            connection = sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
            try:
                for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                    connection.execute(f"PRAGMA {pragma}")
            except BaseException:
                connection.close()
                raise
        return connection

    def _migrate(self, steps: Sequence[str]) -> None:
        (mode,) = self._writer.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":
            problem = f"the ledger {self._path} cannot have a write-ahead log: SQLite's journal mode is {mode}"
            raise StateError(problem, "put the state directory on a local disk")
        if self._version() > len(steps):
            raise StateError(
                f"the ledger {self._path} was made by a later version of this program",
                "run that version, or choose another `state_dir`",
            )
        if self._version() < len(steps):
            # Another process may do the same meanwhile.
            with self._transaction():
                for number in range(self._version(), len(steps)):
                    for statement in _statements(f"{steps[number]} PRAGMA user_version = {number + 1};"):
                        self._writer.execute(statement)

    def _version(self) -> int:
        return int(self._writer.execute("PRAGMA user_version").fetchone()[0])

    def close(self) -> None:
        """Close the database; no other thread may be using it."""
        self._opened.close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Provide the connection for short queries of the program; readers never block writers."""
        with self._reading_lock, self._explained():
            yield self._reader

    def read(self, statement: str, *values: object) -> list[Any]:
        """Read all rows of a statement as in `reading`."""
        with self.reading() as connection:
            return connection.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def looking(self) -> Iterator[sqlite3.Connection]:
        """Provide the connection for queries of users, which may take long and must not delay the program's own."""
        with self._looking_lock, self._explained():
            yield self._looker

    def change(self, statement: str, *values: object) -> int:
        """Execute one statement as in `write`; returns the number of rows that it changed."""
        return self.write(lambda connection: connection.execute(statement, values).rowcount)

    def write(self, work: Callable[[sqlite3.Connection], T], *, transaction: bool = True) -> T:
        """Do some work in a transaction, and return its result when that is on the disk.

        All work that waits at the same time shares the transaction, and may be called more than once, each time as if
        for the first. A single statement that does not share needs no transaction, and takes half as long without:
        Python lets other threads run at each statement, so also at BEGIN and COMMIT.
        """
        write = _Write(work, transaction)
        with self._mutex:
            self._waiting.append(write)
            leads = not self._led
            self._led = True
        if not leads:
            # Ends when another thread has done this work, or when it is this thread's turn to do all that waits.
            write.turn.acquire()
        if not write.done:
            self._lead()
        return write.outcome()

    def _lead(self) -> None:
        with self._mutex:
            batch = self._waiting[:_LARGEST_BATCH]
            del self._waiting[:_LARGEST_BATCH]
        try:
            self._commit(batch)
        finally:
            with self._mutex:
                successor = self._waiting[0] if self._waiting else None
                self._led = successor is not None
            if successor:
                # Before the others are woken, so that the disk gets to work again at once.
                successor.turn.release()
            for write in batch:
                write.finish()

    def _commit(self, batch: list[_Write[Any]]) -> None:
        culprit: _Write[Any] | None = None
        with self._failing(batch):
            try:
                with self._transaction() if len(batch) > 1 or batch[0].transaction else self._explained():
                    for culprit in batch:
                        culprit.result = culprit.work(self._writer)
                    culprit = None
            except Exception:
                if culprit is None or len(batch) == 1:
                    raise
                # One has spoilt it for all: each by itself then.
                for write in batch:
                    self._commit([write])

    @contextlib.contextmanager
    def _failing(self, batch: list[_Write[Any]]) -> Iterator[None]:
        """Give an error to all whose work it ended."""
        try:
            yield
        except Exception as error:
            for write in batch:
                write.error = error
        except BaseException:
            for write in batch:
                write.error = StateError(f"the ledger {self._path} was interrupted while it wrote", "try again")
            raise

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            raise StateError(f"the ledger {self._path} cannot be used: {error}", _ADVICE.get(code, _CHECK)) from error


def _statements(script: str) -> Iterator[str]:
    """Split a script; `executescript` would end the transaction that it runs in."""
    statement = ""
    for piece in script.split(";")[:-1]:
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


_CHECK = "check the disk's space and the access rights of the state directory"
_ADVICE = {
    sqlite3.SQLITE_FULL: "make room on the disk of the state directory; accepted notifications are safe",
    sqlite3.SQLITE_READONLY: "let this user write to the state directory and its files",
    sqlite3.SQLITE_CORRUPT: "keep a copy of the state directory, then restore it from a backup or choose another "
    "`state_dir`; the sqlite3 program's .recover may save what is readable",
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database: move the file away, or choose another `state_dir`",
}


class _Write(Generic[T]):
    """One thread's part of a commit."""

    __slots__ = ("done", "error", "result", "transaction", "turn", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], T], transaction: bool) -> None:
        self.work = work
        self.transaction = transaction
        self.turn = threading.Lock()
        self.turn.acquire()
        self.done = False
        self.result: T | None = None
        self.error: BaseException | None = None

    def finish(self) -> None:
        self.done = True
        # The leader is not asleep, but has the lock all the same.
        self.turn.release()

    def outcome(self) -> T:
        if self.error is not None:
            raise self.error
        return cast("T", self.result)
