"""The lock file of an environment: its packages as a requirements file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from email.parser import HeaderParser
from pathlib import Path

from ..system.files import read_regular
from .installer import Installer
from .interpreter import Interpreter
from .venv import Venv
from .wheel import DISTRIBUTION, MISNOMER

#: Bytes that are read of a file of metadata: the name and the version are at its beginning.
_HEAD = 64 << 10


def list_packages(venv: Venv) -> list[str]:
    """List the packages in an environment, each as a line of a requirements file."""
    found = {}
    # Not with `importlib.metadata`, which would also wait for pipes, and read endless files.
    for folder in venv.site_packages.glob("*.*-info"):
        about = HeaderParser().parsestr(_text(folder / "METADATA") or _text(folder / "PKG-INFO") or _text(folder))
        if (name := about["Name"]) and (version := about["Version"]):
            found[name.lower().replace("_", "-")] = folder, version
    # This library is a comment, since it comes with the runner and never from an index.
    return [
        f"# {name}=={found[name][1]}" if name == DISTRIBUTION else _requirement(name, *found[name])
        for name in sorted(found)
        if name != MISNOMER
    ]


def lock_file(packages: Iterable[str], interpreter: Interpreter, installer: Installer) -> str:
    """Format the lock file of an environment."""
    made_by = f"# Python {interpreter.version}, installed with {installer.name} {installer.version}"
    # Names and addresses are the packages' own, and must not add lines.
    return "\n".join([made_by, *(" ".join(package.split()) for package in packages), ""])


def _text(path: Path) -> str:
    return read_regular(path, b"", _HEAD).decode("utf-8", "replace")


def _requirement(name: str, folder: Path, version: str) -> str:
    try:
        url = json.loads(_text(folder / "direct_url.json") or "{}").get("url")
    except (ValueError, AttributeError, RecursionError):
        url = None
    return f"{name} @ {url}" if url else f"{name}=={version}"
