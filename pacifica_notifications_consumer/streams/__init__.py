"""Data that streams: tars, JSON, digests, and how far a transfer is."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .progress import Progress
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(__name__, progress="Progress")

__all__ = ["Progress"]
