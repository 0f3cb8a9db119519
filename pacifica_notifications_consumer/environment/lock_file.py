"""The lock file of an environment: its packages as a requirements file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions

from .installer import Installer
from .interpreter import Interpreter
from .venv import Venv
from .wheel import DISTRIBUTION, MISNOMER


def list_packages(venv: Venv) -> list[str]:
    """List the packages in an environment, each as a line of a requirements file."""
    found = {each.name.lower().replace("_", "-"): each for each in distributions(path=[str(venv.site_packages)])}
    # This library is a comment, since it comes with the runner and never from an index.
    return [
        f"# {name}=={found[name].version}" if name == DISTRIBUTION else _requirement(name, found[name])
        for name in sorted(found)
        if name != MISNOMER
    ]


def lock_file(packages: Iterable[str], interpreter: Interpreter, installer: Installer) -> str:
    """Format the lock file of an environment."""
    made_by = f"# Python {interpreter.version}, installed with {installer.name} {installer.version}"
    # Names and addresses are the packages' own, and must not add lines.
    return "\n".join([made_by, *(" ".join(package.split()) for package in packages), ""])


def _requirement(name: str, package: Distribution) -> str:
    try:
        url = json.loads(package.read_text("direct_url.json") or "{}").get("url")
    except (ValueError, AttributeError, RecursionError):
        url = None
    return f"{name} @ {url}" if url else f"{name}=={package.version}"
