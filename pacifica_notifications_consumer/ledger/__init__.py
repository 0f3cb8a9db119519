"""The ledger: one SQLite database with every notification and every job, and the only truth about them."""

from .ledger import Ledger

__all__ = ["Ledger"]
