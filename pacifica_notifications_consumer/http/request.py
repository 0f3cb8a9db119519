"""The head of an HTTP request: the request line and the header fields (RFC 9112)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, cast

import attrs

from .errors import HTTPError
from .limits import ServerLimits

#: Maximum number of digits of a ``Content-Length``.
_LONGEST_LENGTH = 18
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
#: A request target in origin or absolute form (RFC 9112, section 3.2).
_TARGET = re.compile(r"(?:https?://[^/?]*)?([^?]*)\??(.*)", re.IGNORECASE | re.DOTALL | re.ASCII)
#: A host with or without a port (RFC 9110, section 7.2), which may be empty.
_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
_CHUNKED = re.compile(r"[ \t]*chunked[ \t]*", re.IGNORECASE | re.ASCII)
_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+|/[\x21-\x7e\x80-\xff]*) HTTP/([0-9])\.([0-9])")
#: Optional white space (RFC 9110, section 5.6.3); without an argument, `str.strip` removes other characters as well.
OWS = " \t"


class Headers(Mapping[str, str]):
    """The header fields of a request, in its order; names are case-insensitive."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self._fields = fields
        # Of several fields with the same name, the first counts.
        self._values = {name.lower(): value for name, value in reversed(fields)}

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _ in self._fields))

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: str, default: Any = None) -> Any:
        """The first value of a field."""
        return self._values.get(name.lower(), default)

    def get_all(self, name: str) -> list[str]:
        """All values of a field, in the order of the request."""
        if len(self._fields) == len(self._values):  # usually no field is there twice
            return [self._values[name.lower()]] if name in self else []
        return [value for each, value in self._fields if each.lower() == name.lower()]

    def body_length(self) -> int | None:
        """The size of the body in bytes (RFC 9112, section 6.3); None if it is chunked.

        Raises:
            HTTPError: The size is ambiguous or malformed. A proxy could then see the end of the request at another
                place (request smuggling, RFC 9112, section 11.2).
        """
        codings = self.get("Transfer-Encoding")
        length = self.get("Content-Length")
        if codings is not None:
            if length is not None:
                raise HTTPError(HTTPStatus.BAD_REQUEST, "the request has both Content-Length and Transfer-Encoding")
            if not _CHUNKED.fullmatch(codings) or len(self.get_all("Transfer-Encoding")) > 1:
                raise HTTPError(HTTPStatus.NOT_IMPLEMENTED, "the only supported Transfer-Encoding is chunked")
            return None
        if length is None:
            return 0
        if "," in length or len(self.get_all("Content-Length")) > 1:
            raise HTTPError(HTTPStatus.BAD_REQUEST, "the request has more than one Content-Length")
        if not (length.isascii() and length.isdigit()):
            raise HTTPError(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
        if len(length) > _LONGEST_LENGTH:
            raise HTTPError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Content-Length is too large")
        return int(length)


@attrs.frozen
class Head:
    """The head of a request."""

    method: str
    target: str
    version: str  #: such as ``HTTP/1.1``
    headers: Headers

    @classmethod
    def parse(cls, head: bytes, most_fields: int = ServerLimits().fields) -> Head:
        """Parse a head without the empty line at its end.

        Raises:
            HTTPError: It is malformed, has too many fields, or asks for a version other than HTTP/1.
        """
        request_line, *lines = head.decode("latin-1").split("\r\n")
        if (found := _REQUEST_LINE.fullmatch(request_line)) is None:
            raise HTTPError(HTTPStatus.BAD_REQUEST, "the request line is malformed")
        method, target, major, minor = found.groups()
        if major != "1":
            reason = f"HTTP/{major}.{minor} is not supported; use HTTP/1.1"
            raise HTTPError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, reason)
        if len(lines) > most_fields:
            reason = f"the request has more than {most_fields} header fields"
            raise HTTPError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)
        headers = Headers([parse_field(line) for line in lines])
        hosts = headers.get_all("Host")
        if len(hosts) > 1 or (not hosts and minor != "0") or not all(map(_HOST.fullmatch, hosts)):
            raise HTTPError(HTTPStatus.BAD_REQUEST, "the request must have one valid Host")
        if minor == "0" and "Transfer-Encoding" in headers:
            raise HTTPError(HTTPStatus.BAD_REQUEST, "a request of HTTP/1.0 cannot have a Transfer-Encoding")
        return cls(method, target, f"HTTP/1.{minor}", headers)

    @property
    def keeps_connection(self) -> bool:
        """Whether the connection stays open after the response (RFC 9112, section 9.3)."""
        given = ",".join(self.headers.get_all("Connection")).lower()
        options = [option.strip(OWS) for option in given.split(",")]
        return "close" not in options and (self.version != "HTTP/1.0" or "keep-alive" in options)


def split_target(target: str) -> tuple[str, str]:
    """The path of a request target, which is still percent-encoded, and the query."""
    if target.startswith("/"):
        path, _, query = target.partition("?")
    else:
        path, query = cast("re.Match[str]", _TARGET.match(target)).groups()
    return path or "/", query


def parse_field(line: str) -> tuple[str, str]:
    """The name and the value of a header field or a trailer field, from its line without the line end."""
    name, colon, value = line.partition(":")
    if not colon or not _NAME.fullmatch(name):
        raise HTTPError(HTTPStatus.BAD_REQUEST, "a header field is malformed")
    if _FORBIDDEN.search(value):
        raise HTTPError(HTTPStatus.BAD_REQUEST, f"the header field {name} contains control characters")
    return name, value.strip(OWS)
