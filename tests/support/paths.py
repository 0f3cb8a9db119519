"""The paths of the project's files."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
NOTIFICATIONS = DATA / "notifications"
#: /proc for the tests themselves, by a way that is also open where `other_system` hides it from what they test.
PROC = Path("/dev/../proc")
#: The folder that takes away from each Python with it on its PYTHONPATH what only Linux has.
OTHER_SYSTEM = ROOT / "tests" / "support" / "other_system"


def cache_variables(home: Path) -> dict[str, str]:
    """Variables that keep commands from the user's own cache, except for those of pip and uv, which spare downloads."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = {"PIP_CACHE_DIR": str(caches / "pip"), "UV_CACHE_DIR": str(caches / "uv")}
    return {name: os.environ.get(name, place) for name, place in kept.items()} | {
        "XDG_CACHE_HOME": str(home / "caches")
    }
