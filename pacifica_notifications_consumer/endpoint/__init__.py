"""The rules of receiving notifications, for any server and any web framework."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .endpoint import Delivery, Endpoint
    from .messages import HTTPRequest, HTTPResponse
    from .webhooks import Rate, Signatures
else:
    from ..exports import lazy

    __getattr__, __dir__ = lazy(
        __name__, endpoint="Delivery Endpoint", messages="HTTPRequest HTTPResponse", webhooks="Rate Signatures"
    )

__all__ = ["Delivery", "Endpoint", "HTTPRequest", "HTTPResponse", "Rate", "Signatures"]
