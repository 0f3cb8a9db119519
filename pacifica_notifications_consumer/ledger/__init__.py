"""The ledger: one SQLite database with every notification and every job, and the only truth about them."""

from .coverage import Coverage, MissedCounts
from .ledger import HandedOut, Ledger
from .records import Ended

__all__ = ["Coverage", "Ended", "HandedOut", "Ledger", "MissedCounts"]
