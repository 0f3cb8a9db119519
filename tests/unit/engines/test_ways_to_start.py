"""Entry-points behave, print and leave the same files, byte for byte, whether they start warm or cold."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pacifica_notifications_consumer.engines.engine import Attempt
from pacifica_notifications_consumer.engines.local import LocalEngine
from pacifica_notifications_consumer.environment.venv import Venv
from pacifica_notifications_consumer.jobs.directory import JobDirectory
from pacifica_notifications_consumer.settings.services import Services
from tests.support.entry_points import BEHAVIOURS, ENDINGS
from tests.support.machine.waiting import DEADLINE, wait_until
from tests.support.runner_tools import alive

_BODY = b'{"eventID": "e"}'


class Result(NamedTuple):
    """The observable result of an entry-point."""

    status: int | None
    output: bytes
    files: dict[str, bytes]


Runner = Callable[[bytes | None], dict[str, Result]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose path has spaces and non-ASCII characters."""
    home = tmp_path_factory.mktemp("Ördner mit Leerzeichen") / "c o"
    home.mkdir()
    (home / "__main__.py").touch()
    (home / "beside.py").write_text("class Noisy:\n    def __del__(self): print('gone', __name__)\nnoisy = Noisy()\n")
    return home


@pytest.fixture(scope="module")
def run(home: Path) -> Iterator[Runner]:
    """Run an entry-point cold and warm."""
    state = home.parent / "state"
    directory = JobDirectory(state / "1")
    engines = {
        way: LocalEngine(
            entry_point=home / "__main__.py",
            venv=Venv(Path(sys.prefix)),
            services=Services(username="alice", password="hunter2"),
            warm=way == "warm",
        )
        for way in ("cold", "warm")
    }

    def run_both(source: bytes | None) -> dict[str, Result]:
        if source is None:
            (home / "__main__.py").unlink()
        else:
            (home / "__main__.py").write_bytes(source)
        results = {}
        start = engines["warm"]._warm_start
        assert start is not None
        for way, engine in engines.items():
            shutil.rmtree(state, ignore_errors=True)
            directory.prepare(_BODY, [])
            assert start.wait(DEADLINE)
            ending = engine.run(Attempt(job_id=1, directory=directory, mark=f"{state}:1:x"), lambda: None)
            assert ending is not None
            assert start.ready
            files = {
                path.relative_to(state).as_posix(): path.read_bytes()
                for path in sorted(state.rglob("*"))
                if path.is_file() and path != directory.output
            }
            # Addresses of objects differ in each process.
            output = re.sub(rb" at 0x[0-9a-f]+", b"", directory.output.read_bytes())
            results[way] = Result(ending.status, output, files)
        return results

    for engine in engines.values():
        engine.open(f"{state}:")
    yield run_both
    for engine in engines.values():
        engine.close()


@pytest.mark.sampled
@pytest.mark.parametrize(("source", "status", "words"), ENDINGS, ids=[ending[0][:40] for ending in ENDINGS])
def test_endings(run: Runner, source: str, status: int, words: str) -> None:
    """Each way to end gives the same exit status and the same output."""
    results = run(source.encode("utf-8", "surrogateescape"))
    assert results["warm"] == results["cold"]
    assert results["cold"].status == status
    assert re.fullmatch(words, results["cold"].output.decode(), re.DOTALL)


@pytest.mark.sampled
@pytest.mark.parametrize("name", BEHAVIOURS)
def test_behaviours(run: Runner, name: str) -> None:
    """Each tested behaviour gives the same output and files, warm and cold."""
    results = run(BEHAVIOURS[name].encode())
    warm, cold = results["warm"], results["cold"]
    assert warm.output.decode(errors="replace") == cold.output.decode(errors="replace")
    assert warm == cold
    # The comparison must not be empty.
    assert cold.output or len(cold.files) > 1 or name == "daemon left running"


@pytest.mark.parametrize("source", [b"\xef\xbb\xbfprint('marked')", b"print('a')\r\nprint('b')", b"x = '\xff'", b""])
def test_scripts_of_all_kinds(run: Runner, source: bytes) -> None:
    """Scripts with a byte order mark, with Windows line ends, with invalid UTF-8, and empty ones behave the same."""
    results = run(source)
    assert results["warm"] == results["cold"]


def test_missing_script(run: Runner) -> None:
    """A missing script gives the interpreter's own error message."""
    results = run(None)
    assert results["warm"] == results["cold"]
    assert (results["cold"].status, b"can't open file" in results["cold"].output) == (2, True)


def test_what_is_left_of_the_group_ends_with_it(run: Runner, home: Path) -> None:
    """A child that carries no mark but is still in the process group is ended with its parent."""
    source = b"import subprocess; print(subprocess.Popen(['sleep', '99'], env={}).pid)"
    for result in run(source).values():
        pid = int(result.output)
        wait_until(lambda pid=pid: not alive(pid))  # type: ignore[misc]


def test_libraries_that_come_later_are_noticed() -> None:
    """A library that is loaded later is noticed, because it may need a cleanup at the end."""
    script = """
import ctypes, pathlib, sysconfig
from pacifica_notifications_consumer.engines.warm.child import Libraries
libraries = Libraries()
print(libraries.changed)
loaded = open("/proc/self/maps").read()
found = pathlib.Path(sysconfig.get_path("stdlib"), "lib-dynload").glob("*.so")
ctypes.CDLL(str(next(path for path in found if str(path) not in loaded)))
print(libraries.changed)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == "False\nTrue\n"


@pytest.mark.whole
def test_random_numbers_differ(run: Runner) -> None:
    """Each warm entry-point draws different random numbers."""
    source = b"import random, uuid, tempfile\nprint(random.random(), tempfile.mktemp(), uuid.uuid4(), sep='\\n')\n"
    drawn = [run(source)["warm"].output.splitlines() for _ in range(2)]
    assert all(a != b for a, b in zip(*drawn, strict=True))
