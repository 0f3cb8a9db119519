"""CloudEvents in binary mode: makes the JSON event of the header fields and the body."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import NotificationError, UnknownFormat
from ..http.request import OWS, Headers
from .notification import json_error
from .versions import SPECVERSIONS, VERSIONS, Version

_PREFIX = "ce-"
_ESCAPED = re.compile(rb"%(?![0-9A-Fa-f]{2})")
#: The accepted character sets. Some of Python's other codecs take very long for malicious input.
_CHARSETS = re.compile(r"utf-?(8|16|32)(-?[bl]e)?|us-ascii|iso-8859-\d{1,2}|windows-125\d", re.IGNORECASE | re.ASCII)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)


def make_envelope(headers: Headers, content_type: str, is_json: bool, charset: str, body: bytes) -> bytes:
    """Make the JSON of an event from a request in binary mode; type and character set are those of ``Content-Type``.

    Raises:
        NotificationError: A header field is malformed, the version is not supported, or the data are not JSON although
            the ``Content-Type`` is.
        UnknownFormat: The character set is not supported.
    """
    fields = {name.lower(): headers[name] for name in headers if name.lower().startswith(_PREFIX)}
    for field in fields:
        if len(headers.get_all(field)) > 1:
            raise NotificationError(f"the request has more than one header field {field}", "send each attribute once")
    number = _version_of(fields)
    version = VERSIONS[number]
    event: dict[str, Any] = {}
    extensions: dict[str, Any] = {}
    for field, raw in fields.items():
        name = field.removeprefix(_PREFIX)
        if name == version.media_type.lower():
            raise NotificationError(f"the header field {field} is not allowed", "use Content-Type instead")
        if name in version.header_names:
            event[version.header_names[name]] = _text_of(field, raw, version)
        else:
            _put(extensions, name, _value_of(field, raw, version), version)
    if version.bag:
        event[version.bag] = extensions
    else:
        event |= extensions
    if content_type:
        event[version.media_type] = content_type
    if body:
        event |= dict(_data(number, body, content_type, is_json=is_json, charset=charset))
    return json.dumps(event, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _version_of(fields: Mapping[str, str]) -> str:
    field = "ce-cloudeventsversion" if "ce-specversion" not in fields else "ce-specversion"
    number = fields[field].strip(OWS).strip('"')
    known = ("0.1",) if field == "ce-cloudeventsversion" else SPECVERSIONS
    if number not in known:
        raise NotificationError(f"{field} {number[:20]!r} is not supported", f"send {' or '.join(known)}")
    return number


def _text_of(field: str, raw: str, version: Version) -> str:
    value = _value_of(field, raw, version)
    if isinstance(value, str):
        return value
    # An unquoted 0.1 is a number in JSON, but meant as the version.
    return _unescaped(field, raw)


def _value_of(field: str, raw: str, version: Version) -> Any:
    if not version.in_json:
        # Undo the quoting of HTTP (RFC 7230, section 3.2.6).
        return _unescaped(field, _QUOTED.sub(lambda found: re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL), raw))
    text = _unescaped(field, raw)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        # The HTTP binding of these versions, section 3.1.3.2, demands JSON, but most senders send plain text.
        return text


def _unescaped(field: str, text: str) -> str:
    data = text.encode("latin-1", "replace")
    if _ESCAPED.search(data):
        # Older senders do not escape percent signs: one that does not begin an escape sequence is a plain character.
        data = _ESCAPED.sub(b"%25", data)
    try:
        return urllib.parse.unquote_to_bytes(data).decode("utf-8")
    except UnicodeDecodeError:
        raise NotificationError(f"the header field {field} is not UTF-8 when decoded", "send UTF-8") from None


def _put(extensions: dict[str, Any], name: str, value: Any, version: Version) -> None:
    if version.bag:
        for prefix in (f"{version.bag}-", "x-"):
            name = name.removeprefix(prefix)
    outer, dash, inner = name.partition("-")
    if version.nested and dash and outer and inner and isinstance(extensions.get(outer, {}), dict):
        extensions.setdefault(outer, {})[inner] = value
    else:
        extensions[name] = value


def _data(number: str, body: bytes, content_type: str, *, is_json: bool, charset: str) -> Iterator[tuple[str, Any]]:
    """Yield the attributes for the data."""
    if is_json or not content_type:
        found, value = _from_json(body, charset, must=is_json)
        if found:
            yield "data", value
            return
    if charset or content_type.lower().startswith("text/") or "xml" in content_type.lower():
        text = _as_text(body, charset or "utf-8")
        if text is not None:
            yield "data", text
            return
    encoded = base64.b64encode(body).decode("ascii")
    yield "data_base64" if number == "1.0" else "data", encoded
    if number == "0.3":
        yield "datacontentencoding", "base64"


def _from_json(body: bytes, charset: str, *, must: bool) -> tuple[bool, Any]:
    if charset and not _CHARSETS.fullmatch(charset):
        raise UnknownFormat(f"the character set {charset[:40]} is not supported", "send UTF-8")
    try:
        return True, json.loads(body.decode(charset) if charset else body)
    except LookupError:
        raise UnknownFormat(f"the character set {charset[:40]} is not supported", "send UTF-8") from None
    except (ValueError, RecursionError) as error:
        if must:
            raise json_error("the event's data", error, "send JSON or correct the Content-Type") from error
        return False, None


def _as_text(body: bytes, charset: str) -> str | None:
    try:
        return body.decode(charset) if _CHARSETS.fullmatch(charset) else None
    except (LookupError, UnicodeDecodeError):
        return None
