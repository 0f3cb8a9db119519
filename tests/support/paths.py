"""The paths of the project's files."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
NOTIFICATIONS = DATA / "notifications"
