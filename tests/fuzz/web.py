"""Fuzzing what comes over the network: requests, notifications, and what services answer."""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

from pacifica_notifications_consumer import Filter
from pacifica_notifications_consumer.clients.base import make_session
from pacifica_notifications_consumer.clients.ingest import Ingest
from pacifica_notifications_consumer.clients.policy import Policy
from pacifica_notifications_consumer.clients.producer import Producer
from pacifica_notifications_consumer.cloudevents.announcement import Identity
from pacifica_notifications_consumer.cloudevents.modes import mode_of, read_events
from pacifica_notifications_consumer.cloudevents.notification import Notification
from pacifica_notifications_consumer.cloudevents.validation import problems_of
from pacifica_notifications_consumer.endpoint import Endpoint
from pacifica_notifications_consumer.errors import NotificationError, PacificaError
from pacifica_notifications_consumer.http.errors import HTTPError
from pacifica_notifications_consumer.http.request import Head
from pacifica_notifications_consumer.http.server import Handler
from pacifica_notifications_consumer.jobs.job import Receipt, Verdict
from pacifica_notifications_consumer.jobs.triage import Triage, triage_transaction
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_runner.endpoint import listening
from tests.fuzz.good import EVENTS, SMALL, Finding, Try
from tests.fuzz.mutation import spoil, spoil_json
from tests.support.faults import fault_server

TOKEN = "fuzz"
_HEADS = [
    head.replace(b"\n", b"\r\n")
    for head in (
        b"POST /receive HTTP/1.1\nHost: h\nAuthorization: Bearer fuzz\nContent-Type: application/json\n",
        b"POST /receive?access_token=fuzz HTTP/1.1\nHost: h\nContent-Type: application/cloudevents-batch+json\n",
        b"""\
POST /receive HTTP/1.1
Host: h
Authorization: Basic cGFjaWZpY2E6ZnV6eg==
ce-specversion: 1.0
ce-type: t%20
ce-source: "/s"
ce-id: i
Content-Type: text/plain; charset=utf-8
ce-traceparent: x
""",
        b"""\
POST /receive HTTP/1.1
Host: h
Authorization: Bearer fuzz
CE-CloudEventsVersion: "0.1"
CE-EventType: "t"
CE-Source: "s"
CE-EventID: "i"
CE-X-My: {"a": 1}
""",
        b"OPTIONS /receive HTTP/1.1\nHost: h\nWebHook-Request-Origin: a\nWebHook-Request-Rate: 10\n",
        b"GET /metrics HTTP/1.1\nHost: h\nConnection: keep-alive\n",
        b"HEAD /readyz HTTP/1.0\nExpect: 100-continue\n",
    )
]
_LENGTHS = (
    b"Content-Length: %d\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"content-length : %d\r\n",
    b"Content-Length: +%d\r\n",
    b"",
)


@contextlib.contextmanager
def http() -> Iterator[Try]:
    """The HTTP parser and the endpoint: whatever comes is answered or hung up on, and others are served."""
    taken: list[bytes] = []

    def accept(bodies: Any, _: Any) -> list[Receipt]:
        taken.extend(bodies)
        del taken[:-100]
        return [Receipt(notification_id=1, verdict=Verdict.UNMATCHED) for _ in bodies]

    endpoint = Endpoint(accept=accept, token=TOKEN, max_body=100_000, strict=True, max_events=50)
    with listening(endpoint, "127.0.0.1", 0) as server:

        def attempt(chance: random.Random) -> None:
            sent = b"".join(_request(chance) for _ in range(chance.choice((1, 1, 1, 2, 5))))
            if chance.random() < 0.8:
                sent = spoil(sent, chance, _HEADS)
            answered = _exchange(server.server_port, sent, chance)
            for line in answered.split(b"\r\n"):
                if (
                    line.startswith(b"HTTP/1.1 ")
                    and line.split(b" ")[1][:1] == b"5"
                    and line[9:12] not in (b"501", b"503", b"505")
                ):
                    raise Finding(f"{line!r} for {sent!r}")
            if not server.alive:
                raise Finding(f"the server has died of {sent!r}")
            if chance.random() < 0.05:
                good = _exchange(server.server_port, _whole(_HEADS[0], EVENTS[0]), None)
                if not good.startswith(b"HTTP/1.1 202 "):
                    raise Finding(f"{good[:100]!r} for a good request after {sent!r}")

        yield attempt


def _whole(head: bytes, body: bytes) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _request(chance: random.Random) -> bytes:
    body = chance.choice(EVENTS)
    if chance.random() < 0.5:
        body = spoil_json(body, chance)[:50_000]
    length = chance.choice(_LENGTHS)
    if b"chunked" in length:
        size = chance.choice((len(body), len(body), max(0, len(body) - 1), 1 << 60))
        body = b"%x\r\n" % size + body + b"\r\n0\r\n\r\n"
    elif b"%d" in length:
        length %= chance.choice((len(body), len(body), len(body) + 1, 0))
    return chance.choice(_HEADS) + length + b"\r\n" + body


def _exchange(port: int, sent: bytes, chance: random.Random | None) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10.0) as client:
        answered = b""
        with contextlib.suppress(ConnectionError):
            if chance and chance.random() < 0.1:
                cut = chance.randrange(len(sent) + 1)
                client.sendall(sent[:cut])
                client.sendall(sent[cut:])
            else:
                client.sendall(sent)
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_WR)
            client.settimeout(20.0)
            while piece := client.recv(1 << 16):
                answered += piece
        return answered


@contextlib.contextmanager
def head() -> Iterator[Try]:
    """The head of a request: parsed, or refused with a status; nothing else."""

    def attempt(chance: random.Random) -> None:
        data = spoil(chance.choice(_HEADS).rstrip(b"\r\n"), chance, _HEADS)
        try:
            parsed = Head.parse(data)
            parsed.headers.body_length()
            events = read_events(
                mode_of(parsed.headers.get("Content-Type", ""), parsed.headers),
                parsed.headers.get("Content-Type", ""),
                parsed.headers,
                chance.choice(EVENTS),
                10,
            )
        except (HTTPError, NotificationError):
            return
        for event in events:
            if not isinstance(event, bytes):
                raise Finding(f"{event!r} of {data!r}")

    yield attempt


@contextlib.contextmanager
def notification() -> Iterator[Try]:
    """Notifications: no exception, whatever they say; what they name stays in its directory."""
    filter_ = Filter('$["data"][*][?(@["destinationTable"] = "Files" and @["mimetype"] = "text/plain")]["_id"]')
    both = [Triage(name="mine", filter=filter_, strict=strict) for strict in (False, True)]

    def attempt(chance: random.Random) -> None:
        body = spoil_json(chance.choice(EVENTS), chance)
        for triage in both:
            triage.decide(body)
        with contextlib.suppress(NotificationError):
            read = Notification.parse(body)
            problems_of(read.event)
            _ = (
                read.source,
                read.event_id,
                read.title,
                read.traceparent,
                read.consumers,
                read.expires_at,
                read.dataref,
            )
            with contextlib.suppress(NotificationError):
                for file in read.files:
                    _insist_below(file.path)
            with contextlib.suppress(NotificationError):
                for folder in filter(None, read.folders):
                    _insist_below(folder)
        with contextlib.suppress(NotificationError):
            triage_transaction(both[0], spoil_json(chance.choice(EVENTS), chance), Identity())

    yield attempt


def _insist_below(path: str) -> None:
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in path:
        raise Finding(f"the path {path!r} leads elsewhere")
    path.encode("utf-8")


@contextlib.contextmanager
def answers() -> Iterator[Try]:
    """What services answer: understood, or told as an error of ours; soon, and whatever it is."""
    subscription: dict[str, Any] = {
        "uuid": "6d4e56c0-63b0-45f2-8944-578ba1ce287c",
        "name": "n",
        "user": "alice",
        "jsonpath": "$",
        "target_url": "u",
        "disabled": None,
        "deleted": None,
        "auth": {},
        "extensions": {},
        "version": "v0.1",
        "created": "2020",
        "updated": "2020",
    }
    state = {
        "task_percent": "1.00000",
        "state": "OK",
        "task": "ingest metadata",
        "job_id": 5,
        "exception": "",
        "created": "x",
        "updated": "y",
    }
    good = [
        json.dumps(each).encode()
        for each in (subscription, [subscription], state, {"transactions": [5]}, [{"_id": 5}], {"status": "success"})
    ] + SMALL
    said: list[tuple[int, bytes, dict[str, str]]] = [(200, b"", {})]

    def answer(handler: Handler, _: bytes) -> None:
        status, body, headers = said[0]
        handler.reply(status, b"" if status in (204, 304) else body, **headers)

    with fault_server(answer) as server:
        url = server.url
        services = Services(producer_url=url, cartd_url=url, ingest_url=url, policy_url=url, username="alice")
        with make_session(services) as session:
            ingest, policy = Ingest(services, session), Policy(url, session)
            producer = Producer(url, session)
            calls: list[Callable[[], object]] = [
                producer.subscriptions,
                lambda: producer.subscription(str(subscription["uuid"])),
                lambda: ingest.state(5),
                lambda: policy.knows_user("alice"),
                lambda: policy.transaction(5),
                lambda: policy.first_since("2020-01-01"),
                lambda: policy.file_ids(5),
                lambda: policy.may_see("alice", SMALL[0]),
            ]

            def attempt(chance: random.Random) -> None:
                status = chance.choice((200, 200, 200, 200, 201, 204, 400, 404, 418, 599))
                kind = chance.choice(
                    ("application/json", "text/html; charset=klingon", "", "application/json; charset=utf-16")
                )
                said[0] = (
                    status,
                    spoil_json(chance.choice(good), chance)[:100_000],
                    {"Content_Type": kind} if kind else {},
                )
                server.requests.clear()
                with contextlib.suppress(PacificaError):
                    chance.choice(calls)()

            yield attempt
