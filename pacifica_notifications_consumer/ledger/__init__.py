"""The ledger: one SQLite database with every notification and every job, and the only truth about them."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .coverage import MissedCounts
    from .ledger import Ledger
    from .records import EndedJob, Records
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(__name__, coverage="MissedCounts", ledger="Ledger", records="EndedJob Records")

__all__ = ["EndedJob", "Ledger", "MissedCounts", "Records"]
