"""Finding transactions whose notifications never arrived."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .catch_up import CatchUpRules, catching_up
    from .seeker import CatchUpStore, LedgerStore
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(__name__, catch_up="CatchUpRules catching_up", seeker="CatchUpStore LedgerStore")

__all__ = ["CatchUpRules", "CatchUpStore", "LedgerStore", "catching_up"]
