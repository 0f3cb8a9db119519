"""The files for deployments are understood by what they are for."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pacifica_notifications_runner.options import start_command
from pacifica_notifications_runner.options.settings import OPTIONS
from tests.endtoend.conftest import BIN, START
from tests.support.machine.waiting import DEADLINE
from tests.support.paths import ROOT

DEPLOYMENT = ROOT / "runner" / "deployment"
UNIT = DEPLOYMENT / "pacifica-consumer@.service"


@pytest.fixture
def analyze() -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("there is no systemd-analyze here")
    return program


def test_the_unit_is_one(analyze: str, tmp_path: Path) -> None:
    """Systemd finds nothing to complain about, with the command where it is on this machine."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/pacifica/bin/", f"{BIN}/").replace("User=pacifica", "User=root"))
    told = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, timeout=DEADLINE)
    assert (told.returncode, told.stderr) == (0, "")


@pytest.mark.parametrize("drop_in", sorted(DEPLOYMENT.glob("*.conf")), ids=lambda path: path.name)
def test_drop_ins_fit_the_unit(analyze: str, tmp_path: Path, drop_in: Path) -> None:
    """Systemd has nothing against what they add, and they name settings that exist."""
    (tmp_path / f"{UNIT.name}.d").mkdir()
    for path, there in ((UNIT, tmp_path), (drop_in, tmp_path / f"{UNIT.name}.d")):
        text = path.read_text().replace("/opt/pacifica/bin/", f"{BIN}/").replace("User=pacifica", "User=root")
        (there / path.name).write_text(text)
    told = subprocess.run([analyze, "verify", tmp_path / UNIT.name], capture_output=True, text=True, timeout=DEADLINE)
    assert (told.returncode, told.stderr) == (0, "")
    known = {option.variable for option in OPTIONS.values()}
    assert set(re.findall(r"PACIFICA_[A-Z_]+", drop_in.read_text())) <= known


def test_the_unit_is_hardened(analyze: str) -> None:
    """Its exposure, as systemd counts it, is as low as the documentation says."""
    (documented,) = re.findall(r"exposure (\d\.\d)", (ROOT / "docs" / "how-to" / "deploy.md").read_text())
    threshold = str(round(float(documented) * 10))
    command: list[str | Path] = [analyze, "security", "--offline=yes", f"--threshold={threshold}", UNIT]
    told = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert (told.returncode, f": {documented} OK" in told.stdout) == (0, True), told.stdout[-200:]


@pytest.mark.parametrize("path", [UNIT, DEPLOYMENT / "Containerfile"], ids=lambda path: path.name)
def test_settings_that_are_named_exist(path: Path) -> None:
    """Every flag of the start command and every variable that a file names is one."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    known_flags = {flag for action in start_command.make_parser()._actions for flag in action.option_strings}
    known_variables = {option.variable for option in OPTIONS.values()} | {"PACIFICA_CONFIG"}
    command = text[text.index(START) :].split("StateDirectory=")[0]
    named = set(re.findall(r"(?<=\s)--[a-z-]+", command)) | set(re.findall(r"PACIFICA_[A-Z_]+", text))
    assert named <= known_flags | known_variables
    assert named


def test_the_source_has_what_the_container_needs(tmp_path: Path) -> None:
    """What the container file copies is enough to build the package, with all its files."""
    text = (DEPLOYMENT / "Containerfile").read_text()
    for line in re.findall(r"^COPY (.*) /build\S*$", text, re.MULTILINE):
        for name in line.split():
            target = tmp_path / name
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(ROOT / name, target)
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        tmp_path / "out",
        tmp_path,
    ]
    subprocess.run(command, check=True, timeout=DEADLINE)
    (wheel,) = (tmp_path / "out").iterdir()
    listed = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", wheel], capture_output=True, text=True, check=True
    ).stdout
    for file in (
        "status/style.css",
        "status/script.js",
        "authoring/sandbox_page.js",
        "templates/minimal/__main__.py",
        "templates/uppercase/init.sh",
    ):
        assert f"pacifica_notifications_runner/{file}" in listed
