"""The settings of the endpoint: where it listens, and who may send what to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pacifica_notifications_consumer.cloudevents.notification import MAX_DEPTH
from pacifica_notifications_consumer.endpoint.endpoint import MAX_BODY, MAX_EVENTS, MAX_SIGNED_BODY
from pacifica_notifications_consumer.http.limits import ServerLimits
from pacifica_notifications_consumer.settings.converters import (
    count,
    count_limit,
    one_of,
    origins,
    patience,
    port,
    size,
    url_with_path,
)
from pacifica_notifications_consumer.settings.option import Option

_LIMITS = ServerLimits()

ADDRESS = Option(
    name="address",
    help="the address the endpoint listens on; 0.0.0.0 for all",
    default="127.0.0.1",
    metavar="ADDRESS",
)
PORT = Option(
    name="port", help="the port the endpoint listens on; 0 picks a free one", convert=port, default=0, metavar="PORT"
)
TARGET_URL = Option(
    name="target_url",
    help="what the producer is to call, when it differs from http://ADDRESS:PORT/receive (behind a proxy)",
    convert=url_with_path,
    metavar="URL",
)
MAX_BODY_OPTION = Option(
    name="max_body",
    help="bytes that a body may have, such as 256M; a notification that names 100,000 files has 26 million",
    convert=size,
    default=MAX_BODY,
    metavar="BYTES",
)
MAX_EVENTS_OPTION = Option(
    name="max_events",
    help="how many events a batch may have; all of it is committed in one go",
    convert=count,
    default=MAX_EVENTS,
    metavar="N",
)
MAX_DEPTH_OPTION = Option(
    name="max_depth",
    help="how many objects and arrays of a notification may lie within each other; Pacifica's have 3, and what is "
    "deeper is set aside, since programs that process it may not bear it",
    convert=count,
    default=MAX_DEPTH,
    metavar="N",
)
MAX_HEAD = Option(
    name="max_head",
    help="bytes that the line and the header fields of a request may have; proxies commonly allow 8K to 64K",
    convert=size,
    default=_LIMITS.head,
    metavar="BYTES",
)
MAX_HEADER_FIELDS = Option(
    name="max_header_fields",
    help="how many header fields a request may have; an event in binary mode has one for each attribute",
    convert=count,
    default=_LIMITS.fields,
    metavar="N",
)
MAX_CONNECTIONS = Option(
    name="max_connections",
    help="how many connections may wait; when there are more, the one that has waited longest is closed; each is an "
    "open file",
    convert=count,
    default=_LIMITS.connections,
    metavar="N",
)
MAX_SLOW_REQUESTS = Option(
    name="max_slow_requests",
    help="how many requests with large bodies are read at the same time, each by a thread; others wait for their turn",
    convert=count,
    default=_LIMITS.threads,
    metavar="N",
)
MAX_HEAD_SECONDS = Option(
    name="max_head_seconds",
    help="seconds in which the head of a request, and a body of up to 64K, must be there",
    convert=patience,
    default=_LIMITS.head_seconds,
    metavar="SECONDS",
)
MAX_IDLE_SECONDS = Option(
    name="max_idle_seconds",
    help="seconds that a client may say nothing between two requests",
    convert=patience,
    default=_LIMITS.idle_seconds,
    metavar="SECONDS",
)
MAX_STALL_SECONDS = Option(
    name="max_stall_seconds",
    help="seconds that a client may say nothing in the middle of a larger body, or take nothing of an answer",
    convert=patience,
    default=_LIMITS.stall_seconds,
    metavar="SECONDS",
)
MAX_BODY_SECONDS = Option(
    name="max_body_seconds",
    help="seconds in which a larger body must be there; for each 50 kB it is given one more",
    convert=patience,
    default=_LIMITS.body_seconds,
    metavar="SECONDS",
)
TLS_CERT = Option(
    name="tls_cert",
    help="the certificate of the endpoint with those that it rests on, in PEM: the endpoint then speaks HTTPS",
    convert=Path,
    metavar="FILE",
)
TLS_KEY = Option(
    name="tls_key", help="the private key of --tls-cert, if it is not in the same file", convert=Path, metavar="FILE"
)
ENDPOINT_AUTH = Option(
    name="endpoint_auth",
    help="how the producer shows who it is: bearer or basic, both with a secret that is new at each start",
    convert=one_of("bearer", "basic"),
    default="bearer",
    metavar="bearer|basic",
)
RESPONSE_POLICY = Option(
    name="response_policy",
    help="how to answer a request that is JSON but no notification: pacifica takes it and keeps it aside, since "
    "Pacifica's producer gives a consumer up at the first refusal; strict refuses it, and offers other senders what "
    "the specification of webhooks does",
    convert=one_of("pacifica", "strict"),
    default="pacifica",
    metavar="pacifica|strict",
)
WEBHOOK_ORIGINS = Option(
    name="webhook_origins",
    help="with --response-policy strict: which senders are told, if they ask, that they may send; * for any",
    convert=origins,
    default=("*",),
    metavar="NAME,NAME",
)
WEBHOOK_RATE = Option(
    name="webhook_rate",
    help="with --response-policy strict: how many requests a minute are taken; 0 for any number",
    convert=count_limit,
    default=None,
    metavar="N",
)
MAX_SIGNED_BODY_OPTION = Option(
    name="max_signed_body",
    help="bytes of a body that are read of who only signs it, since the signature is known to be right only then",
    convert=size,
    default=MAX_SIGNED_BODY,
    metavar="BYTES",
)
WEBHOOK_SECRETS = Option(
    name="webhook_secrets",
    help="a file with secrets of Standard Webhooks (whsec_...), one a line: who signs a request with one of them need "
    "not show the token",
    convert=Path,
    metavar="FILE",
)

ENDPOINT_OPTIONS = (
    ADDRESS,
    PORT,
    TARGET_URL,
    TLS_CERT,
    TLS_KEY,
    ENDPOINT_AUTH,
    MAX_BODY_OPTION,
    MAX_EVENTS_OPTION,
    MAX_DEPTH_OPTION,
    MAX_HEAD,
    MAX_HEADER_FIELDS,
    MAX_CONNECTIONS,
    MAX_SLOW_REQUESTS,
    MAX_HEAD_SECONDS,
    MAX_IDLE_SECONDS,
    MAX_STALL_SECONDS,
    MAX_BODY_SECONDS,
    RESPONSE_POLICY,
    WEBHOOK_ORIGINS,
    WEBHOOK_RATE,
    WEBHOOK_SECRETS,
    MAX_SIGNED_BODY_OPTION,
)


def server_limits(settings: Mapping[str, Any]) -> ServerLimits:
    """What clients may cost the endpoint, as the settings say."""
    return ServerLimits(
        head=settings["max_head"],
        fields=settings["max_header_fields"],
        connections=settings["max_connections"],
        threads=settings["max_slow_requests"],
        head_seconds=settings["max_head_seconds"],
        idle_seconds=settings["max_idle_seconds"],
        stall_seconds=settings["max_stall_seconds"],
        body_seconds=settings["max_body_seconds"],
    )
