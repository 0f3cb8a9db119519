"""CloudEvents over HTTP: in which mode a request carries events, and the events in it (versions 0.1 to 1.0)."""

from __future__ import annotations

import enum
import json
import re
from functools import lru_cache

import attrs

from ..errors import NotificationError, UnknownFormat
from ..http.request import Headers
from .binary import make_envelope
from .notification import json_kind

_STRUCTURED, _BATCH = "application/cloudevents", "application/cloudevents-batch"
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105
_PARAMETER = re.compile(rf';\s*({_TOKEN})\s*=\s*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")\s*')
_MEDIA_TYPE = re.compile(rf"\s*({_TOKEN}/{_TOKEN})\s*")
#: Encodings of Unicode that JSON may come in, and that tell themselves apart.
_JSON_CHARSETS = re.compile(r"utf-?(8|16|32)(-?[bl]e)?|us-ascii", re.IGNORECASE)
_SPACE = re.compile(r"[ \t\r\n]*")


class Mode(enum.Enum):
    """How a request carries events."""

    #: The body is the event.
    STRUCTURED = "structured"
    #: The body is the event's data, and header fields are its attributes.
    BINARY = "binary"
    #: The body is an array of events.
    BATCH = "batch"


@attrs.frozen
class MediaType:
    """What a ``Content-Type`` says.

    Args:
        name: The type, in lower case.
        charset: The character set that is named, in lower case; empty if none is.
    """

    name: str = ""
    charset: str = ""

    @classmethod
    def parse(cls, value: str) -> MediaType:
        """Read the value of a header field; an empty name if it is none."""
        return _parse(value)

    @property
    def is_json(self) -> bool:
        """Whether it is JSON, or something that is written as JSON."""
        return self.name.endswith(("/json", "+json"))


@lru_cache(maxsize=256)
def _parse(value: str) -> MediaType:
    found = _MEDIA_TYPE.match(value)
    if found is None:
        return MediaType()
    charset = ""
    for name, token, quoted in _PARAMETER.findall(value, found.end()):
        if name.lower() == "charset" and not charset:
            charset = (token or re.sub(r"\\(.)", r"\1", quoted)).lower()
    return MediaType(found[1].lower(), charset)


def mode_of(content_type: str, headers: Headers) -> Mode:
    """Find out in which mode a request is.

    Args:
        content_type: Its ``Content-Type``; empty if it has none.
        headers: Its header fields, found in any case.

    Raises:
        UnknownFormat: It is of CloudEvents, but in a format that is not known here.
    """
    name = MediaType.parse(content_type).name
    if not name.startswith(_STRUCTURED):
        return Mode.BINARY if "ce-specversion" in headers or "ce-cloudeventsversion" in headers else Mode.STRUCTURED
    prefix, mode = (_BATCH, Mode.BATCH) if name.startswith(_BATCH) else (_STRUCTURED, Mode.STRUCTURED)
    if name not in (prefix, f"{prefix}+json"):
        raise UnknownFormat(f"the format {name} is not known here", f"send {prefix}+json")
    return mode


def read_events(mode: Mode, content_type: str, headers: Headers, body: bytes, most: int) -> list[bytes]:
    """Find the events in a request, each as its JSON; one of structured mode byte for byte.

    Args:
        mode: The mode that it is in.
        content_type: Its ``Content-Type``; empty if it has none.
        headers: Its header fields, found in any case.
        body: Its body.
        most: How many events a batch may have.

    Returns:
        The events; exactly one but for batches, which may be empty.

    Raises:
        UnknownFormat: The format is not known here.
        NotificationError: The request is none of CloudEvents' modes; in structured mode that is for others to say.
    """
    media_type = MediaType.parse(content_type)
    if mode is Mode.BINARY:
        return [make_envelope(headers, content_type, media_type.is_json, media_type.charset, body)]
    if media_type.charset and not _JSON_CHARSETS.fullmatch(media_type.charset):
        raise UnknownFormat(f"JSON does not come in {media_type.charset}", "send it in UTF-8")
    return [body] if mode is Mode.STRUCTURED else split_batch(body, most)


def split_batch(body: bytes, most: int) -> list[bytes]:
    """Cut a batch into its events, each byte for byte, in UTF-8.

    Raises:
        NotificationError: It is no JSON array of objects, has too many, or they are of different versions.
    """
    try:
        text = body.decode(json.detect_encoding(body))
        events = list(_elements(text, most))
    except (ValueError, RecursionError) as error:
        raise NotificationError(f"the batch is not JSON: {error}", "send an array of CloudEvents") from error
    versions = {json.dumps(event.get("specversion", event.get("cloudEventsVersion"))) for event, _ in events}
    if len(versions) > 1:
        raise NotificationError(
            f"the batch has events of several versions: {', '.join(sorted(versions))}",
            "send them in batches of their own",
        )
    return [piece.encode("utf-8", "surrogatepass") for _, piece in events]


def _elements(text: str, most: int) -> list[tuple[dict[str, object], str]]:
    decoder = json.JSONDecoder()
    found: list[tuple[dict[str, object], str]] = []
    position = _skip(text, 0)
    if text[position : position + 1] != "[":
        raise NotificationError("the batch is no array", "send an array of CloudEvents")
    position = _skip(text, position + 1)
    if text[position : position + 1] == "]":
        return _ended(text, position, found)
    while True:
        event, end = decoder.raw_decode(text, position)
        if not isinstance(event, dict):
            number = len(found) + 1
            raise NotificationError(f"element {number} of the batch is a JSON {json_kind(event)}", "send only objects")
        if len(found) == most:
            raise NotificationError(f"the batch has more than {most} events", "send fewer at a time")
        found.append((event, text[position:end]))
        position = _skip(text, end)
        if text[position : position + 1] == "]":
            return _ended(text, position, found)
        if text[position : position + 1] != ",":
            raise ValueError(f"a comma is missing after element {len(found)}")
        position = _skip(text, position + 1)


def _ended(text: str, position: int, found: list[tuple[dict[str, object], str]]) -> list[tuple[dict[str, object], str]]:
    if _skip(text, position + 1) != len(text):
        raise ValueError("something follows the array")
    return found


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return position if found is None else found.end()
