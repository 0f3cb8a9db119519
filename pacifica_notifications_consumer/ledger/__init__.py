"""The ledger: one SQLite database with every notification and every job, and the only truth about them."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .coverage import MissedCounts
    from .records import EndedJob
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(__name__, coverage="MissedCounts", records="EndedJob")

__all__ = ["EndedJob", "MissedCounts"]
