"""The HTTP API of cartd, which prepares carts on the server and sends each as one tar.

Observed on pacifica-cartd 0.7.0.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator, Mapping
from http import HTTPStatus

import attrs

from ..cloudevents.notification import FileRecord
from ..streams.json_pieces import json_pieces
from ..streams.tar_stream import TarStream
from .base import PATIENT_TRIES, ServiceClient, reading


class CartState(enum.Enum):
    """The states of a cart; the values are those of the header ``X-Pacifica-Status``."""

    STAGING = "staging"
    READY = "ready"
    ERROR = "error"
    UNKNOWN = "unknown"


@attrs.frozen
class CartStatus:
    """A cart's state, and cartd's message if there is an error."""

    state: CartState
    message: str = ""


class Cartd(ServiceClient):
    """Creates, polls, downloads and deletes carts.

    All methods raise `ServiceError` when cartd cannot be reached, refuses, or answers with nonsense.
    """

    title = "cartd"
    setting = "cartd_url"
    # All requests may be repeated: creating a cart of the same name twice does no harm.
    tries = PATIENT_TRIES

    def create(self, uid: str, files: Mapping[str, FileRecord]) -> None:
        """Request a cart of files by their paths in it."""
        fileids = (
            {"id": file.id, "path": path, "hashtype": file.hashtype, "hashsum": file.hashsum}
            for path, file in files.items()
        )
        body = b'{"fileids": [' + b"".join(json_pieces(fileids)) + b"]}"
        headers = {"Content-Type": "application/json"}
        self.request("POST", f"/{uid}", expect=(HTTPStatus.CREATED,), data=body, headers=headers)

    def status(self, uid: str) -> CartStatus:
        """Query the state of a cart."""
        expect = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND, HTTPStatus.INTERNAL_SERVER_ERROR)
        response = self.request("HEAD", f"/{uid}", expect=expect)
        if response.status_code == HTTPStatus.NOT_FOUND:
            return CartStatus(CartState.UNKNOWN, response.headers.get("X-Pacifica-Message", ""))
        try:
            state = CartState(response.headers.get("X-Pacifica-Status", ""))
        except ValueError:
            raise self.refusal("HEAD", f"/{uid}", response) from None
        return CartStatus(state, response.headers.get("X-Pacifica-Message", ""))

    @contextlib.contextmanager
    def open(self, uid: str) -> Iterator[TarStream]:
        """Open the tar of a cart that is ready; reading the stream raises `BrokenOff` when the connection breaks.

        The first component of each member's name is chosen by cartd, the rest is the path given to `create`. The same
        holds for carts that cartd is configured to bundle.
        """
        # Keeps proxies from compressing the tar.
        plain = {"Accept-Encoding": "identity"}
        with self.request("GET", f"/{uid}?filename=data", stream=True, headers=plain) as response:
            yield TarStream(reading(response, f"the files from {self.title} at {self.url}"))

    def delete(self, uid: str) -> None:
        """Delete a cart, if it exists."""
        self.request("DELETE", f"/{uid}", expect=(HTTPStatus.OK, HTTPStatus.NOT_FOUND), tries=1)
