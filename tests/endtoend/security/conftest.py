"""An installation of the commands for consumers whose code runs as another user."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from pacifica_notifications_consumer.environment.wheel import build_wheel
from tests.endtoend.conftest import Operator, link_python
from tests.support.machine.other_user import python_for_all
from tests.support.machine.scratch import scratch_directory


@attrs.frozen
class Installation:
    """An installation of the commands that all users can reach.

    Args:
        place: A directory that they can reach.
        bin: Where its commands are.
        python: What environments are made of; they see what is installed there.
    """

    place: Path
    bin: Path
    python: Path


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    # pytest's directories, and perhaps this repository and its Python, are closed to other users.
    with scratch_directory(mode=0o711) as place:
        environment = place / "installed"
        subprocess.run([python_for_all(), "-m", "venv", "--without-pip", environment], check=True)
        wheel = build_wheel(place)
        wheel.chmod(0o644)
        python = environment / "bin" / "python"
        command = ["-m", "uv", "pip", "install", "-q", "--python", python, "pip", f"{wheel}[celery]"]
        subprocess.run([sys.executable, *map(str, command)], check=True)
        packages = next(environment.glob("lib/python*/site-packages"))
        yield Installation(place, environment / "bin", link_python(place / "python", python, packages))


@pytest.fixture
def operator_for_all(installation: Installation) -> Iterator[Operator]:
    """An operator of this installation, whose home other users can pass through."""
    home = Path(tempfile.mkdtemp(dir=installation.place))
    home.chmod(0o711)
    with contextlib.closing(Operator(home, installation.bin)) as operator:
        yield operator
