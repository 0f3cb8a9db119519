"""The ledger: one SQLite database with every notification and every job, and the only truth about them."""

from .coverage import Coverage, MissedCounts
from .ledger import Ledger, RemoteJob
from .records import EndedJob

__all__ = ["Coverage", "EndedJob", "Ledger", "MissedCounts", "RemoteJob"]
