"""Validates events by the rules of their version of CloudEvents: attributes, types and formats."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from .versions import SPECVERSIONS, VERSIONS, Version

_DATE_AND_TIME = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt ]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?"
_ZONE = r"([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)"
_TIME = re.compile(_DATE_AND_TIME + _ZONE)
#: Pacifica's producer sends events of version 0.1, with times without zone.
_TIME_WITHOUT_ZONE = re.compile(f"{_DATE_AND_TIME}{_ZONE}?")
_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*(;.*)?", re.DOTALL)
#: The characters of a URI (RFC 3986, section 2).
_URI = re.compile(r"([A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*")
_NAME = re.compile(r"[a-z0-9]+")
_INTEGER = range(-(1 << 31), 1 << 31)


def problems_of(event: Mapping[str, Any]) -> list[str]:
    """A sentence for each violation of the event's version of CloudEvents; none if the event is valid."""
    number = event.get("specversion", "0.1")
    if "specversion" in event and number not in SPECVERSIONS:
        return [f"its specversion {str(number)[:20]!r} is not one of {', '.join(SPECVERSIONS)}"]
    version = VERSIONS[number]
    return [*_attributes(event, version), *_data(event, number), *_extensions(event, version, number)]


def _attributes(event: Mapping[str, Any], version: Version) -> Iterator[str]:
    missing = [name for name in version.required if not event.get(name) or not isinstance(event[name], str)]
    if missing:
        yield f"it lacks {' and '.join(missing)}"
    if version is VERSIONS["0.1"] and event.get("cloudEventsVersion", "0.1") != "0.1":
        yield "its cloudEventsVersion is not 0.1"
    for name in version.optional:
        if name in event and event[name] is not None and not (isinstance(event[name], str) and event[name]):
            yield f"its {name} is not a string, or empty"
    form = _TIME_WITHOUT_ZONE if version is VERSIONS["0.1"] else _TIME
    if isinstance(time := event.get(version.time), str) and time and not form.fullmatch(time):
        yield f"its {version.time} is not a time of RFC 3339"
    for name in version.uris:
        if isinstance(event.get(name), str) and not _is_uri(event[name], absolute=name == "dataschema"):
            yield f"its {name} is not a URI"
    media_type = event.get(version.media_type)
    if isinstance(media_type, str) and media_type and not _MEDIA_TYPE.fullmatch(media_type.strip(" \t")):
        yield f"its {version.media_type} is not a media type"


def _is_uri(text: str, *, absolute: bool) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(_URI.fullmatch(text)) and (bool(parts.scheme) or not absolute)


def _data(event: Mapping[str, Any], number: str) -> Iterator[str]:
    if number == "1.0" and "data_base64" in event:
        if "data" in event:
            yield "it has both data and data_base64"
        if not _is_base64(event["data_base64"]):
            yield "its data_base64 is not base64"
    if number == "0.3" and event.get("datacontentencoding") is not None:
        if str(event["datacontentencoding"]).lower() != "base64":
            yield "its datacontentencoding is not base64"
        elif not _is_base64(event.get("data", "")):
            yield "its data are not base64"


def _is_base64(value: object) -> bool:
    try:
        base64.b64decode(value if isinstance(value, str) else "!", validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _extensions(event: Mapping[str, Any], version: Version, number: str) -> Iterator[str]:
    if version.bag:
        if not isinstance(event.get(version.bag) or {}, dict):
            yield f"its {version.bag} is not an object"
        return
    known = {*version.required, *version.optional, "data", "data_base64"}
    for name in event.keys() - known:
        if not _NAME.fullmatch(name):
            yield f"its attribute {name[:40]!r} has characters other than lower-case letters and digits"
        elif number == "1.0" and not _is_scalar(event[name]):
            yield f"its attribute {name[:40]} is not a string, a 32-bit integer or a boolean"


def _is_scalar(value: object) -> bool:
    return isinstance(value, bool | str | None) or (isinstance(value, int) and value in _INTEGER)
