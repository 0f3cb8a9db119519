"""The subscription at the producer: making, watching and repairing it."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .incident import Incident, IncidentKind
    from .reachability import check_reachability, check_user, find_target_url
    from .subscription import Subscription, mint_token, subscribed
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(
        __name__,
        incident="Incident IncidentKind",
        reachability="check_reachability check_user find_target_url",
        subscription="Subscription mint_token subscribed",
    )

__all__ = [
    "Incident",
    "IncidentKind",
    "Subscription",
    "check_reachability",
    "check_user",
    "find_target_url",
    "mint_token",
    "subscribed",
]
