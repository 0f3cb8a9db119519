"""The consumer's environment: real ones, what is in them, what init.sh sees, and what the index is asked for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

import pacifica_notifications_consumer
import pacifica_notifications_runner
from pacifica_notifications_consumer import VenvBuilder
from pacifica_notifications_consumer.errors import ConfigurationError, InitScriptError, RequirementError
from tests.endtoend.conftest import KEEPER, START, TOOL, Operator, event, pack
from tests.endtoend.recorder import Recorder, recording

NAME = "pacifica-notifications-consumer"

#: An entry-point that tells what its environment holds.
SELF_PORTRAIT = """\
import importlib.metadata, json, pathlib, sys, zlib
import pacifica_notifications_consumer as library, pacifica_notifications_runner as runner
installed = importlib.metadata.distribution("pacifica-notifications-consumer")
print(json.dumps({
    "prefix": sys.prefix,
    "version": installed.version,
    "origin": json.loads(installed.read_text("direct_url.json") or "{}"),
    "homes": [str(pathlib.Path(module.__file__).parent) for module in (library, runner)],
    "files": {f"{home.name}/{each.relative_to(home).as_posix()}": zlib.crc32(each.read_bytes())
              for home in [pathlib.Path(module.__file__).parent for module in (library, runner)]
              for each in home.rglob("*") if each.is_file() and "__pycache__" not in each.parts},
    "programs": sorted(each.name for each in (pathlib.Path(sys.prefix) / "bin").glob("*pacifica*")),
    "packages": sorted(each.name for each in importlib.metadata.distributions()),
}))
"""


BOTH = pytest.mark.parametrize("installer", ["uv", "pip"])


@pytest.fixture
def index() -> Iterator[Recorder]:
    """An index that has nothing, and notes what it is asked for."""
    with recording(lambda _: (404, b"", "text/html")) as index:
        yield index


def asked(index: Recorder) -> set[str]:
    """The names that the index was asked for, as indexes write them."""
    return {re.sub(r"[-_.]+", "-", request.path.strip("/").split("/")[1]).lower() for request in index.requests}


@BOTH
def test_the_environment_holds_what_is_running(
    operator: Operator, tmp_path: Path, index: Recorder, installer: str
) -> None:
    """The editable install that runs the test arrives as a wheel of the same files; the index is not asked for it.

    Nor is it asked for the name that the specification's example has for the package `promise`.
    """
    requirements = "jsonpath2\nPacifica.Notifications_Consumer\nPromises\n"
    files = {"__main__.py": SELF_PORTRAIT, "requirements.txt": requirements}
    path = tmp_path / "n.json"
    path.write_bytes(event(1))
    state = tmp_path / "state"
    archive = pack(tmp_path / "consumer.zip", files)
    variables = {"PIP_EXTRA_INDEX_URL": f"{index.url}/simple", "PACIFICA_INSTALLER": installer}
    outcome = operator.run(TOOL, "run", archive, path, "--state-dir", state, variables=variables)
    assert outcome.status == 0, outcome.stderr
    seen = json.loads(outcome.stdout)
    assert seen["version"] == version(NAME)
    assert seen["origin"]["url"].startswith("file://")
    assert seen["origin"]["url"].endswith(f"/pacifica_notifications_consumer-{version(NAME)}-py3-none-any.whl")
    assert [Path(home).is_relative_to(seen["prefix"]) for home in seen["homes"]] == [True, True]
    homes = [
        Path(module.__file__ or "").parent
        for module in (pacifica_notifications_consumer, pacifica_notifications_runner)
    ]
    assert seen["files"] == {
        f"{home.name}/{each.relative_to(home).as_posix()}": zlib.crc32(each.read_bytes())
        for home in homes
        for each in home.rglob("*")
        if each.is_file() and "__pycache__" not in each.parts
    }
    assert seen["programs"] == [NAME, START]
    assert {"attrs", "jsonpath2", "promise", "requests", NAME} <= set(seen["packages"])
    assert "pytest" not in seen["packages"]
    assert not asked(index) & {NAME, "promises"}
    assert "the requirement promises was read as promise" in outcome.stderr
    assert {"jsonpath2", "promise", "requests", "attrs"} <= asked(index)
    assert operator.leftovers() == []


@pytest.fixture
def tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary directory of this process, for a test that composes."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


@BOTH
def test_another_version_is_refused_without_asking(
    tmp: Path, tmp_path: Path, index: Recorder, monkeypatch: pytest.MonkeyPatch, installer: str
) -> None:
    """A requirement for a version that does not run fails with a clear error, and the index is not asked for it."""
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{index.url}/simple")
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("pacifica_notifications.consumer==9.9\n")
    builder = VenvBuilder(requirements=requirements, installer=installer)
    with pytest.raises(RequirementError) as caught, builder:
        pass
    error = caught.value
    assert "requirements.txt asks for another version of pacifica-notifications-consumer" in error.problem
    assert "remove the version" in error.advice
    assert "9.9" in error.output
    assert NAME not in asked(index)
    assert list(tmp.iterdir()) == []


def test_pip_in_init_sh_gets_the_running_version(
    tmp: Path, tmp_path: Path, index: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An init.sh that installs the package itself gets the wheel too, without the index being asked for it."""
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{index.url}/simple")
    script = tmp_path / "init.sh"
    script.write_text(
        "#!/bin/sh\nset -e\npip install --no-deps pacifica-notifications-consumer\ncommand -v python\nexit 3\n"
    )
    with caplog.at_level("INFO"), pytest.raises(InitScriptError) as caught, VenvBuilder(init_script=str(script)):
        pass
    said = caught.value.output.splitlines()
    assert f"Successfully installed {NAME}-{version(NAME)}" in said
    assert Path(said[-1]).is_relative_to(tmp)
    assert f"init.sh: Successfully installed {NAME}-{version(NAME)}" in caplog.messages
    assert NAME not in asked(index)
    assert list(tmp.iterdir()) == []


def test_init_sh_runs_inside_the_environment(operator: Operator, tmp_path: Path, quick_python: Path) -> None:
    """PATH, VIRTUAL_ENV and working directory are the environment's; the output is shown; its status counts."""
    script = """\
#!/usr/bin/env bash
[[ -n $BASH_VERSION ]] && echo "path=$PATH"
echo "venv=$VIRTUAL_ENV"; echo "cwd=$PWD"; echo "python=$(command -v python)"; echo "files=$(ls -m)"
echo "secret=$PACIFICA_PASSWORD"; echo "stdin=$(cat)"
echo "to stderr ä" >&2
exit 3
"""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": KEEPER, "init.sh": script})
    variables = {"PACIFICA_PASSWORD": "geheim", "PYTHONPATH": "/nowhere"}
    outcome = operator.run(START, archive, "--username", "alice", "--python", quick_python, variables=variables)
    assert (outcome.status, outcome.error(START)) == (
        69,
        "init.sh failed with exit status 3; see its output below",
    )
    quoted = [line.strip() for line in outcome.stderr.splitlines() if line.startswith("    ")]
    values = dict(line.split("=", 1) for line in quoted if "=" in line)
    venv = values["venv"]
    assert re.fullmatch(rf"{re.escape(str(operator.tmp))}/pacifica-venv-\w+/venv", venv)
    assert values["path"] == f"{venv}/bin{os.pathsep}{os.environ['PATH']}"
    assert values["python"] == f"{venv}/bin/python"
    assert re.fullmatch(rf"{re.escape(str(operator.tmp))}/pacifica-consumer-\w+/consumer", values["cwd"])
    assert values["files"] == "__main__.py, init.sh"
    assert (values["secret"], values["stdin"]) == ("", "")
    logged = [line for line in outcome.stderr.splitlines() if " INFO " in line]
    assert [line.partition("init.sh: ")[2] for line in logged if "init.sh: " in line] == quoted
    assert quoted[-1] == "to stderr ä"
    assert operator.leftovers() == []


def test_init_sh_without_a_first_line(operator: Operator, tmp_path: Path, quick_python: Path) -> None:
    """A script without a shebang, and without the right to execute, is run by the shell."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": KEEPER, "init.sh": "echo begun\nfalse\n"})
    outcome = operator.run(START, archive, "--username", "alice", "--python", quick_python)
    assert (outcome.status, outcome.error(START).split(";")[0]) == (69, "init.sh failed with exit status 1")
    assert "init.sh: begun" in outcome.stderr
    assert operator.leftovers() == []


def test_init_sh_of_an_unknown_interpreter(operator: Operator, tmp_path: Path, quick_python: Path) -> None:
    """A shebang that leads nowhere is shown in the error."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": KEEPER, "init.sh": "#!/no/shell\n"})
    outcome = operator.run(START, archive, "--username", "alice", "--python", quick_python)
    assert (outcome.status, "'#!/no/shell'" in outcome.error(START)) == (69, True)
    assert operator.leftovers() == []


def test_init_sh_that_hangs(operator: Operator, tmp_path: Path, quick_python: Path) -> None:
    """--setup-timeout ends a script that hangs, deaf to SIGTERM, with all its children."""
    script = "#!/bin/sh\ntrap '' TERM\necho begun\nsleep 3600 &\nsh -c 'sleep 3600' &\nwait\nsleep 3600\n"
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": KEEPER, "init.sh": script})
    flags = ("--username", "alice", "--python", quick_python, "--setup-timeout")
    # On a loaded machine, the script may not have begun when the first time limits are over.
    for seconds in (1, 10, 60):
        outcome = operator.run(START, archive, *flags, str(seconds))
        assert operator.leftovers() == []
        if outcome.stderr.splitlines()[-1] == "    begun":
            break
    assert outcome.status == 69
    advice = "let it end, or raise --setup-timeout (PACIFICA_SETUP_TIMEOUT)"
    assert outcome.error(START) == f"init.sh did not end within {seconds} seconds; {advice}"
    assert outcome.stderr.splitlines()[-1] == "    begun"


@BOTH
@pytest.mark.parametrize(
    ("requirements", "words"),
    [
        ("-r other.txt\n", "other.txt"),
        ("not a requirement!\n", "not a requirement"),
        ("./nowhere\n", "nowhere"),
    ],
)
def test_requirements_that_are_none(
    operator: Operator, tmp_path: Path, requirements: str, words: str, installer: str
) -> None:
    """What the installer says about a broken requirements.txt is quoted."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": KEEPER, "requirements.txt": requirements})
    outcome = operator.run(START, archive, "--username", "alice", "--installer", installer)
    assert (outcome.status, "cannot be installed" in outcome.error(START)) == (69, True)
    quoted = [line for line in outcome.stderr.splitlines() if line.startswith("    ")]
    assert words in "\n".join(quoted)
    assert operator.leftovers() == []


HASH_OF_SIX = "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274"


@BOTH
@pytest.mark.parametrize("right", [True, False])
def test_hashes_are_checked(tmp: Path, tmp_path: Path, right: bool, installer: str) -> None:
    """Requirements with hashes install beside this library, which has none, and a wrong hash is refused."""
    requirements = tmp_path / "requirements.txt"
    hash_of_six = HASH_OF_SIX if right else HASH_OF_SIX[::-1]
    requirements.write_text(f"six==1.17.0 --hash=sha256:{hash_of_six}\n")
    if not right:
        builder = VenvBuilder(requirements=requirements, installer=installer)
        with pytest.raises(RequirementError) as caught, builder:
            pass
        assert caught.value.problem == "a package does not match its hash in requirements.txt"
        return
    with VenvBuilder(requirements=str(requirements), directory=str(tmp_path), installer=installer) as venv:
        script = "import six, pacifica_notifications_consumer; print(six.__version__)"
        finished = subprocess.run([venv.python, "-I", "-c", script], capture_output=True, text=True, check=True)
        assert finished.stdout == "1.17.0\n"


def wheelhouse(directory: Path) -> Path:
    """A directory with wheels of a package in two versions."""
    for version_ in ("1.0", "2.0"):
        stem = f"minerals-{version_}"
        with zipfile.ZipFile(directory / f"{stem}-py3-none-any.whl", "w") as wheel:
            wheel.writestr("minerals.py", f"version = {version_!r}\n")
            wheel.writestr(
                f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: minerals\nVersion: {version_}\n"
            )
            wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{stem}.dist-info/RECORD", "")
    return directory


@BOTH
def test_wheelhouse_and_constraints(tmp: Path, tmp_path: Path, index: Recorder, installer: str) -> None:
    """Requirements that name a directory of wheels, constraints and an index of their own get what they name."""
    (tmp_path / "constraints.txt").write_text("minerals<2\n")
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(
        f"--find-links {wheelhouse(tmp_path)}\n--extra-index-url {index.url}/simple\n-c constraints.txt\nminerals\n"
    )
    with VenvBuilder(requirements=requirements, installer=installer) as venv:
        said = subprocess.run([venv.python, "-c", "import minerals; print(minerals.version)"], capture_output=True)
        assert said.stdout == b"1.0\n"
        assert "minerals==1.0" in venv.lock.read_text().splitlines()
        assert "minerals" in asked(index)
        assert NAME not in asked(index)
    assert list(tmp.iterdir()) == []


@BOTH
def test_without_any_index(tmp: Path, tmp_path: Path, installer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --no-index nothing comes from elsewhere: what the wheelhouse lacks cannot be had, and is named."""
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"--no-index\n--find-links {wheelhouse(tmp_path)}\nminerals==3.0\n")
    builder = VenvBuilder(requirements=requirements, installer=installer)
    with pytest.raises(RequirementError) as caught, builder:
        pass
    assert re.search(r"minerals|attrs|jsonpath2|promise|requests", caught.value.problem)
    assert list(tmp.iterdir()) == []


@BOTH
def test_variables_of_pip_hold_for_both(
    tmp: Path, tmp_path: Path, index: Recorder, installer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PIP_NO_INDEX keeps either from asking, PIP_NO_BINARY from taking wheels, though there are some."""
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("minerals\n")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheelhouse(tmp_path)))
    monkeypatch.setenv("PIP_INDEX_URL", f"{index.url}/simple")
    builder = VenvBuilder(requirements=requirements, installer=installer)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(RequirementError), builder:
        pass
    assert asked(index) == set()
    monkeypatch.delenv("PIP_INDEX_URL")
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_NO_BINARY", "minerals,other")
    with pytest.raises(RequirementError) as caught, builder:
        pass
    assert "minerals" in caught.value.problem
    monkeypatch.delenv("PIP_NO_BINARY")
    with builder as venv:
        assert "minerals==2.0" in venv.lock.read_text().splitlines()


@BOTH
def test_all_is_compiled(tmp: Path, tmp_path: Path, installer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the variables say, so that no entry-point has to."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PIP_NO_COMPILE", "1")
    with VenvBuilder(installer=installer) as venv:
        for name in ("requests", "jsonpath2", "promise", "attr", "pacifica_notifications_consumer"):
            sources = {path.stem for path in (venv.site_packages / name).glob("*.py")}
            compiled = {path.name.split(".")[0] for path in (venv.site_packages / name / "__pycache__").glob("*.pyc")}
            assert sources <= compiled
            assert sources


@pytest.mark.parametrize("name", ["requirements", "init_script"])
def test_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    """A composer's mistake is named, not called a fault of the environment."""
    builder = VenvBuilder(**{name: tmp_path / "missing"}, cache=tmp_path / "cache")  # type: ignore[arg-type]
    with (
        pytest.raises(ConfigurationError, match=f"`{name}` cannot be .*; it must be the path"),
        builder,
    ):
        pass
