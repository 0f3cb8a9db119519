"""The operating system: users, processes, files, logs."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .account import Account
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(__name__, account="Account")

__all__ = ["Account"]
