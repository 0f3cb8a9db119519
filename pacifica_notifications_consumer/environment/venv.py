"""A virtual environment: its paths, and the environment variables of programs that run in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs

from ..errors import ConfigurationError, VenvError
from ..settings.option import PREFIX


@attrs.frozen
class Venv:
    """A virtual environment.

    Args:
        path: The directory of the environment.
    """

    path: Path = attrs.field(converter=Path)

    @classmethod
    def of(cls, venv: Venv | str | os.PathLike[str] | None) -> Venv:
        """The environment that an argument ``venv`` means, which must have an interpreter; None for the running one."""
        found = venv if isinstance(venv, Venv) else cls(Path(venv or sys.prefix).absolute())
        if venv and not found.python.exists():
            raise ConfigurationError(f"`venv` ({found.path}) has no bin/python", "give it what a VenvBuilder returns")
        return found

    @property
    def bin(self) -> Path:
        """The directory of the programs."""
        return self.path / "bin"

    @property
    def python(self) -> Path:
        """The path of the interpreter."""
        return self.bin / "python"

    @property
    def site_packages(self) -> Path:
        """The directory of the installed packages."""
        for directory in self.path.glob("lib/python*/site-packages"):
            return directory
        raise VenvError(f"{self.path} has no site-packages any more", "look for what has removed them, perhaps init.sh")

    @property
    def lock(self) -> Path:
        """The lock file beside the environment: requirements that install the same packages again."""
        return self.path.with_name("requirements.lock")

    def environ(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment variables of a program that runs in the environment.

        Args:
            base: Other variables to pass on; by default those of this process. ``PYTHON…`` and ``PACIFICA_…`` are left
                out: the former would make other packages importable, the latter are settings of this process and may
                be secret.
        """
        base = os.environ if base is None else base
        environ = {name: value for name, value in base.items() if not name.startswith(("PYTHON", PREFIX))}
        environ["PATH"] = os.pathsep.join([str(self.bin), *filter(None, [environ.get("PATH", os.defpath)])])
        environ["VIRTUAL_ENV"] = str(self.path)
        environ.pop("VIRTUAL_ENV_PROMPT", None)
        return environ
