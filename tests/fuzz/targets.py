"""What is fuzzed: each target takes a chance, makes one hostile input of it, and insists on what must hold whatever it is.

A target is a context manager, so that what it needs is made once; it yields a function that tries one input, and
raises if something is found.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import socket
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock
from typing import Any

import jsonpath2
import jsonpath2.parser

from pacifica_notifications_consumer import Filter, download
from pacifica_notifications_consumer.announcement import Identity
from pacifica_notifications_consumer.archive import ArchiveLimits, Consumer, extract
from pacifica_notifications_consumer.cloudevents import mode_of, read_events
from pacifica_notifications_consumer.cloudevents_checks import problems_of
from pacifica_notifications_consumer.errors import (
    ArchiveError,
    FilterError,
    NotificationError,
    PacificaError,
)
from pacifica_notifications_consumer.http_messages import BadRequest, Head
from pacifica_notifications_consumer.ingest import Ingest
from pacifica_notifications_consumer.job import Receipt, Verdict
from pacifica_notifications_consumer.judge import Judge
from pacifica_notifications_consumer.announcement import judge_transaction
from pacifica_notifications_consumer.notification import Notification
from pacifica_notifications_consumer.policy import Policy
from pacifica_notifications_consumer.producer import Producer
from pacifica_notifications_consumer.services import Services
from pacifica_notifications_consumer.serving import Handler
from pacifica_notifications_consumer.session import make_session
from pacifica_notifications_runner.endpoint import Endpoint, listening
from tests.fuzz.mutation import odd_value, spoil, spoil_json
from tests.unit.faults import fault_server

Try = Callable[[random.Random], None]
DATA = Path(__file__).parents[1] / "data" / "notifications"
NOTIFICATIONS = [path.read_bytes() for path in sorted(DATA.glob("*.json"))]
SMALL = [body for body in NOTIFICATIONS if len(body) < 10_000]
TOKEN = "fuzz"
_EVENT = {
    "specversion": "1.0",
    "type": "t",
    "source": "/s",
    "id": "i",
    "data": {"a": [1, "ä"]},
    "time": "2020-01-01T00:00:00Z",
}
EVENTS = [
    json.dumps(_EVENT).encode(),
    json.dumps({**_EVENT, "specversion": "0.3", "datacontentencoding": "base64", "data": "AAAA"}).encode(),
    json.dumps([_EVENT, {**_EVENT, "id": "j", "expirytime": "2001-01-01T00:00:00Z", "dataref": "http://x"}]).encode(),
    *SMALL,
]
_HEADS = [
    b"POST /receive HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer fuzz\r\nContent-Type: application/json\r\n",
    b"POST /receive?access_token=fuzz HTTP/1.1\r\nHost: h\r\nContent-Type: application/cloudevents-batch+json\r\n",
    b"POST /receive HTTP/1.1\r\nAuthorization: Basic cGFjaWZpY2E6ZnV6eg==\r\nce-specversion: 1.0\r\nce-type: t%20\r\n"
    b'ce-source: "/s"\r\nce-id: i\r\nContent-Type: text/plain; charset=utf-8\r\nce-traceparent: x\r\n',
    b'POST /receive HTTP/1.1\r\nAuthorization: Bearer fuzz\r\nCE-CloudEventsVersion: "0.1"\r\nCE-EventType: "t"\r\n'
    b'CE-Source: "s"\r\nCE-EventID: "i"\r\nCE-X-My: {"a": 1}\r\n',
    b"OPTIONS /receive HTTP/1.1\r\nWebHook-Request-Origin: a\r\nWebHook-Request-Rate: 10\r\n",
    b"GET /metrics HTTP/1.1\r\nConnection: keep-alive\r\n",
    b"HEAD /readyz HTTP/1.0\r\nExpect: 100-continue\r\n",
]
_LENGTHS = (
    b"Content-Length: %d\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"content-length : %d\r\n",
    b"Content-Length: +%d\r\n",
    b"",
)


class Finding(AssertionError):
    """Something that must not be."""


@contextlib.contextmanager
def http() -> Iterator[Try]:
    """The HTTP parser and the endpoint: whatever a client sends, it is answered or hung up on, and others are served."""
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
            parsed.body_length()
            events = read_events(
                mode_of(parsed.headers.get("Content-Type", ""), parsed.headers),
                parsed.headers.get("Content-Type", ""),
                parsed.headers,
                chance.choice(EVENTS),
                10,
            )
        except (BadRequest, NotificationError):
            return
        for event in events:
            if not isinstance(event, bytes):
                raise Finding(f"{event!r} of {data!r}")

    yield attempt


@contextlib.contextmanager
def notification() -> Iterator[Try]:
    """Notifications: judged without an exception, whatever they say; what they name stays in its directory."""
    filter_ = Filter('$["data"][*][?(@["destinationTable"] = "Files" and @["mimetype"] = "text/plain")]["_id"]')
    judges = [Judge(name="mine", filter=filter_, strict=strict) for strict in (False, True)]

    def attempt(chance: random.Random) -> None:
        body = spoil_json(chance.choice(EVENTS), chance)
        for judge in judges:
            judge.judge(body)
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
            judge_transaction(judges[0], spoil_json(chance.choice(EVENTS), chance), Identity())

    yield attempt


def _insist_below(path: str) -> None:
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in path:
        raise Finding(f"the path {path!r} leads elsewhere")
    path.encode("utf-8")


@contextlib.contextmanager
def archive() -> Iterator[Try]:
    """Consumer archives: extracted within their directory and their limits, or refused."""
    limits = ArchiveLimits(entries=20, size=100_000, ratio=50)
    good = [
        _zip(compression)
        for compression in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)
    ]
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        (home / "sentinel").write_text("x")

        def attempt(chance: random.Random) -> None:
            packed = home / "consumer.zip"
            packed.write_bytes(spoil(_odd_zip(chance) if chance.random() < 0.3 else chance.choice(good), chance, good))
            inside = home / "inside"
            if inside.exists():
                _remove(inside)
            inside.mkdir()
            try:
                extract(packed, inside, limits)
                Consumer.load(inside)
            except (ArchiveError, FilterError):
                pass
            found = list(inside.rglob("*"))
            if any(path.is_symlink() or not (path.is_file() or path.is_dir()) for path in found):
                raise Finding(f"{found} of {packed.read_bytes()!r}")
            if sum(path.stat().st_size for path in found if path.is_file()) > limits.size:
                raise Finding(f"too large: {packed.read_bytes()!r}")
            _remove(inside)
            if sorted(path.name for path in home.iterdir()) != ["consumer.zip", "sentinel"]:
                raise Finding(f"something was left outside by {packed.read_bytes()!r}")

        yield attempt


def _zip(compression: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as packed:
        packed.writestr("__main__.py", "print('x' * 100)\n" * 20)
        packed.writestr("jsonpath2.txt", '$["data"]')
        packed.writestr("sub/requirements.txt", "requests\n")
        packed.writestr("preload.txt", "json\n")
    return out.getvalue()


def _odd_zip(chance: random.Random) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        names = [
            "__main__.py",
            "../x",
            "/x",
            "a/../../x",
            "a\\b",
            "C:x",
            "x" * 300,
            "a",
            "a/b",
            "\u202e",
            "sub/",
            ".",
            "con\0x",
        ]
        for name in chance.sample(names, chance.randrange(1, 6)):
            info = zipfile.ZipInfo(name)
            info.external_attr = chance.choice((0, 0o100644, 0o120777, 0o040755, 0o010644, 0o104755)) << 16
            with contextlib.suppress(ValueError, UserWarning):
                packed.writestr(info, chance.choice((b"", b"/etc/passwd", b"\0" * 200_000, chance.randbytes(50))))
    return out.getvalue()


def _remove(path: Path) -> None:
    for each in sorted(path.rglob("*"), reverse=True):
        each.rmdir() if each.is_dir() else each.unlink()
    path.rmdir()


@contextlib.contextmanager
def tar() -> Iterator[Try]:
    """The tar of a cart: its files as announced, or an error; and nothing outside of downloads/."""
    content = b"alpha" * 300
    rows = [
        {
            "destinationTable": "Files",
            "_id": 1,
            "name": "a.txt",
            "subdir": "",
            "size": len(content),
            "hashtype": "sha1",
            "hashsum": "0" * 40,
        }
    ]
    rows.append(rows[0] | {"_id": 2, "name": "b.txt", "subdir": "sub"})
    import hashlib

    for row in rows:
        row["hashsum"] = hashlib.sha1(content).hexdigest()  # noqa: S324
    good = [_tar(content, form) for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]
    served: list[bytes] = [b""]

    def answer(handler: Handler, _: bytes) -> None:
        match handler.command:
            case "POST":
                handler.reply(201)
            case "HEAD":
                handler.reply(204, X_Pacifica_Status="ready")
            case _:
                handler.reply(200, served[0])

    # What breaks is tried again; without pauses, of which there would be many.
    quick = mock.patch("pacifica_notifications_consumer.retrying.time.sleep", lambda _: None)
    with quick, fault_server(answer) as server, tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        services = Services(cartd_url=server.url, username="alice")

        def attempt(chance: random.Random) -> None:
            served[0] = spoil(chance.choice(good), chance, good) if chance.random() < 0.95 else chance.choice(good)
            source = home / "source"
            if source.exists():
                _remove(source)
            source.mkdir()
            (source / "notification.json").write_text(json.dumps({"data": rows}))
            server.requests.clear()
            try:
                download(source, services=services, timeout=5.0).get()
            except PacificaError:
                pass
            else:
                files = {p.relative_to(source).as_posix(): p.read_bytes() for p in source.rglob("*") if p.is_file()}
                files.pop("notification.json")
                if files != {"downloads/a.txt": content, "downloads/sub/b.txt": content}:
                    raise Finding(f"{sorted(files)} of {served[0]!r}")
            odd = [path for path in source.rglob("*") if path.is_symlink()]
            if odd or sorted(path.name for path in home.iterdir()) != ["source"]:
                raise Finding(f"{odd} of {served[0]!r}")
            _remove(source)

        yield attempt


def _tar(content: bytes, form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as packed:
        folder = tarfile.TarInfo("data")
        folder.type = tarfile.DIRTYPE
        packed.addfile(folder)
        for name in ("data/a.txt", "data/sub/b.txt"):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return out.getvalue()


_PATHS = [
    b'$["data"][*][?(@["destinationTable"] = "Files" and (@["mimetype"] = "text/plain" or not @["x"]))]["_id"]',
    b'$[?(@["eventID"] and (@["eventType"] = "org.pacifica.metadata.ingest"))]["data"][*]',
    b"$..a[0:5:2]",
    b"$.data[?(@.size > 10)]",
    b'$["a"]["b"][1, 2, "c"]',
    b"$[*].*",
    b"$[?(length(@) >= 1 and @.a[-1:] != null and $.x = true)]",
]


@contextlib.contextmanager
def jsonpath() -> Iterator[Try]:
    """JSONPaths: parsed or refused as jsonpath2 does it, and with its results; whatever the event."""
    events = [json.loads(body) for body in EVENTS]

    def attempt(chance: random.Random) -> None:
        text = spoil(chance.choice(_PATHS), chance, _PATHS)[:400].decode("utf-8", "replace")
        event = chance.choice(events) if chance.random() < 0.7 else odd_value(chance)
        try:
            filter_ = Filter(text)
        except FilterError:
            return
        if re.search(r"\d{5}", text):
            # jsonpath2 goes through a slice one by one, however large it is; we do not.
            with contextlib.suppress(FilterError):
                filter_.matches(event)
            return
        oracle = _oracle(text, event)
        try:
            found: Any = [json.dumps(value, sort_keys=True) for value in filter_.find(event)]
            matches: Any = filter_.matches(event)
        except FilterError:
            found = matches = None
        if found != oracle or (oracle is not None and matches != bool(oracle)):
            raise Finding(f"{text!r} finds {found!r}, and not {oracle!r}, in {event!r}")

    yield attempt


def _oracle(text: str, event: Any) -> list[str] | None:
    try:
        path = jsonpath2.Path.parse_str(text)
        return [json.dumps(match.current_value, sort_keys=True) for match in path.match(event)]
    except Exception:
        return None


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


TARGETS: dict[str, Callable[[], contextlib.AbstractContextManager[Try]]] = {
    "http": http,
    "head": head,
    "notification": notification,
    "archive": archive,
    "tar": tar,
    "jsonpath": jsonpath,
    "answers": answers,
}
