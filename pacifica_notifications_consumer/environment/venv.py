"""A virtual environment, and what a program that runs in it finds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import attrs

from ..settings.option import PREFIX


@attrs.frozen
class Venv:
    """A virtual environment.

    Args:
        path: Its directory.
    """

    path: Path = attrs.field(converter=Path)

    @property
    def bin(self) -> Path:
        """The directory of its programs."""
        return self.path / "bin"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.bin / "python"

    @property
    def site_packages(self) -> Path:
        """Where its packages are."""
        return next(self.path.glob("lib/python*/site-packages"))

    @property
    def lock(self) -> Path:
        """A file beside it that says what was installed: requirements that give the same packages again."""
        return self.path.with_name("requirements.lock")

    def environ(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """The variables of a program that runs inside it.

        Args:
            base: What else is set, by default as in this process. ``PYTHON…`` and ``PACIFICA_…`` are left out: the
                first would lead it to other packages, the second are for this process, secrets among them.
        """
        base = os.environ if base is None else base
        environ = {name: value for name, value in base.items() if not name.startswith(("PYTHON", PREFIX))}
        environ["PATH"] = os.pathsep.join([str(self.bin), *filter(None, [environ.get("PATH", os.defpath)])])
        environ["VIRTUAL_ENV"] = str(self.path)
        environ.pop("VIRTUAL_ENV_PROMPT", None)
        return environ
