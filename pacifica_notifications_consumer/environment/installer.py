"""Installs packages into an environment with uv or pip, which run outside of it and give the same results."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Protocol

import attrs

from ..errors import ConfigurationError, VenvError
from .interpreter import Interpreter
from .venv import Venv

INSTALLERS = ("auto", "uv", "pip")

#: Settings that would install packages outside the environment.
_ELSEWHERE = frozenset({"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "UV_TARGET", "UV_PREFIX"})
#: Settings of pip that determine where packages come from, and the equivalent settings of uv.
_SAME_SETTINGS = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_TRUSTED_HOST": "UV_INSECURE_HOST",
    "PIP_CERT": "SSL_CERT_FILE",
    "PIP_CONSTRAINT": "UV_CONSTRAINT",
}
_YES = ("1", "true", "yes", "on", "y", "t")
_SECONDS = 30.0

#: Arguments that both installers accept: requirements files and packages.
Packages = Sequence[str | Path]


class Installer(Protocol):
    """Installs packages into environments."""

    @property
    def name(self) -> str:
        """The name of the program."""

    @property
    def version(self) -> str:
        """The version of the program."""

    def command(self, venv: Venv, packages: Packages, environ: Mapping[str, str], *, hashes: bool) -> list[str | Path]:
        """The command that installs packages and compiles them; with `hashes`, each must have a hash and match it."""

    def shown(self, line: str) -> bool:
        """Whether a printed line shows progress that an operator wants to see."""


@attrs.frozen(kw_only=True)
class Pip:
    """The installer pip, which is installed beside this library or comes with an interpreter."""

    program: tuple[str, ...]
    version: str
    name: str = "pip"

    @classmethod
    def find(cls, interpreter: Interpreter) -> Pip | None:
        """Find pip; None if it is missing."""
        with contextlib.suppress(PackageNotFoundError):
            # -P: do not import from the working directory, which contains the consumer's own modules.
            return cls(program=(sys.executable, "-P", "-m", "pip"), version=version("pip"))
        if (wheel := interpreter.pip_wheel) is None:
            return None
        return cls(program=(interpreter.executable, f"{wheel}/pip"), version=wheel.name.split("-")[1])

    def command(self, venv: Venv, packages: Packages, environ: Mapping[str, str], *, hashes: bool) -> list[str | Path]:
        """See `Installer.command`."""
        del environ  # pip reads it itself
        options = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--compile"]
        options += ["--require-hashes"] if hashes else []
        return [*self.program, "--python", venv.python, "install", *options, *packages]

    def shown(self, line: str) -> bool:
        """See `Installer.shown`."""
        return bool(_PIP_SHOWN.match(line))


@attrs.frozen(kw_only=True)
class Uv:
    """The installer uv."""

    program: str
    version: str
    name: str = "uv"

    @classmethod
    def find(cls) -> Uv | None:
        """Find uv beside this interpreter or on PATH; None if it is missing."""
        beside = Path(sysconfig.get_path("scripts")) / "uv"
        program = str(beside) if beside.exists() else shutil.which("uv")
        if program is None:
            return None
        try:
            answer = subprocess.run(
                [program, "--version"], capture_output=True, text=True, timeout=_SECONDS, check=True
            ).stdout.split()
        except (OSError, subprocess.SubprocessError):
            return None
        return cls(program=program, version=answer[1]) if answer[:1] == ["uv"] and len(answer) > 1 else None

    def command(self, venv: Venv, packages: Packages, environ: Mapping[str, str], *, hashes: bool) -> list[str | Path]:
        """See `Installer.command`."""
        options = ["--color", "never", "--no-progress", "--no-python-downloads", "--compile-bytecode"]
        # With hard links to the cache of uv, an entry-point could change the packages of other environments.
        options += ["--link-mode", "copy", *(["--require-hashes"] if hashes else [])]
        # Settings of pip for which uv has flags but no variables.
        options += ["--no-index"] if environ.get("PIP_NO_INDEX", "").lower() in _YES else []
        for variable, flag in (("PIP_NO_BINARY", "--no-binary"), ("PIP_ONLY_BINARY", "--only-binary")):
            options += [f"{flag}={name}" for name in environ.get(variable, "").replace(",", " ").split()]
        return [self.program, "pip", "install", "--python", venv.python, *options, *packages]

    def shown(self, line: str) -> bool:
        """See `Installer.shown`."""
        return bool(_UV_SHOWN.match(line))


_PIP_SHOWN = re.compile(r"\s*(Collecting|Downloading|Building|Installing|Using cached .*\d\d(\.\d)? [MG]B)\b")
_UV_SHOWN = re.compile(r"\s*(Resolved|Downloading|Building|Prepared|Installed)\b")


def find_installer(kind: str, interpreter: Interpreter) -> Installer:
    """Find ``uv``, ``pip``, or for ``auto`` uv if it is available, else pip."""
    finders: dict[str, Callable[[], Installer | None]] = {"uv": Uv.find, "pip": lambda: Pip.find(interpreter)}
    for name, find in finders.items():
        if kind in ("auto", name) and (found := find()) is not None:
            return found
    if kind == "auto":
        raise VenvError("neither uv nor pip is installed", f"install one of them beside {sys.executable}")
    if kind not in finders:
        raise ConfigurationError(f"`installer` ({kind!r}) is unknown", f"set it to one of {', '.join(INSTALLERS)}")
    advice = {
        "uv": "install it with the extra [uv] of this package, or leave `installer` at auto",
        "pip": f"install it beside {sys.executable}, or set `installer` to uv",
    }
    raise ConfigurationError(f"the installer {kind} is not here", advice[kind])


def installer_environ(environ: Mapping[str, str], constraints: Path) -> dict[str, str]:
    """The environment variables of either installer, with one more file of constraints; pip's settings hold for uv."""
    changed = {name: value for name, value in environ.items() if name not in _ELSEWHERE}
    changed["PIP_CONSTRAINT"] = " ".join(filter(None, [changed.get("PIP_CONSTRAINT"), constraints.as_uri()]))
    if "UV_CONSTRAINT" in changed:
        changed["UV_CONSTRAINT"] += f" {constraints}"
    # Packages that building others needs are not bound by the other constraints.
    for name in ("UV_BUILD_CONSTRAINT", "PIP_BUILD_CONSTRAINT"):
        changed[name] = " ".join(filter(None, [changed.get(name), constraints.as_uri()]))
    for of_pip, of_uv in _SAME_SETTINGS.items():
        if of_pip in changed and of_uv not in changed:
            value = changed[of_pip]
            # Splitting at spaces is safe: paths that contain spaces are written as URLs.
            changed[of_uv] = ",".join(value.split()) if of_uv == "UV_FIND_LINKS" else value
    if "PIP_EXTRA_INDEX_URL" in changed:
        # Like pip, choose the best version among all indexes.
        changed.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return changed


def put_pip_into(venv: Venv, interpreter: Interpreter) -> bool:
    """Put pip into an environment, for scripts that call it; returns whether a pip was found.

    It is unpacked, not installed, which takes a tenth of the time.
    """
    if interpreter.pip_wheel is not None:
        with zipfile.ZipFile(interpreter.pip_wheel) as wheel:
            wheel.extractall(venv.site_packages)
    else:
        try:
            files = distribution("pip").files or ()
        except PackageNotFoundError:
            return False
        for file in files:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = venv.site_packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_binary())
    for name in ("pip", "pip3"):
        script = venv.bin / name
        # Start Python through the shell, because a "#!" line must be short and must not contain spaces.
        script.write_text(f"#!/bin/sh\n'''exec' '{venv.python}' \"$0\" \"$@\"\n' '''\n{_PIP_SCRIPT}", encoding="utf-8")
        script.chmod(0o755)
    return True


_PIP_SCRIPT = """\
import sys
from pip._internal.cli.main import main

sys.exit(main())
"""
