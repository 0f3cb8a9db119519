"""Streams: reading tars, writing JSON, hashing, and the progress of transfers."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .progress import Progress
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(__name__, progress="Progress")

__all__ = ["Progress"]
