"""Ways to ask the rules of the endpoint, without a server."""

import io
import json
from collections.abc import Mapping
from typing import Any

from pacifica_notifications_consumer.endpoint import Endpoint, HTTPRequest, HTTPResponse
from pacifica_notifications_consumer.endpoint.endpoint import RECEIVE

TOKEN = "right"
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
