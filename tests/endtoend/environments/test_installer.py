"""uv and pip behind one protocol: which is taken, and what both are told."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import attrs
import pytest

from pacifica_notifications_consumer import VenvBuilder
from pacifica_notifications_consumer.environment import builder
from pacifica_notifications_consumer.environment import installer as module
from pacifica_notifications_consumer.environment.installer import find_installer, installer_environ, put_pip_into
from pacifica_notifications_consumer.environment.interpreter import Interpreter
from pacifica_notifications_consumer.environment.venv import Venv
from pacifica_notifications_consumer.errors import ConfigurationError, VenvError


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    return Interpreter.probe(sys.executable)


def test_auto_takes_uv_where_it_is(interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uv beside this interpreter, else on PATH, else pip."""
    assert find_installer("auto", interpreter).name == "uv"
    assert find_installer("uv", interpreter).version == version("uv")
    assert find_installer("pip", interpreter).version == version("pip")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: "/nowhere")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert find_installer("auto", interpreter).name == "pip"
    with pytest.raises(ConfigurationError, match="the installer uv is not here; install it with the extra"):
        find_installer("uv", interpreter)


def test_pip_of_the_interpreter(interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a pip beside this library it is the wheel that the interpreter brings along; then there is none."""

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", missing)
    monkeypatch.setattr(module, "distribution", missing)
    pip = find_installer("pip", interpreter)
    assert interpreter.pip_wheel is not None
    venv = Venv(tmp_path / "venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv.path], check=True)
    command = pip.command(venv, ["--no-index", "no-such-package"], {}, hashes=False)
    said = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False).stderr
    assert "No matching distribution found for no-such-package" in said
    bare = attrs.evolve(interpreter, pip_wheel=None)
    assert not put_pip_into(venv, bare)
    with pytest.raises(ConfigurationError, match="the installer pip is not here"):
        find_installer("pip", bare)
    monkeypatch.setattr(module.Uv, "find", lambda: None)
    with pytest.raises(VenvError, match="neither uv nor pip is installed"):
        find_installer("auto", bare)


@pytest.mark.parametrize("bundled", [True, False])
def test_pip_for_scripts(interpreter: Interpreter, tmp_path: Path, bundled: bool) -> None:
    """An environment can be given a pip that works, as a program and as a module, also where a path has spaces."""
    venv = Venv(tmp_path / "with a space" / "venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv.path], check=True)
    assert put_pip_into(venv, interpreter if bundled else attrs.evolve(interpreter, pip_wheel=None))
    for command in (["pip"], ["pip3"], ["python", "-m", "pip"]):
        program = [str(venv.bin / command[0]), *command[1:], "--version"]
        said = subprocess.run(program, capture_output=True, text=True, check=True).stdout
        assert str(venv.site_packages) in said


def test_what_is_set_for_pip_holds_for_uv(tmp_path: Path) -> None:
    """Where packages come from, and what they must not be, is said to both; what leads elsewhere is said to none."""
    given = {
        "PIP_INDEX_URL": "https://a/simple",
        "PIP_EXTRA_INDEX_URL": "https://b/simple https://c/simple",
        "PIP_FIND_LINKS": "/wheels /more",
        "PIP_CONSTRAINT": "mine.txt",
        "PIP_TARGET": "/elsewhere",
        "UV_TARGET": "/elsewhere",
        "OTHER": "x",
    }
    environ = installer_environ(given, tmp_path / "constraints.txt")
    assert environ["UV_DEFAULT_INDEX"] == "https://a/simple"
    assert environ["UV_INDEX"] == "https://b/simple https://c/simple"
    assert environ["UV_FIND_LINKS"] == "/wheels,/more"
    assert (
        environ["PIP_CONSTRAINT"] == environ["UV_CONSTRAINT"] == f"mine.txt {(tmp_path / 'constraints.txt').as_uri()}"
    )
    assert (environ["UV_INDEX_STRATEGY"], environ["OTHER"]) == ("unsafe-best-match", "x")
    assert not {"PIP_TARGET", "UV_TARGET"} & environ.keys()
    own = installer_environ(given | {"UV_INDEX": "https://mine", "UV_CONSTRAINT": "u.txt"}, tmp_path / "c.txt")
    assert (own["UV_INDEX"], own["UV_CONSTRAINT"]) == ("https://mine", f"u.txt {tmp_path / 'c.txt'}")


def test_output_of_init_sh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Only a limited part of it is logged, and its mark begins with that of the job whose entry-point builds."""
    caplog.set_level("INFO")
    monkeypatch.setattr(builder, "_MOST_SHOWN", 10_000)
    monkeypatch.setenv("PACIFICA_JOB", "/state:7:token")
    script = tmp_path / "init.sh"
    script.write_text('echo "mark $PACIFICA_JOB"\nfor i in $(seq 1000); do echo line; done\n')
    with VenvBuilder(directory=tmp_path, init_script=script):
        pass
    assert any(message.startswith("init.sh: mark /state:7:token:") for message in caplog.messages)
    assert 50 < caplog.messages.count("init.sh: line") < 100
    assert caplog.messages.count("init.sh says very much; the rest of its output is not logged") == 1
