"""CloudEvents over HTTP, versions 0.1 to 1.0: finds the mode of a request, and the events in it."""

from __future__ import annotations

import enum
import json
import re
from functools import lru_cache

import attrs

from ..errors import NotificationError, UnknownFormat
from ..http.request import Headers
from .binary import make_envelope
from .notification import json_error, json_kind

_STRUCTURED, _BATCH = "application/cloudevents", "application/cloudevents-batch"
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105
_PARAMETER = re.compile(rf';[ \t]*({_TOKEN})[ \t]*=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")[ \t]*')
_MEDIA_TYPE = re.compile(rf"[ \t]*({_TOKEN}/{_TOKEN})[ \t]*")
#: The character sets that `json.detect_encoding` tells apart.
_JSON_CHARSETS = re.compile(r"utf-?(8|16|32)(-?[bl]e)?|us-ascii", re.IGNORECASE | re.ASCII)
_SPACE = re.compile(r"[ \t\r\n]*")


class Mode(enum.Enum):
    """How a request carries events (CloudEvents, HTTP binding, section 3)."""

    #: The body is the event.
    STRUCTURED = "structured"
    #: The body is the event's data, and header fields are its attributes.
    BINARY = "binary"
    #: The body is an array of events.
    BATCH = "batch"


@attrs.frozen
class MediaType:
    """The media type and the character set of a ``Content-Type``, in lower case; empty if none is named."""

    name: str = ""
    charset: str = ""

    @staticmethod
    @lru_cache(maxsize=256)
    def parse(value: str) -> MediaType:
        """Parse a header field's value; the name is empty if it is not a media type."""
        found = _MEDIA_TYPE.match(value)
        if found is None:
            return MediaType()
        charset = ""
        for name, token, quoted in _PARAMETER.findall(value, found.end()):
            if name.lower() == "charset" and not charset:
                charset = (token or re.sub(r"\\(.)", r"\1", quoted)).lower()
        return MediaType(found[1].lower(), charset)

    @property
    def is_json(self) -> bool:
        """Whether the type is JSON or based on JSON (RFC 6839)."""
        return self.name.endswith(("/json", "+json"))


def mode_of(content_type: str, headers: Headers) -> Mode:
    """Determine the mode of a request; raises `UnknownFormat` for a format of CloudEvents other than JSON."""
    name = MediaType.parse(content_type).name
    if not name.startswith(_STRUCTURED):
        return Mode.BINARY if "ce-specversion" in headers or "ce-cloudeventsversion" in headers else Mode.STRUCTURED
    prefix, mode = (_BATCH, Mode.BATCH) if name.startswith(_BATCH) else (_STRUCTURED, Mode.STRUCTURED)
    if name not in (prefix, f"{prefix}+json"):
        raise UnknownFormat(f"the format {name} is not supported", f"send {prefix}+json")
    return mode


def read_events(mode: Mode, content_type: str, headers: Headers, body: bytes, most: int) -> list[bytes]:
    """Return the events of a request, each as JSON: any number in a batch, one in other modes.

    The event of structured mode is the unchanged and unchecked body.

    Raises:
        UnknownFormat: The character set is not supported.
        NotificationError: The event in binary mode or the batch is malformed, or the batch has too many events.
    """
    media_type = MediaType.parse(content_type)
    if mode is Mode.BINARY:
        return [make_envelope(headers, content_type, media_type.is_json, media_type.charset, body)]
    if media_type.charset and not _JSON_CHARSETS.fullmatch(media_type.charset):
        raise UnknownFormat(f"the character set {media_type.charset} is not supported for JSON", "send UTF-8")
    return [body] if mode is Mode.STRUCTURED else split_batch(body, most)


def split_batch(body: bytes, most: int) -> list[bytes]:
    """Split a batch into its events, whose text is unchanged, in UTF-8.

    Raises:
        NotificationError: It is not a JSON array of objects, has too many events, or events of different versions.
    """
    try:
        text = body.decode(json.detect_encoding(body))
        events = _elements(text, most)
    except NotificationError:
        raise  # also a ValueError, with its own advice
    except (ValueError, RecursionError) as error:
        raise json_error("the batch", error, "send an array of CloudEvents") from error
    versions = {json.dumps(event.get("specversion", event.get("cloudEventsVersion"))) for event, _ in events}
    if len(versions) > 1:
        raise NotificationError(
            f"the batch has events of several versions: {', '.join(sorted(versions))}",
            "send a separate batch for each version",
        )
    return [piece.encode("utf-8", "surrogatepass") for _, piece in events]


def _elements(text: str, most: int) -> list[tuple[dict[str, object], str]]:
    decoder = json.JSONDecoder()
    found: list[tuple[dict[str, object], str]] = []
    position = _skip(text, 0)
    if not text.startswith("[", position):
        raise NotificationError("the batch is not an array", "send an array of CloudEvents")
    position = _skip(text, position + 1)
    while found or not text.startswith("]", position):
        event, end = decoder.raw_decode(text, position)
        if not isinstance(event, dict):
            problem = f"element {len(found) + 1} of the batch is a JSON {json_kind(event)}"
            raise NotificationError(problem, "send an array of objects")
        if len(found) == most:
            raise NotificationError(f"the batch has more than {most} events", "send smaller batches")
        found.append((event, text[position:end]))
        position = _skip(text, end)
        if text.startswith("]", position):
            break
        if not text.startswith(",", position):
            raise json.JSONDecodeError(f"a comma is missing after element {len(found)}", text, position)
        position = _skip(text, position + 1)
    if (end := _skip(text, position + 1)) != len(text):
        raise json.JSONDecodeError("unexpected text after the array", text, end)
    return found


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return position if found is None else found.end()
