"""check and run keep environments in the user's own cache, unless told otherwise."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.endtoend.conftest import BIN, START, TOOL, Operator, event, pack
from tests.support.paths import cache_variables

SAYS_WHERE = {"__main__.py": "import sys; print(sys.argv and sys.prefix)", "init.sh": "echo begun\n"}


@pytest.fixture(scope="session")
def quick_cache() -> None:
    """No environment is kept but by the commands themselves."""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return pack(tmp_path / "consumer.zip", SAYS_WHERE)


@pytest.fixture
def notification(tmp_path: Path) -> Path:
    (tmp_path / "notification.json").write_bytes(event(1))
    return tmp_path / "notification.json"


def cache_of(operator: Operator) -> Path:
    return operator.home / "caches" / "pacifica-notifications-consumer" / "environments"


def test_second_time(operator: Operator, archive: Path, notification: Path, quick_python: Path) -> None:
    """The second command finds the environment of the first one; it is private, and can be listed and removed."""
    flags = ("--python", quick_python)
    checked = operator.run(TOOL, "check", archive, *flags)
    assert (checked.status, checked.stderr) == (0, "")
    cache = cache_of(operator)
    (made,) = cache.glob("*/*/venv")
    ran = operator.run(TOOL, "run", archive, notification, *flags)
    assert ran.status == 0
    assert ran.stdout.strip() == str(made)
    assert "creating a virtual environment" not in ran.stderr
    assert {path.stat().st_mode & 0o077 for path in (cache, *cache.glob("*"))} == {0}
    assert str(made) in operator.run(TOOL, "environments").stdout
    assert "removed" in operator.run(TOOL, "environments", "--prune", "--venv-cache-keep", "0h").stdout
    assert not made.exists()


def test_changed_archive(operator: Operator, tmp_path: Path, notification: Path, quick_python: Path) -> None:
    """A directory is packed at each run: a change of what the environment depends on is noticed, in it as in a zip."""
    home = tmp_path / "consumer"
    home.mkdir()
    (home / "__main__.py").write_text("import sys; print(sys.argv and open(sys.prefix + '/word').read())")
    (home / "init.sh").write_text('cp word "$VIRTUAL_ENV"\n')
    for word in ("old", "new"):
        (home / "word").write_text(word)
        assert operator.run(TOOL, "run", home, notification, "--python", quick_python).stdout.strip() == word


@pytest.mark.parametrize("command", ["check", "run"])
def test_without_a_cache(
    operator: Operator, archive: Path, notification: Path, quick_python: Path, command: str
) -> None:
    """--no-venv-cache keeps nothing, also where a variable or another flag names a cache."""
    arguments: tuple[str | Path, ...] = (
        TOOL,
        command,
        archive,
        *([notification] if command == "run" else []),
        "--python",
        quick_python,
    )
    variables = {"PACIFICA_VENV_CACHE": str(operator.home / "other")}
    assert operator.run(*arguments, "--no-venv-cache", variables=variables).status == 0
    assert operator.run(*arguments, "--no-venv-cache", "--venv-cache", operator.home / "other").status == 0
    assert not cache_of(operator).exists()
    assert not (operator.home / "other").exists()


def test_several_at_once(operator: Operator, archive: Path, notification: Path, quick_python: Path) -> None:
    """Commands that need the same environment at the same time make it once."""
    commands = [operator.command(TOOL, "run", archive, notification, "--python", quick_python) for _ in range(3)]
    outcomes = [command.end() for command in commands]
    assert [outcome.status for outcome in outcomes] == [0, 0, 0]
    assert len({outcome.stdout for outcome in outcomes}) == 1
    assert sum("creating a virtual environment" in outcome.stderr for outcome in outcomes) == 1


def test_broken_environment(operator: Operator, archive: Path, notification: Path, quick_python: Path) -> None:
    """An environment that was damaged is made again."""
    arguments = (TOOL, "run", archive, notification, "--python", quick_python)
    assert operator.run(*arguments).status == 0
    (python,) = cache_of(operator).glob("*/*/venv/bin/python")
    python.unlink()
    ran = operator.run(*arguments)
    assert ran.status == 0
    assert "is damaged and built again: venv/bin/python is missing" in ran.stderr


def test_user_without_a_place_for_it(operator: Operator, archive: Path, notification: Path, quick_python: Path) -> None:
    """Where no cache can be made, the environment is removed at the end, as with --no-venv-cache."""
    (operator.home / "file").touch()
    variables = {"XDG_CACHE_HOME": str(operator.home / "file")}
    for command in (("check", archive), ("run", archive, notification)):
        outcome = operator.run(TOOL, *command, "--python", quick_python, variables=variables)
        assert outcome.status == 0, outcome.stderr
    assert "no environment is kept, since " in outcome.stderr
    assert "file/pacifica-notifications-consumer/environments cannot be used: Not a directory" in outcome.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the start command needs Linux")
def test_start_keeps_none(operator: Operator, tmp_path: Path, quick_python: Path) -> None:
    """The start command keeps environments only where its operator says so."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": "", "init.sh": "exit 3\n"})
    outcome = operator.run(START, archive, "--username", "alice", "--python", quick_python)
    assert (outcome.status, "init.sh failed with exit status 3" in outcome.error(START)) == (69, True)
    assert not cache_of(operator).exists()


def test_progress_on_a_terminal(archive: Path, tmp_path: Path, quick_python: Path) -> None:
    """At a terminal, check shows what it is doing; elsewhere it prints its findings only."""
    ours, theirs = pty.openpty()
    environ = os.environ | cache_variables(tmp_path) | {"PACIFICA_INSTALLER": "pip"}
    command = [str(BIN / TOOL), "check", str(archive), "--python", str(quick_python)]
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=theirs)
        os.close(theirs)
        shown = b""
        try:
            while piece := terminal.read(65536):
                shown += piece
        except OSError:  # Linux reports the end of a terminal as an error.
            pass
        assert process.wait() == 0
    for words in (b"creating a virtual environment", b"running init.sh", b"installing pacifica", b"packages"):
        assert words in shown
