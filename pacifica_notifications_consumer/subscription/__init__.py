"""The subscription at the producer: making, watching and repairing it."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .incident import Incident, IncidentKind
    from .subscription import Subscription, mint_token, subscribed
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(
        __name__, incident="Incident IncidentKind", subscription="Subscription mint_token subscribed"
    )

__all__ = ["Incident", "IncidentKind", "Subscription", "mint_token", "subscribed"]
