"""The HTTP API of Pacifica's proxy, which sends single files, named by their hashes, without a cart.

Observed on pacifica-proxy 0.1.6.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import quote

from ..cloudevents.notification import FileRecord
from .base import Readinto, ServiceClient, reading


class Proxy(ServiceClient):
    """Downloads files."""

    title = "the proxy"
    setting = "proxy_url"
    # Few, as cartd can send the files, too.
    tries = 2

    @contextlib.contextmanager
    def open(self, file: FileRecord) -> Iterator[Readinto]:
        """Open a file; yields a function that reads its content into a buffer, see `reading`."""
        path = f"/files/{quote(file.hashtype, safe='')}/{quote(file.hashsum, safe='')}"
        plain = {"Accept-Encoding": "identity"}
        with self.request("GET", path, stream=True, headers=plain) as response:
            yield reading(response, f"{file.path!r} from {self.title} at {self.url}")
