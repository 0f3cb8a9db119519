"""Writers of the database share commits, and an error of one does not affect the others."""

import contextlib
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pacifica_notifications_consumer.errors import StateError
from pacifica_notifications_consumer.ledger.database import Database
from tests.support.machine.waiting import DEADLINE, wait_until

STEPS = ("CREATE TABLE t (n INTEGER PRIMARY KEY, x);",)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with contextlib.closing(Database(tmp_path / "d", STEPS)) as database:
        yield database


def insert(database: Database, number: int) -> int | None:
    return database.write(lambda connection: connection.execute("INSERT INTO t VALUES (?, '')", (number,)).lastrowid)


def numbers(database: Database) -> list[int]:
    with database.reading() as connection:
        return [number for (number,) in connection.execute("SELECT n FROM t ORDER BY n")]


def in_threads(works: list[threading.Thread]) -> None:
    for thread in works:
        thread.start()
    for thread in works:
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_threads(database: Database) -> None:
    """All changes of concurrent threads are stored, and each thread gets its own result."""
    results: dict[int, int | None] = {}

    def work(start: int) -> None:
        for number in range(start, start + 50):
            results[number] = insert(database, number)

    in_threads([threading.Thread(target=work, args=(start,)) for start in range(0, 800, 50)])
    assert results == {number: number for number in range(800)}
    assert numbers(database) == list(range(800))


def test_writers_that_wait_share_the_next_commit(database: Database) -> None:
    """All writers that wait during a commit share the next commit."""
    commits: list[str] = []
    database._writer.set_trace_callback(lambda statement: commits.append(statement) if statement == "COMMIT" else None)
    entered, go = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        entered.set()
        assert go.wait(DEADLINE)

    first = threading.Thread(target=database.write, args=(slow,))
    first.start()
    entered.wait(DEADLINE)
    others = [threading.Thread(target=insert, args=(database, number)) for number in range(10)]
    for thread in others:
        thread.start()
    wait_until(lambda: len(database._waiting) == len(others))
    go.set()
    for thread in (first, *others):
        thread.join(DEADLINE)
    assert numbers(database) == list(range(10))
    assert len(commits) == 2


def test_single_statement_needs_no_transaction(database: Database) -> None:
    """Work that needs no transaction is the only statement when nothing else waits, and is on the disk afterwards."""
    statements: list[str] = []
    database._writer.set_trace_callback(statements.append)
    database.write(lambda connection: connection.execute("INSERT INTO t VALUES (1, '')"), transaction=False)
    assert statements == ["INSERT INTO t VALUES (1, '')"]
    assert numbers(database) == [1]


def test_one_that_fails_spoils_it_for_no_other(database: Database) -> None:
    """A writer whose work raises gets its own error, leaves no partial change, and does not affect other writers."""
    errors: list[BaseException] = []

    def faulty(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t VALUES (1000, '')")
        raise LookupError("mine")

    def fail() -> None:
        try:
            database.write(faulty)
        except LookupError as error:
            errors.append(error)

    works = [threading.Thread(target=insert, args=(database, number)) for number in range(20)]
    works[10:10] = [threading.Thread(target=fail) for _ in range(5)]
    in_threads(works)
    assert len(errors) == 5
    assert numbers(database) == list(range(20))


def test_leader_that_is_interrupted(database: Database) -> None:
    """A thread that is interrupted during a commit leaves no other thread waiting, and reports no false success."""

    def interrupted(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t VALUES (1, '')")
        raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, StateError)):
        database.write(interrupted)
    assert insert(database, 2) == 2
    assert numbers(database) == [2]


def test_commits_reach_the_disk(database: Database) -> None:
    """The database uses WAL and synchronous=FULL, with which a commit survives a power failure."""
    assert database._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert database._writer.execute("PRAGMA synchronous").fetchone() == (2,)


def test_others_cannot_read_it(database: Database, tmp_path: Path) -> None:
    """Only this user has access to the file."""
    assert (tmp_path / "d").stat().st_mode & 0o077 == 0


def test_two_that_migrate_at_the_same_time(tmp_path: Path) -> None:
    """Of two that open an earlier version at the same time, one migrates it, and neither fails."""
    steps = (*STEPS, "CREATE TRIGGER r AFTER DELETE ON t BEGIN SELECT 1; END; ALTER TABLE t ADD COLUMN y;")
    for number in range(5):
        Database(tmp_path / f"{number}", STEPS).close()
        meeting = threading.Barrier(2, timeout=DEADLINE)

        def use(path: Path, meeting: threading.Barrier) -> int:
            meeting.wait()
            with contextlib.closing(Database(path, steps)) as database:
                return database.change("INSERT INTO t (y) VALUES ('')")

        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(use, [tmp_path / f"{number}"] * 2, [meeting] * 2)) == [1, 1]


def test_damaged_and_later_databases(tmp_path: Path) -> None:
    """A file that is not a database, or a database of a later version, is refused with advice."""
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StateError, match=r"cannot be used: file is not a database; it is not an SQLite database: move"):
        Database(path, STEPS)
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StateError, match="made by a later version"):
        Database(path, STEPS)


def test_damage_that_shows_later(tmp_path: Path) -> None:
    """The error of a damaged database says how to recover the readable data."""
    with contextlib.closing(Database(tmp_path / "d", STEPS)) as database:
        for number in range(500):
            insert(database, number)
    content = bytearray((tmp_path / "d").read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    (tmp_path / "d").write_bytes(content)
    expected = pytest.raises(StateError, match=r"malformed; keep a copy of the state directory")
    with contextlib.closing(Database(tmp_path / "d", STEPS)) as database, expected:
        insert(database, 1000)


def test_directory_that_is_missing(tmp_path: Path) -> None:
    """A database in a directory that does not exist is an error, and the directory is not created."""
    with pytest.raises(StateError, match="unable to open"):
        Database(tmp_path / "missing" / "ledger", STEPS)
    assert list(tmp_path.iterdir()) == []


FULL = """
import contextlib, resource, signal, sys
from pathlib import Path
from pacifica_notifications_consumer.errors import StateError
from pacifica_notifications_consumer.ledger.database import Database
from tests.support.machine.waiting import DEADLINE

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
database = Database(Path(sys.argv[1]), ("CREATE TABLE t (n INTEGER PRIMARY KEY, x);",))
insert = lambda n: database.write(lambda c: c.execute("INSERT INTO t VALUES (?, ?)", (n, "x" * 5000)).lastrowid)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, most))
taken = []
for number in range(100):
    try:
        insert(number)
    except StateError as error:
        print(error)
        break
    taken.append(number)
assert 5 < len(taken) < 100, taken
for _ in range(3):
    with contextlib.suppress(StateError):
        insert(1000)
        sys.exit("it took a write that the disk did not")
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
assert insert(1001) == 1001
with database.reading() as connection:
    assert [n for (n,) in connection.execute("SELECT n FROM t")] == [*taken, 1001]
"""


def test_full_disk(tmp_path: Path) -> None:
    """A full disk fails a write, loses no committed data, and is used again when it has free space."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "d")], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "the ledger" in done.stdout
    with contextlib.closing(Database(tmp_path / "d", STEPS)) as database:
        assert numbers(database)[-1] == 1001
