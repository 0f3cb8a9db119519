"""What installs packages into an environment: uv or pip, from outside of it, with the same results."""

from __future__ import annotations

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

#: Settings that would have packages put into another place than the environment.
_ELSEWHERE = frozenset({"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "UV_TARGET", "UV_PREFIX"})
#: What of pip's settings says where packages come from, and how uv calls it.
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

#: Arguments that each installer understands: requirements files, and packages.
What = Sequence[str | Path]


class Installer(Protocol):
    """Installs packages into environments."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def version(self) -> str:
        """Which version it is."""
        ...

    def command(self, venv: Venv, what: What, environ: Mapping[str, str], *, hashes: bool) -> list[str | Path]:
        """The command that installs, and compiles what it installs.

        Args:
            venv: Where to.
            what: What.
            environ: The variables that it will have.
            hashes: Whether all of it must have a hash, and be what it belongs to.
        """
        ...

    def shown(self, line: str) -> bool:
        """Whether people who wait want to see a line that it prints."""
        ...


@attrs.frozen(kw_only=True)
class Pip:
    """pip, as it is installed beside this library or brought along by an interpreter.

    Args:
        program: How it is started.
        version: Which it is.
    """

    program: tuple[str, ...]
    version: str
    name: str = "pip"

    @classmethod
    def find(cls, interpreter: Interpreter) -> Pip | None:
        """Find one."""
        try:
            # Not from the working directory, where a consumer's own modules lie.
            return cls(program=(sys.executable, "-P", "-m", "pip"), version=version("pip"))
        except PackageNotFoundError:
            pass
        if (wheel := interpreter.pip_wheel) is None:
            return None
        return cls(program=(interpreter.executable, f"{wheel}/pip"), version=wheel.name.split("-")[1])

    def command(self, venv: Venv, what: What, environ: Mapping[str, str], *, hashes: bool) -> list[str | Path]:
        """See `Installer.command`."""
        del environ  # pip reads it itself
        options = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--compile"]
        options += ["--require-hashes"] if hashes else []
        return [*self.program, "--python", venv.python, "install", *options, *what]

    def shown(self, line: str) -> bool:
        """See `Installer.shown`."""
        return bool(_PIP_SHOWN.match(line))


@attrs.frozen(kw_only=True)
class Uv:
    """uv.

    Args:
        program: Where it is.
        version: Which it is.
    """

    program: str
    version: str
    name: str = "uv"

    @classmethod
    def find(cls) -> Uv | None:
        """Find one, beside this interpreter or on PATH."""
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

    def command(self, venv: Venv, what: What, environ: Mapping[str, str], *, hashes: bool) -> list[str | Path]:
        """See `Installer.command`."""
        options = ["--color", "never", "--no-progress", "--no-python-downloads", "--compile-bytecode"]
        # Hard links to its cache would let an entry-point change the packages of others.
        options += ["--link-mode", "copy", *(["--require-hashes"] if hashes else [])]
        # What is set for pip, and has no variable of uv's.
        options += ["--no-index"] if environ.get("PIP_NO_INDEX", "").lower() in _YES else []
        for variable, flag in (("PIP_NO_BINARY", "--no-binary"), ("PIP_ONLY_BINARY", "--only-binary")):
            options += [f"{flag}={name}" for name in environ.get(variable, "").replace(",", " ").split()]
        return [self.program, "pip", "install", "--python", venv.python, *options, *what]

    def shown(self, line: str) -> bool:
        """See `Installer.shown`."""
        return bool(_UV_SHOWN.match(line))


_PIP_SHOWN = re.compile(r"\s*(Collecting|Downloading|Building|Installing|Using cached .*\d\d(\.\d)? [MG]B)\b")
_UV_SHOWN = re.compile(r"\s*(Resolved|Downloading|Building|Prepared|Installed)\b")


def find_installer(kind: str, interpreter: Interpreter) -> Installer:
    """Find an installer.

    Args:
        kind: ``uv``, ``pip``, or ``auto`` for uv where it is there, and else pip.
        interpreter: Of what the environment is made.

    Raises:
        ConfigurationError: There is none of this kind.
        VenvError: There is none at all.
    """
    finders: dict[str, Callable[[], Installer | None]] = {"uv": Uv.find, "pip": lambda: Pip.find(interpreter)}
    for name, find in finders.items():
        if kind in ("auto", name) and (found := find()) is not None:
            return found
    if kind == "auto":
        raise VenvError("there is neither uv nor pip", f"install one of them beside {sys.executable}: uv or pip")
    if kind not in finders:
        raise ConfigurationError(f"there is no installer {kind!r}", f"choose one of {', '.join(INSTALLERS)}")
    advice = {
        "uv": "install it with the extra [uv] of this package, or leave `installer` at auto",
        "pip": f"install it beside {sys.executable}, or set `installer` to uv",
    }
    raise ConfigurationError(f"the installer {kind} is not here", advice[kind])


def installer_environ(environ: Mapping[str, str], constraints: Path) -> dict[str, str]:
    """The variables of an installer, whichever it is: both get what is set for pip.

    Args:
        environ: The variables of the environment.
        constraints: A file of constraints that hold in any case.
    """
    changed = {name: value for name, value in environ.items() if name not in _ELSEWHERE}
    changed["PIP_CONSTRAINT"] = " ".join(filter(None, [changed.get("PIP_CONSTRAINT"), constraints.as_uri()]))
    if "UV_CONSTRAINT" in changed:
        changed["UV_CONSTRAINT"] += f" {constraints}"
    for of_pip, of_uv in _SAME_SETTINGS.items():
        if of_pip in changed and of_uv not in changed:
            value = changed[of_pip]
            # Paths with a space in them stand there as addresses.
            changed[of_uv] = ",".join(value.split()) if of_uv == "UV_FIND_LINKS" else value
    if "PIP_EXTRA_INDEX_URL" in changed:
        # As pip does: the best version of all indexes.
        changed.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return changed


def put_pip_into(venv: Venv, interpreter: Interpreter) -> bool:
    """Give an environment a pip of its own, for scripts that call it; returns whether there is one to be given.

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
        # Through the shell, since a first line may be neither long nor have spaces.
        script.write_text(f"#!/bin/sh\n'''exec' '{venv.python}' \"$0\" \"$@\"\n' '''\n{_PIP_SCRIPT}", encoding="utf-8")
        script.chmod(0o755)
    return True


_PIP_SCRIPT = """\
import sys
from pip._internal.cli.main import main

sys.exit(main())
"""
