"""An installer is found wherever it is, and its absence is reported with what to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer import VenvBuilder
from pacifica_notifications_consumer.environment import installer
from pacifica_notifications_consumer.environment.installer import Pip, find_installer, put_pip_into
from pacifica_notifications_consumer.environment.interpreter import Interpreter
from pacifica_notifications_consumer.environment.venv import Venv
from pacifica_notifications_consumer.errors import ConfigurationError, RequirementError, VenvError

PYTHON = Interpreter(executable=sys.executable, version="3.11.0", build="", pip_wheel=None)


def missing(*_: object) -> Any:
    raise PackageNotFoundError("pip")


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory where uv is looked for, which is empty."""
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda _: None)
    return tmp_path


def test_uv_is_preferred(scripts: Path) -> None:
    """Uv is used if it is there and works; otherwise pip is."""
    assert find_installer("auto", PYTHON).name == "pip"
    (scripts / "uv").write_text("#!/bin/sh\necho uv 9.8.7 '(of a test)'\n")
    (scripts / "uv").chmod(0o700)
    found = find_installer("auto", PYTHON)
    assert (found.name, found.version) == ("uv", "9.8.7")
    for broken in ("exit 1", "echo something else", "echo uv", "true"):
        (scripts / "uv").write_text(f"#!/bin/sh\n{broken}\n")
        assert find_installer("auto", PYTHON).name == "pip"


@pytest.mark.usefixtures("scripts")
def test_pip_of_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a pip beside this library, the one that comes with the interpreter is used."""
    monkeypatch.setattr(installer, "version", missing)
    wheel = Path("/usr/share/pip-24.0-py3-none-any.whl")
    python = Interpreter(executable="/usr/bin/python3", version="3.11.0", build="", pip_wheel=wheel)
    assert find_installer("pip", python) == Pip(program=("/usr/bin/python3", f"{wheel}/pip"), version="24.0")


@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize(
    ("kind", "error", "problem"),
    [
        ("auto", VenvError, "neither uv nor pip is installed; install one of them beside"),
        ("uv", ConfigurationError, "the installer uv is not here; install it with the extra"),
        ("pip", ConfigurationError, "the installer pip is not here; install it beside"),
        ("conda", ConfigurationError, "`installer` .'conda'. is unknown; set it to one of auto, uv, pip"),
    ],
)
def test_installer_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, kind: str, error: type[Exception], problem: str
) -> None:
    """The error names the installer that is missing, and where to install it."""
    monkeypatch.setattr(installer, "version", missing)
    with pytest.raises(error, match=problem):
        find_installer(kind, PYTHON)


@pytest.fixture
def venv(tmp_path: Path) -> Venv:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    return Venv(tmp_path / "venv")


@pytest.mark.whole
def test_pip_of_the_running_python(venv: Venv) -> None:
    """A script gets the pip of the running Python if the interpreter provides none."""
    assert put_pip_into(venv, PYTHON)
    said = subprocess.run([venv.bin / "pip", "--version"], capture_output=True, text=True, check=True, env={}).stdout
    assert str(venv.site_packages) in said


def test_no_pip_at_all(venv: Venv, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any pip, the environment is left as it is."""
    monkeypatch.setattr(installer, "distribution", missing)
    before = sorted(venv.path.rglob("*"))
    assert not put_pip_into(venv, PYTHON)
    assert sorted(venv.path.rglob("*")) == before


def test_installer_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installer that the consumer's user may not run, for example, is not taken for a fault of the cache."""
    gone = Pip(program=(str(tmp_path / "python"),), version="1")
    monkeypatch.setattr("pacifica_notifications_consumer.environment.builder.find_installer", lambda *_: gone)
    problem = f"the installer {tmp_path}/python cannot be started: No such file or directory; let all users run it"
    with pytest.raises(VenvError, match=re.escape(problem)), VenvBuilder(cache=tmp_path / "cache"):
        pass


@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_log_that_would_block(kind: str, tmp_path: Path) -> None:
    """A failure is reported without the log of pip if init.sh has put a pipe or an endless file in its place."""
    log = tmp_path / "pip.log"
    if kind == "pipe":
        os.mkfifo(log)
    else:
        log.touch()
        os.truncate(log, 1 << 40)
    failing = Pip(program=("false",), version="1")
    with pytest.raises(RequirementError, match="the requirements cannot be installed"):
        VenvBuilder(directory=tmp_path)._call(failing, Venv(tmp_path), [], os.environ | {"PIP_LOG": str(log)})
