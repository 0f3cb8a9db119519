"""The paths of the project's files."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
NOTIFICATIONS = DATA / "notifications"
#: /proc for the tests themselves, by a way that is also open where `other_system` hides it from what they test.
PROC = Path("/dev/../proc")
#: The folder that takes away from each Python with it on its PYTHONPATH what only Linux has.
OTHER_SYSTEM = ROOT / "tests" / "support" / "other_system"
