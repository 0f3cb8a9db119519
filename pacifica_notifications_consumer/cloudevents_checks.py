"""What CloudEvents demands of an event, by its version: its attributes, their types, and their forms."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs

_DATE_AND_TIME = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt ]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?"
_ZONE = r"([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)"
_TIME = re.compile(_DATE_AND_TIME + _ZONE)
#: Pacifica's producer sends 0.1, and says no zone.
_TIME_WITHOUT_ZONE = re.compile(f"{_DATE_AND_TIME}{_ZONE}?")
_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+\s*(;.*)?", re.DOTALL)
#: What a URI may consist of (RFC 3986).
_URI = re.compile(r"([A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*")
_NAME = re.compile(r"[a-z0-9]+")
_INTEGER = range(-(1 << 31), 1 << 31)


@attrs.frozen(kw_only=True)
class _Rules:
    """What a version demands.

    Args:
        required: Attributes that must be there, as texts that are not empty.
        optional: Further ones that must be texts, and not empty, if they are there.
        time: The attribute that is a time.
        uris: Those that are URIs or references to them.
        media_type: The one that is a media type.
        bag: The one that holds extensions; empty if they stand beside the others.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...]
    time: str
    uris: tuple[str, ...]
    media_type: str
    bag: str = ""


_V01 = _Rules(
    required=("cloudEventsVersion", "eventType", "source", "eventID"),
    optional=("eventTypeVersion", "eventTime", "schemaURL", "contentType"),
    time="eventTime",
    uris=("source", "schemaURL"),
    media_type="contentType",
    bag="extensions",
)
_V02 = _Rules(
    required=("specversion", "type", "source", "id"),
    optional=("time", "schemaurl", "contenttype"),
    time="time",
    uris=("source", "schemaurl"),
    media_type="contenttype",
)
_V03 = attrs.evolve(
    _V02,
    optional=("time", "schemaurl", "datacontenttype", "subject", "datacontentencoding"),
    media_type="datacontenttype",
)
_V10 = attrs.evolve(_V03, optional=("time", "dataschema", "datacontenttype", "subject"), uris=("source", "dataschema"))
_RULES = {"0.2": _V02, "0.3": _V03, "1.0": _V10}


def problems_of(event: Mapping[str, Any]) -> list[str]:
    """What is wrong with an event, in words; nothing if it is as its version demands."""
    if "specversion" not in event:
        version, rules = "0.1", _V01
    else:
        version = event["specversion"] if isinstance(event["specversion"], str) else ""
        if version not in _RULES:
            return [f"its specversion {str(event['specversion'])[:20]!r} is not one of {', '.join(_RULES)}"]
        rules = _RULES[version]
    return [*_attributes(event, rules), *_data(event, version), *_extensions(event, rules, version)]


def _attributes(event: Mapping[str, Any], rules: _Rules) -> Iterator[str]:
    missing = [name for name in rules.required if not event.get(name) or not isinstance(event[name], str)]
    if missing:
        yield f"it lacks {' and '.join(missing)}"
    if rules is _V01 and event.get("cloudEventsVersion", "0.1") != "0.1":
        yield "its cloudEventsVersion is not 0.1"
    for name in rules.optional:
        if name in event and event[name] is not None and not (isinstance(event[name], str) and event[name]):
            yield f"its {name} is no text, or empty"
    form = _TIME_WITHOUT_ZONE if rules is _V01 else _TIME
    if isinstance(time := event.get(rules.time), str) and time and not form.fullmatch(time):
        yield f"its {rules.time} is no time of RFC 3339"
    for name in rules.uris:
        if isinstance(event.get(name), str) and not _is_uri(event[name], absolute=name == "dataschema"):
            yield f"its {name} is no URI"
    media_type = event.get(rules.media_type)
    if isinstance(media_type, str) and media_type and not _MEDIA_TYPE.fullmatch(media_type.strip()):
        yield f"its {rules.media_type} is no media type"


def _is_uri(text: str, *, absolute: bool) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(_URI.fullmatch(text)) and (bool(parts.scheme) or not absolute)


def _data(event: Mapping[str, Any], version: str) -> Iterator[str]:
    if version == "1.0" and "data_base64" in event:
        if "data" in event:
            yield "it has data and data_base64"
        if not _is_base64(event["data_base64"]):
            yield "its data_base64 is not base64"
    if version == "0.3" and event.get("datacontentencoding") is not None:
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


def _extensions(event: Mapping[str, Any], rules: _Rules, version: str) -> Iterator[str]:
    if rules.bag:
        if not isinstance(event.get(rules.bag) or {}, dict):
            yield f"its {rules.bag} are no object"
        return
    known = {*rules.required, *rules.optional, "data", "data_base64"}
    for name in event.keys() - known:
        if not _NAME.fullmatch(name):
            yield f"its attribute {name[:40]!r} is not in lower-case letters and digits"
        elif version == "1.0" and not _is_scalar(event[name]):
            yield f"its attribute {name[:40]} is no text, number of 32 bits, or yes or no"


def _is_scalar(value: object) -> bool:
    if isinstance(value, bool | str) or value is None:
        return True
    return isinstance(value, int) and value in _INTEGER
