"""Events are validated by the rules of their version of CloudEvents; numbers are sections of the specifications."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pacifica_notifications_consumer.cloudevents.notification import Notification
from pacifica_notifications_consumer.cloudevents.validation import problems_of
from tests.support.cloudevents_tools import ENVELOPE, VERSIONS

GOOD = {
    "0.1": ENVELOPE["0.1"] | {"eventTime": "2018-04-05T03:56:24", "contentType": "text/xml", "eventTypeVersion": "1"},
    "0.2": ENVELOPE["0.2"] | {"time": "2018-04-05T03:56:24.123Z", "my": {"a": 1}},
    "0.3": ENVELOPE["0.3"] | {"subject": "s", "datacontentencoding": "base64", "data": "AAA="},
    "1.0": ENVELOPE["1.0"] | {"datacontenttype": "a/b; c=d", "dataschema": "urn:x", "n": 5, "b": True, "data": [1]},
}


@pytest.mark.parametrize("version", VERSIONS)
def test_valid_events(version: str) -> None:
    """Spec 3: an event with the required attributes of its version is valid."""
    assert problems_of(GOOD[version]) == []
    assert problems_of(ENVELOPE[version]) == []


@pytest.mark.parametrize(
    ("version", "changes", "expected"),
    [
        *(
            (version, {name: None}, f"it lacks {name}")
            for version in ("0.2", "0.3", "1.0")
            for name in ("type", "source", "id")
        ),
        *(
            ("0.1", {name: None}, f"it lacks {name}")
            for name in ("eventType", "source", "eventID", "cloudEventsVersion")
        ),
        *((version, {"id": ""}, "it lacks id") for version in ("0.2", "0.3", "1.0")),
        ("1.0", {"id": 5}, "it lacks id"),
        ("1.0", {"type": None, "id": None}, "it lacks type and id"),
        ("0.1", {"cloudEventsVersion": "0.2"}, "its cloudEventsVersion is not 0.1"),
        ("1.0", {"specversion": "1.1"}, "its specversion '1.1' is not one of 0.2, 0.3, 1.0"),
        ("1.0", {"specversion": 1.0}, "its specversion '1.0' is not one of"),
        ("1.0", {"time": "2018-04-05T03:56:24"}, "its time is not a time of RFC 3339"),
        ("1.0", {"time": "2018-13-05T03:56:24Z"}, "its time is not a time of RFC 3339"),
        ("0.1", {"eventTime": "yesterday"}, "its eventTime is not a time of RFC 3339"),
        ("1.0", {"subject": ""}, "its subject is not a string, or empty"),
        ("0.3", {"subject": 7}, "its subject is not a string, or empty"),
        ("1.0", {"source": "http://[x"}, "its source is not a URI"),
        ("1.0", {"source": "a b"}, "its source is not a URI"),
        ("1.0", {"dataschema": "relative"}, "its dataschema is not a URI"),
        ("0.2", {"schemaurl": "a b"}, "its schemaurl is not a URI"),
        ("1.0", {"datacontenttype": "json"}, "its datacontenttype is not a media type"),
        ("0.1", {"contentType": "x y"}, "its contentType is not a media type"),
        ("1.0", {"data_base64": "AAA=", "data": 1}, "it has both data and data_base64"),
        ("1.0", {"data_base64": "A", "data": ...}, "its data_base64 is not base64"),
        ("1.0", {"data_base64": 5, "data": ...}, "its data_base64 is not base64"),
        ("0.3", {"data": "?"}, "its data are not base64"),
        ("0.3", {"datacontentencoding": "gzip"}, "its datacontentencoding is not base64"),
        ("0.1", {"extensions": []}, ""),
        ("0.1", {"extensions": [1]}, "its extensions is not an object"),
        ("1.0", {"My": "v"}, "its attribute 'My' has characters other than lower-case letters and digits"),
        ("1.0", {"my_own": "v"}, "its attribute 'my_own' has characters other than lower-case letters and digits"),
        ("1.0", {"my": {"a": 1}}, "its attribute my is not a string, a 32-bit integer or a boolean"),
        ("1.0", {"my": 1 << 31}, "its attribute my is not a string"),
        ("1.0", {"my": (1 << 31) - 1}, ""),
        ("1.0", {"my": 1.5}, "its attribute my is not a string"),
    ],
)
def test_invalid_events(version: str, changes: dict[str, Any], expected: str) -> None:
    """Spec 3: each violation of the version's rules is named."""
    event = {name: value for name, value in (GOOD[version] | changes).items() if value is not ...}
    problems = problems_of(event)
    assert (bool(problems), expected in "; ".join(problems)) == (bool(expected), True)


@pytest.mark.parametrize("version", VERSIONS)
def test_identity(version: str) -> None:
    """Spec 3.1: source and id, which identify an event, are found under the names of each version."""
    notification = Notification.parse(json.dumps(ENVELOPE[version]).encode())
    assert (notification.source, notification.event_id, notification.title) == ("/s", "i", "i")


def test_extensions_that_are_honoured() -> None:
    """The extensions expirytime and dataref are read, also from the object extensions of 0.1."""
    for event in ({"expirytime": "1970-01-02T00:00:00Z", "dataref": "http://x"},):
        for wrapped in (event, {"extensions": event}):
            notification = Notification.parse(json.dumps(wrapped).encode())
            assert (notification.expires_at, notification.dataref) == (86400.0, "http://x")
    for spoilt in ("1970-01-02T00:00:00", "soon", 5, None):
        assert Notification.parse(json.dumps({"expirytime": spoilt}).encode()).expires_at is None
