"""The rules of receiving notifications, for any server and any web framework."""

from .endpoint import MAX_BODY, MAX_EVENTS, MAX_SIGNED_BODY, METRICS_TYPE, RECEIVE, Delivery, Endpoint
from .messages import HTTPRequest, HTTPResponse
from .webhooks import Rate, Signatures

__all__ = [
    "MAX_BODY",
    "MAX_EVENTS",
    "MAX_SIGNED_BODY",
    "METRICS_TYPE",
    "RECEIVE",
    "Delivery",
    "Endpoint",
    "HTTPRequest",
    "HTTPResponse",
    "Rate",
    "Signatures",
]
