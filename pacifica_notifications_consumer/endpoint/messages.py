"""A request and a response as plain values, for any server and any web framework."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus

import attrs

from ..http.errors import HTTPError
from ..http.request import Headers


def _make_headers(fields: Mapping[str, str] | Iterable[tuple[str, str]]) -> Headers:
    if isinstance(fields, Headers):
        return fields
    return Headers(list(fields.items() if isinstance(fields, Mapping) else fields))


@attrs.define
class HTTPRequest:
    """A request, as a server or a web framework has received it.

    Args:
        method: The method, such as ``POST``.
        target: The path and the query, such as ``/receive?access_token=…``; also after ``http://host`` (RFC 9112,
            3.2.2).
        headers: The header fields, as a mapping or as pairs; the case of their names does not matter.
        read: Reads the next piece of the body. It is called with a number of bytes, of which the piece may have fewer
            or more, and returns no bytes at the end of the body. It is only called for a request with the
            token, or with a signature to verify. An `OSError`, `EOFError` or `ValueError` says that the body is broken:
            the response is 400, or 408 after a `TimeoutError`. Other errors pass through `Endpoint.answer`.
        peer: The client's address, for the log.
    """

    method: str
    target: str
    headers: Headers = attrs.field(converter=_make_headers)
    read: Callable[[int], bytes]
    peer: str | None = None

    def read_body(self, limit: int) -> bytes:
        """Read the whole body.

        Args:
            limit: The most bytes that it may have.

        Raises:
            HTTPError: It has more, or fewer than its ``Content-Length`` says; this is malformed; or reading fails.
        """
        length = self.headers.body_length()
        if length is not None and length > limit:
            reason = f"the body has {length} bytes, the limit is {limit}"
            raise HTTPError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
        body = self._read(limit + 1)
        return body if len(body) == length else self._read_rest(body, length, limit)

    def _read_rest(self, piece: bytes, length: int | None, limit: int) -> bytes:
        pieces = io.BytesIO()
        size = pieces.write(piece)
        while piece and size <= limit and size != length:
            piece = self._read(limit + 1 - size)
            size += pieces.write(piece)
        if size > limit:
            raise HTTPError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {limit} bytes")
        if length is not None and size < length:
            raise HTTPError(HTTPStatus.BAD_REQUEST, f"the body ended after {size} of {length} bytes")
        return pieces.getvalue()

    def _read(self, size: int) -> bytes:
        try:
            return self.read(size)
        except TimeoutError:
            raise HTTPError(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time") from None
        except (OSError, EOFError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise HTTPError(HTTPStatus.BAD_REQUEST, f"the body cannot be read: {reason}; send it again") from error


@attrs.define
class HTTPResponse:
    """A response, for a server or a web framework to send.

    Args:
        status: The status.
        body: The body; do not send it in response to ``HEAD``.
        headers: The header fields, ``Content-Type`` among them.
    """

    status: HTTPStatus
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(factory=dict)
