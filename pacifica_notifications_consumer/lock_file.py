"""What an environment holds, written down as requirements."""

from __future__ import annotations

import json
from importlib.metadata import Distribution, distributions

from .installer import Installer
from .interpreter import Interpreter
from .venv import Venv
from .wheel import DISTRIBUTION


def write_lock(venv: Venv, interpreter: Interpreter, installer: Installer) -> int:
    """Write the lock file of an environment; returns how many packages there are."""
    found = {each.name.lower().replace("_", "-"): each for each in distributions(path=[str(venv.site_packages)])}
    lines = [f"# Python {interpreter.version}, installed with {installer.name} {installer.version}"]
    for name in sorted(found):
        if name == DISTRIBUTION:
            # It comes with the runner, never from an index.
            lines.append(f"# {name}=={found[name].version}")
        else:
            lines.append(_requirement(name, found[name]))
    venv.lock.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return len(found)


def _requirement(name: str, package: Distribution) -> str:
    try:
        url = json.loads(package.read_text("direct_url.json") or "{}").get("url")
    except ValueError:
        url = None
    return f"{name} @ {url}" if url else f"{name}=={package.version}"
