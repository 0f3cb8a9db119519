"""The versions of CloudEvents: the attributes of each, and their rules."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import attrs


@attrs.frozen(kw_only=True, slots=False)
class Version:
    """The rules of a version."""

    required: tuple[str, ...]  #: the attributes that must be non-empty strings
    optional: tuple[str, ...]  #: the attributes that must be non-empty strings if they are there
    time: str
    uris: tuple[str, ...]  #: the attributes that are URIs or URI references
    media_type: str
    bag: str = ""  #: the attribute that contains the extensions; empty if these are attributes of the event itself
    in_json: bool = False  #: whether the values of header fields are JSON values in binary mode
    nested: bool = False  #: whether a dash in the name of a header field separates the name of a map from a key in it

    @cached_property
    def header_names(self) -> Mapping[str, str]:
        """The attributes that header fields carry in binary mode, by their names in lower case."""
        return {name.lower(): name for name in (*self.required, *self.optional) if name != self.media_type}


_V01 = Version(
    required=("cloudEventsVersion", "eventType", "source", "eventID"),
    optional=("eventTypeVersion", "eventTime", "schemaURL", "contentType"),
    time="eventTime",
    uris=("source", "schemaURL"),
    media_type="contentType",
    bag="extensions",
    in_json=True,
)
_V02 = Version(
    required=("specversion", "type", "source", "id"),
    optional=("time", "schemaurl", "contenttype"),
    time="time",
    uris=("source", "schemaurl"),
    media_type="contenttype",
    in_json=True,
    nested=True,
)
_V03 = attrs.evolve(
    _V02,
    optional=("time", "schemaurl", "datacontenttype", "subject", "datacontentencoding"),
    media_type="datacontenttype",
)
_V10 = attrs.evolve(
    _V03,
    optional=("time", "dataschema", "datacontenttype", "subject"),
    uris=("source", "dataschema"),
    in_json=False,
    nested=False,
)
#: The versions by the value of ``cloudEventsVersion``, or of ``specversion`` since 0.2.
VERSIONS = {"0.1": _V01, "0.2": _V02, "0.3": _V03, "1.0": _V10}
#: The versions that have a ``specversion``.
SPECVERSIONS = ("0.2", "0.3", "1.0")
