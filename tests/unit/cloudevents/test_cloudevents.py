"""Events are read from requests by the rules of each version; numbers are sections of CloudEvents' specifications."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from pacifica_notifications_consumer.cloudevents.modes import MediaType, Mode, mode_of, read_events
from pacifica_notifications_consumer.errors import NotificationError, UnknownFormat
from pacifica_notifications_consumer.http.request import Headers
from tests.support.cloudevents_tools import BINARY, CONTENT_TYPE, ENVELOPE, VERSIONS


def read(
    body: bytes = b"", content_type: str = "", most: int = 10, fields: Mapping[str, str] | None = None
) -> list[bytes]:
    headers = Headers(list((fields or {}).items()))
    return read_events(mode_of(content_type, headers), content_type, headers, body, most)


def binary(
    version: str, body: bytes = b"", content_type: str = "", fields: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The JSON of an event that is sent in binary mode."""
    (found,) = read(body, content_type, fields=BINARY[version] | dict(fields or {}))
    event: dict[str, Any] = json.loads(found)
    return event


@pytest.mark.parametrize(
    ("content_type", "fields", "expected"),
    [
        ("application/cloudevents+json", {}, Mode.STRUCTURED),
        ("APPLICATION/CloudEvents+JSON; Charset=UTF-8", {}, Mode.STRUCTURED),
        ("application/cloudevents", {}, Mode.STRUCTURED),
        ("application/cloudevents+json", BINARY["1.0"], Mode.STRUCTURED),
        ("application/cloudevents-batch+json", {}, Mode.BATCH),
        ("Application/CloudEvents-Batch+json;charset=utf-8", BINARY["1.0"], Mode.BATCH),
        ("application/json", {}, Mode.STRUCTURED),
        ("", {}, Mode.STRUCTURED),
        ("application/json", BINARY["1.0"], Mode.BINARY),
        ("application/json", BINARY["0.1"], Mode.BINARY),
        ("", BINARY["0.3"], Mode.BINARY),
        ("text/plain", {"CE-SPECVERSION": "0.2"}, Mode.BINARY),
    ],
)
def test_mode(content_type: str, fields: dict[str, str], expected: Mode) -> None:
    """HTTP 1.3, 3: the Content-Type, in any case and with parameters, determines the mode."""
    assert mode_of(content_type, Headers(list(fields.items()))) is expected


@pytest.mark.parametrize(
    "content_type",
    [
        "application/cloudevents+avro",
        "application/cloudevents-batch+xml",
        "application/cloudeventsx",
        "application/cloudevents+json+x",
    ],
)
def test_format_that_is_not_known(content_type: str) -> None:
    """HTTP 1.4, webhooks 2.2: formats of CloudEvents other than JSON are refused as not supported."""
    with pytest.raises(UnknownFormat, match="is not supported"):
        read(b"{}", content_type)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", MediaType()),
        ("nonsense", MediaType()),
        ("Text/XML", MediaType("text/xml")),
        ("\xa0application/json", MediaType()),
        ("\x85application/cloudevents-batch+json", MediaType()),
        ("text/plain;\xa0charset=x", MediaType("text/plain")),
        ('text/plain ; charset="UTF-8"', MediaType("text/plain", "utf-8")),
        ('text/plain;a=b; CHARSET="u\\tf-8";charset=x', MediaType("text/plain", "utf-8")),
    ],
)
def test_media_type(value: str, expected: MediaType) -> None:
    """RFC 2046, HTTP 2.1: media types and parameters are parsed, in any case, quoted or not; the first charset wins."""
    assert MediaType.parse(value) == expected


@pytest.mark.parametrize(
    "body", [b'{"specversion":"1.0" , "x": "\\u00e4"}\n', b"not even JSON", '{"ä": 1}'.encode("utf-16")]
)
def test_structured_byte_for_byte(body: bytes) -> None:
    """HTTP 3.2: in structured mode the body is the event, byte for byte, whatever the header fields."""
    for content_type in ("application/cloudevents+json; charset=utf-8", "application/cloudevents"):
        assert read(body, content_type, fields={"ce-id": "other", "ce-specversion": "1.0"}) == [body]
    assert read(body, "application/json") == [body]


def test_json_in_another_charset() -> None:
    """JSON 3.1: JSON is in UTF-8, UTF-16 or UTF-32; another charset is refused as not supported."""
    with pytest.raises(UnknownFormat, match="character set iso-8859-1 is not supported for JSON"):
        read(b"{}", "application/cloudevents+json; charset=ISO-8859-1")


@pytest.mark.parametrize("version", VERSIONS)
def test_binary_attributes(version: str) -> None:
    """HTTP 3.1.3: each header field becomes an attribute with the name of its version; case does not matter."""
    assert binary(version) == ENVELOPE[version]
    upper = {name.upper(): value for name, value in BINARY[version].items()}
    (found,) = read(fields=upper)
    assert json.loads(found) == ENVELOPE[version]


def test_binary_attributes_of_all_kinds() -> None:
    """HTTP 3.1.3.1: optional attributes are read, too."""
    fields = {"CE-EventTypeVersion": '"2"', "CE-EventTime": '"2018-04-05T03:56:24Z"', "CE-SchemaURL": '"http://x"'}
    assert binary("0.1", fields=fields) == ENVELOPE["0.1"] | {
        "eventTypeVersion": "2",
        "eventTime": "2018-04-05T03:56:24Z",
        "schemaURL": "http://x",
    }
    time = {"ce-time": "2018-04-05T03:56:24Z"}
    assert binary("0.2", fields=time | {"ce-schemaurl": "http://x"})["schemaurl"] == "http://x"
    assert binary("0.3", fields=time | {"ce-subject": "s"})["subject"] == "s"
    assert binary("1.0", fields=time | {"ce-dataschema": "http://x"}) == ENVELOPE["1.0"] | {
        "time": "2018-04-05T03:56:24Z",
        "dataschema": "http://x",
    }


@pytest.mark.parametrize(
    ("version", "raw", "expected"),
    [
        ("0.1", '"a"', "a"),
        ("0.1", "a", "a"),
        ("0.1", "7", "7"),
        ("0.1", '"Euro%20%E2%82%AC"', "Euro €"),
        ("0.1", '"a\\"b"', 'a"b'),
        ("0.2", '"a"', "a"),
        ("0.2", "1.5", "1.5"),
        ("0.3", '"a"', "a"),
        ("0.3", "a", "a"),
        ("1.0", "a", "a"),
        ("1.0", "7", "7"),
        ("1.0", "Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("1.0", "Euro%20%e2%82%ac", "Euro €"),
        ("1.0", "%41", "A"),
        ("1.0", "%2541", "%41"),
        ("1.0", '"with space"', "with space"),
        ("1.0", '"back\\"slash\\\\"', 'back"slash\\'),
        ("1.0", '"%20"', " "),
        ("1.0", "100%", "100%"),
        ("1.0", "100%zz", "100%zz"),
    ],
)
def test_header_values(version: str, raw: str, expected: str) -> None:
    """HTTP 3.1.3.2: values are JSON until 0.3, or plain text; in 1.0 they are unquoted and unescaped once."""
    name = "eventType" if version == "0.1" else "type"
    field = "CE-EventType" if version == "0.1" else "ce-type"
    assert binary(version, fields={field: raw})[name] == expected


@pytest.mark.parametrize("raw", ["%C0%A0", "%FF", "a%E2%82", "\xff"])
@pytest.mark.parametrize("version", VERSIONS)
def test_header_value_that_is_not_utf_8(version: str, raw: str) -> None:
    """HTTP 3.1.3.2: a value that is not UTF-8 after unescaping is refused."""
    with pytest.raises(NotificationError, match="is not UTF-8 when decoded"):
        binary(version, fields={"ce-more": raw})


@pytest.mark.parametrize(
    ("version", "fields", "expected"),
    [
        ("0.1", {"ce-x-my": '"v"'}, {"extensions": {"my": "v"}}),
        ("0.1", {"ce-extensions-my": '{"a": 1}'}, {"extensions": {"my": {"a": 1}}}),
        ("0.1", {"ce-my": "5"}, {"extensions": {"my": 5}}),
        ("0.2", {"ce-my": '"v"'}, {"my": "v"}),
        ("0.2", {"ce-my": "5"}, {"my": 5}),
        ("0.2", {"ce-my-key": '"v"', "ce-my-other": "true"}, {"my": {"key": "v", "other": True}}),
        ("0.3", {"ce-my": "v"}, {"my": "v"}),
        ("0.3", {"ce-my-key": "v"}, {"my": {"key": "v"}}),
        ("1.0", {"ce-my": "v"}, {"my": "v"}),
        ("1.0", {"ce-my": "5"}, {"my": "5"}),
        ("1.0", {"ce-traceparent": "00-a-b-01"}, {"traceparent": "00-a-b-01"}),
    ],
)
def test_extensions(version: str, fields: dict[str, str], expected: dict[str, Any]) -> None:
    """HTTP 3.1.3: extensions are attributes; 0.1 collects them in an object, and maps are flat until 0.3."""
    assert binary(version, fields=fields) == ENVELOPE[version] | expected


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("application/json", b'{"a": [1, "\xc3\xa4"]}', {"a": [1, "ä"]}),
        ("application/json; charset=utf-16", '{"a": "ä"}'.encode("utf-16"), {"a": "ä"}),
        ("application/vnd.me+json;charset=ISO-8859-1", b'"\xe4"', "ä"),
        ("TEXT/JSON", b"null", None),
        ("text/plain", "Grüße".encode(), "Grüße"),
        ("text/plain; charset=iso-8859-1", b"\xe4", "ä"),
        ("application/xml", b"<a/>", "<a/>"),
        ("image/svg+xml", b"<svg/>", "<svg/>"),
        ("", b'{"no": "type"}', {"no": "type"}),
    ],
)
def test_data(version: str, content_type: str, body: bytes, expected: Any) -> None:
    """HTTP 2.1, 3.1.1, 3.1.2: the body is the data, and the Content-Type, which may be missing, is their type."""
    event = binary(version, body, content_type)
    said = {CONTENT_TYPE[version]: content_type} if content_type else {}
    assert event == ENVELOPE[version] | said | {"data": expected}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("image/png", b"\x89PNG\0"),
        ("application/octet-stream", b"{}"),
        ("text/plain", b"\xff\xfe\xfd"),
        ("text/plain; charset=punycode", b"x"),
        ("", b"\xff\0"),
    ],
)
def test_binary_data(version: str, content_type: str, body: bytes) -> None:
    """JSON 3.1: binary data are encoded in base64, in the way of the version."""
    event = binary(version, body, content_type)
    encoded = base64.b64encode(body).decode()
    expected: dict[str, Any] = {"data_base64" if version == "1.0" else "data": encoded}
    if version == "0.3":
        expected["datacontentencoding"] = "base64"
    said = {CONTENT_TYPE[version]: content_type} if content_type else {}
    assert event == ENVELOPE[version] | said | expected


@pytest.mark.parametrize(
    ("body", "content_type", "fields", "error", "expected"),
    [
        (
            b"{",
            "application/json",
            {},
            NotificationError,
            "data is not JSON: .*; send JSON or correct the",
        ),
        (b"{}", "application/json; charset=punycode", {}, UnknownFormat, "the character set punycode is not supported"),
        (b"{}", "application/json; charset=iso-8859-99", {}, UnknownFormat, "iso-8859-99 is not supported"),
        (b"", "", {"ce-datacontenttype": "x/y"}, NotificationError, "ce-datacontenttype is not allowed"),
        (b"", "", {"ce-specversion": "2.0"}, NotificationError, "ce-specversion '2.0' is not supported"),
        (b"", "", {"ce-specversion": "0.1"}, NotificationError, "ce-specversion '0.1' is not supported"),
        (b"[" * 100_000, "application/json", {}, NotificationError, "data is nested too deeply; make it flatter$"),
        (b"9" * 5000, "application/json", {}, NotificationError, "data has a number of too many digits; send such"),
    ],
)
def test_binary_that_is_refused(
    body: bytes, content_type: str, fields: dict[str, str], error: type[Exception], expected: str
) -> None:
    """HTTP 3.1.1, 3.1.3: a contradictory event, or one of an unknown version, is refused."""
    with pytest.raises(error, match=expected):
        binary("1.0", body, content_type, fields)


def test_attribute_that_comes_twice() -> None:
    """HTTP 3.1.3: an attribute with more than one header field is refused."""
    headers = Headers([*BINARY["1.0"].items(), ("CE-ID", "other")])
    with pytest.raises(NotificationError, match="more than one header field ce-id"):
        read_events(Mode.BINARY, "", headers, b"", 10)


BATCH = "application/cloudevents-batch+json"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"[]", []),
        (b" [ ] \n", []),
        (b'[{"a":1}]', [b'{"a":1}']),
        (b'[ {"a": 1 , "b":[{}]}\t,\n{ "a":"]" } ]', [b'{"a": 1 , "b":[{}]}', b'{ "a":"]" }']),
        ('[{"a": "ä"}]'.encode("utf-16"), ['{"a": "ä"}'.encode()]),
        (b'[{"a": "\\ud800"}]', [b'{"a": "\\ud800"}']),
    ],
)
def test_batch(body: bytes, expected: list[bytes]) -> None:
    """HTTP 3.3, JSON 4: a batch is an array of events, possibly empty; the text of each is kept byte for byte."""
    assert read(body, BATCH) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "^the batch is not an array; send an array of CloudEvents$"),
        (b"{}", "^the batch is not an array; send an array of CloudEvents$"),
        (b"[", "not JSON"),
        (b"[{}", "a comma is missing after element 1"),
        (b"[{}{}]", "a comma is missing after element 1"),
        (b"[{},]", "not JSON"),
        (b"[{}]x", "unexpected text after the array"),
        (b"[{}, 7]", "^element 2 of the batch is a JSON number; send an array of objects$"),
        (b"[[]]", "element 1 of the batch is a JSON array"),
        (b"\xff\xff[]", "not JSON"),
        (b"[" + b"[" * 100_000, "^the batch is nested too deeply; make it flatter$"),
        (
            b'[{"a": ' + b"9" * 5000 + b"}]",
            "^the batch has a number of too many digits; send such a",
        ),
        (b"[" + b",".join([b"{}"] * 11) + b"]", "^the batch has more than 10 events; send smaller batches$"),
        (b'[{"specversion": "1.0"}, {"specversion": "0.3"}]', 'several versions: "0.3", "1.0"'),
    ],
)
def test_batch_that_is_refused(body: bytes, expected: str) -> None:
    """HTTP 3.3.2: a batch that is malformed, too large, or has bad elements or several versions is refused whole."""
    with pytest.raises(NotificationError, match=expected):
        read(body, BATCH)


def test_largest_batch() -> None:
    """A batch with as many events as the limit is accepted."""
    assert len(read(b"[" + b",".join([b"{}"] * 10) + b"]", BATCH)) == 10
