"""Minimal events of every version of CloudEvents."""

from typing import Any

#: The fields of a minimal event in binary mode, by version.
BINARY = {
    "0.1": {"CE-CloudEventsVersion": '"0.1"', "CE-EventType": '"t"', "CE-Source": '"/s"', "CE-EventID": '"i"'},
    "0.2": {"ce-specversion": '"0.2"', "ce-type": '"t"', "ce-source": '"/s"', "ce-id": '"i"'},
    "0.3": {"ce-specversion": "0.3", "ce-type": "t", "ce-source": "/s", "ce-id": "i"},
    "1.0": {"ce-specversion": "1.0", "ce-type": "t", "ce-source": "/s", "ce-id": "i"},
}
#: The JSON of these events.
ENVELOPE: dict[str, dict[str, Any]] = {
    "0.1": {"cloudEventsVersion": "0.1", "eventType": "t", "source": "/s", "eventID": "i", "extensions": {}},
    "0.2": {"specversion": "0.2", "type": "t", "source": "/s", "id": "i"},
    "0.3": {"specversion": "0.3", "type": "t", "source": "/s", "id": "i"},
    "1.0": {"specversion": "1.0", "type": "t", "source": "/s", "id": "i"},
}
CONTENT_TYPE = {"0.1": "contentType", "0.2": "contenttype", "0.3": "datacontenttype", "1.0": "datacontenttype"}
VERSIONS = tuple(BINARY)
