"""Ways to ask the rules of the endpoint, without a server."""

import base64
import hashlib
import hmac
import io
import json
import time
from collections.abc import Mapping
from typing import Any

from pacifica_notifications_consumer.endpoint import Endpoint, HTTPRequest, HTTPResponse
from pacifica_notifications_consumer.endpoint.endpoint import RECEIVE

TOKEN = "right"
#: Secrets of webhooks.
SECRETS = [base64.b64encode(bytes([number]) * 32).decode() for number in range(3)]
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


def ask(
    endpoint: Endpoint,
    method: str = "POST",
    target: str = RECEIVE,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> HTTPResponse:
    """Have a request answered that tells the length of its body, if it has one."""
    length = {"Content-Length": str(len(body))} if method == "POST" else {}
    return endpoint.answer(
        HTTPRequest(method, target, length | dict(headers or {}), io.BytesIO(body).read, "192.0.2.1")
    )


def post(endpoint: Endpoint, body: bytes | dict[str, Any] | list[Any], **headers: str) -> HTTPResponse:
    """Post something with the token."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ask(endpoint, body=data, headers=AUTHORIZED | headers)


def said(response: HTTPResponse) -> Any:
    """The document of a response."""
    return json.loads(response.body)


def signature(secret: str, body: bytes, message_id: str = "msg_1", at: float | None = None) -> dict[str, str]:
    """The header fields of an event that is signed at a time, by default now."""
    stamp = str(int(time.time() if at is None else at))
    mac = hmac.digest(base64.b64decode(secret), f"{message_id}.{stamp}.".encode() + body, hashlib.sha256)
    fields = {"webhook-id": message_id, "webhook-timestamp": stamp}
    signed = f"v1,{base64.b64encode(mac).decode()}"
    return fields | {"webhook-signature": signed, "Content-Type": "application/cloudevents+json"}


def send(endpoint: Endpoint, body: bytes, headers: Mapping[str, str]) -> int:
    """Post something without the token; returns the status."""
    return ask(endpoint, body=body, headers=headers).status
