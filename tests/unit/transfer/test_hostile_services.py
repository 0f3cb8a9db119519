"""A service that sends too much, too slowly, or without an end does not fill the disk or the memory, nor block."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import itertools
import json
import re
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from pacifica_notifications_consumer import download
from pacifica_notifications_consumer.clients import base
from pacifica_notifications_consumer.clients.base import make_session
from pacifica_notifications_consumer.clients.cartd import Cartd
from pacifica_notifications_consumer.clients.policy import Policy
from pacifica_notifications_consumer.errors import BrokenOff, DownloadError, ServiceError
from pacifica_notifications_consumer.http.server import Handler
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.streams.tar_stream import TarStream
from pacifica_notifications_consumer.transfer import downloads
from tests.support.faults import fault_server
from tests.support.machine.waiting import DEADLINE
from tests.unit.transfer.test_transfer import failure, incoming

pytestmark = pytest.mark.usefixtures("no_pauses")

PIECE = bytes(1 << 16)
#: More than a socket's buffers and ours hold together.
MUCH = 64 << 20


def source(tmp_path: Path, size: int = 5) -> Path:
    """A directory with the notification of one file of zeros."""
    hashsum = hashlib.sha1(bytes(size)).hexdigest()  # noqa: S324
    row = {"destinationTable": "Files", "_id": 1, "subdir": "a", "name": "b", "hashtype": "sha1", "size": size}
    return incoming(tmp_path, json.dumps({"data": [row | {"hashsum": hashsum}]}).encode())


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


_OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


class Sender:
    """Answers each GET with pieces, as cartd or the proxy does, until the client closes the connection."""

    def __init__(self, *first: bytes, then: Callable[[], Iterable[bytes]] = tuple, status: bytes = _OK) -> None:
        self._first, self._then = [status, *first], then
        #: The most bytes that one client has taken.
        self.sent = 0

    def __call__(self, handler: Handler, _: bytes) -> None:
        if handler.command != "GET":
            handler.reply({"POST": 201}.get(handler.command, 204), X_Pacifica_Status="ready")
            return
        handler.close_connection = True
        sent = 0
        with contextlib.suppress(OSError):
            for piece in itertools.chain(self._first, self._then()):
                handler.wfile.write(piece)
                handler.wfile.flush()
                sent += len(piece)
                self.sent = max(self.sent, sent)
                if sent > MUCH:
                    return


def written(directory: Path, seen: list[int]) -> Iterator[bytes]:
    """Pieces without an end, which note how much the receiver has written so far."""
    while True:
        seen.append(sum(path.stat().st_size for path in directory.glob("*/*") if path.is_file()))
        yield PIECE


@pytest.mark.parametrize("service", ["cartd", "the proxy"])
def test_more_than_was_announced(tmp_path: Path, service: str) -> None:
    """Of a file of 5 bytes never more than these are written, although the service announces and sends gigabytes."""
    job, seen = source(tmp_path), [0]
    first = [header("x/a/b", 1 << 33)] if service == "cartd" else []
    sender = Sender(*first, then=lambda: written(job / "downloads", seen))
    with fault_server(sender) as server:
        services = Services(cartd_url=server.url, proxy_url=None if service == "cartd" else server.url)
        error = failure(download(job, services=services))
    assert isinstance(error, DownloadError)
    assert sender.sent < MUCH
    assert max(seen) <= 5
    assert not any(path.is_file() for path in (job / "downloads").rglob("*"))
    if service == "cartd":
        assert "'a/b' has more than the 5 bytes that the notification announces" in str(error)


def test_folders_without_an_end(tmp_path: Path) -> None:
    """Cartd may send the folders of the files, and a few of its own, but not folders without an end."""
    folder = header("x/a", 0, tarfile.DIRTYPE)
    sender = Sender(then=lambda: itertools.repeat(folder))
    with fault_server(sender) as server:
        error = failure(download(source(tmp_path), services=Services(cartd_url=server.url)))
    assert "cartd sent more folders than the files are in" in str(error)
    assert sender.sent < MUCH


@pytest.mark.parametrize("kind", [tarfile.XGLTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_extensions_of_a_header_without_an_end(kind: bytes) -> None:
    """Extensions of extensions are an error of this library."""
    tar = io.BytesIO(header("././@PaxHeader", 0, kind) * 5000)
    with pytest.raises((BrokenOff, DownloadError)):
        list(TarStream(tar.readinto).members())


def test_extension_that_tarfile_fails_on() -> None:
    """An extension that is not as it should be is an error of this library."""
    record = b"27 GNU.sparse.map=a,b,c,d\n\n"
    tar = header("././@PaxHeader", len(record), tarfile.XHDTYPE) + record.ljust(512, b"\0") + header("x/a/b", 0)
    with pytest.raises(BrokenOff, match="the tar is damaged"):
        list(TarStream(io.BytesIO(tar).readinto).members())


def test_file_that_hardly_progresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that has bytes from time to time, but does not become complete, is given up."""
    monkeypatch.setattr(downloads, "_SECONDS", -1.0)
    size = 5000
    sender = Sender(header("x/a/b", size), bytes(size), bytes(-size % 512), bytes(1024))
    with fault_server(sender) as server:
        error = failure(download(source(tmp_path, size), services=Services(cartd_url=server.url)))
    assert isinstance(error, BrokenOff)
    assert "'a/b' arrived at less than 10000 bytes per second" in str(error)


def drip() -> Iterator[bytes]:
    pause = threading.Event()
    while not pause.wait(0.01):
        yield b"x"


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_bytes_that_drip(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte before each time-out of the socket keeps nobody waiting, in a status line, a header field or a tar."""
    monkeypatch.setattr(Cartd, "timeouts", (DEADLINE, 0.2))
    monkeypatch.setattr(Cartd, "tries", 1)
    sender = Sender(head, then=drip, status=b"")
    with fault_server(sender) as server, make_session(Services()) as session:
        with pytest.raises((ServiceError, BrokenOff)) as caught, Cartd(server.url, session).open("uid") as tar:
            list(tar.members())
        # On a machine with a high load, a single byte may take longer than the time-out.
        expected = r"(cannot reach cartd|broke off).*(it sent \d+ bytes in \d+ seconds|did not answer in time)"
        assert re.search(expected, str(caught.value))


_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
_DEFLATED = b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nConnection: close\r\n\r\n\x78\x9c"
_GZIPPED = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
#: The beginnings of answers, with what follows without an end.
ENDLESS = {
    "heads": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "trailers": (_CHUNKED, b"a: b\r\n"),
    "compressed nothing": (_DEFLATED, b"\0\0\0\xff\xff"),
    "archives of nothing": (_GZIPPED, gzip.compress(b"")),
    "extensions of chunks": (_CHUNKED.removesuffix(b"0\r\n"), b"1;" + b"x" * 1000 + b"\r\n[\r\n"),
    "a redirect": (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", b"x"),
}


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ENDLESS)
@pytest.mark.parametrize("limit", ["_LARGEST_ANSWER", "_LONGEST_ANSWER"])
def test_answers_without_content_or_end(kind: str, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is received counts, in bytes and time, also if it never becomes content; no request is repeated."""
    monkeypatch.setattr(base, limit, {"_LARGEST_ANSWER": 1 << 20, "_LONGEST_ANSWER": -1.0}[limit])
    first, then = ENDLESS[kind]
    sender = Sender(first, then=lambda: itertools.repeat(then * 1000), status=b"")
    with fault_server(sender) as server, make_session(Services()) as session:
        with pytest.raises(
            ServiceError, match=r"^policy at \S+ answered (without an end: (it sent|got more)|with more than)"
        ):
            Policy(server.url, session).answer(1)
        assert len(server.requests) == 1
    assert sender.sent < MUCH


@pytest.mark.parametrize("kind", ["heads", "trailers", "a redirect"])
def test_files_without_content_or_end(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds for files."""
    monkeypatch.setattr(base, "_LARGEST_ANSWER", 1 << 20)
    first, then = ENDLESS[kind]
    sender = Sender(first, then=lambda: itertools.repeat(then * 1000), status=b"")
    with fault_server(sender) as server, make_session(Services()) as session:
        with (
            pytest.raises((ServiceError, BrokenOff), match=r"(without an end|broke off): (it sent|got) more|with more"),
            Cartd(server.url, session).open("uid") as tar,
        ):
            list(tar.members())
        assert len(server.requests) == 1
    assert sender.sent < MUCH


def test_file_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for each part of a file is limited, too."""
    monkeypatch.setattr(base, "_LONGEST_ANSWER", -1.0)
    sender = Sender(header("x/a/b", 1 << 33), then=lambda: itertools.repeat(PIECE))
    with (
        fault_server(sender) as server,
        make_session(Services()) as session,
        pytest.raises(BrokenOff, match=r"^the files from cartd at \S+ broke off: it sent for longer than -1 seconds"),
        Cartd(server.url, session).open("uid") as tar,
    ):
        list(tar.members())


WHOLE = header("x/a/b", 5) + bytes(512)


def test_files_are_kept_as_they_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file can be had before the next one arrives, however slowly a service sends."""
    monkeypatch.setattr(base, "_SOON", 0.0)
    had = threading.Event()

    def later() -> Iterator[bytes]:
        if had.wait(DEADLINE):
            yield bytes(1024)

    with (
        fault_server(Sender(WHOLE, then=later)) as server,
        make_session(Services()) as session,
        Cartd(server.url, session).open("uid") as tar,
    ):
        for member in tar.members():
            assert b"".join(map(bytes, tar.body(member.size))) == bytes(5)
            had.set()
    assert had.is_set()


def test_files_before_a_break() -> None:
    """Files that arrived whole before the connection broke are not lost."""
    chunked = b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    with (
        fault_server(Sender(b"%x\r\n%b\r\nzz\r\n" % (len(WHOLE), WHOLE), status=chunked)) as server,
        make_session(Services()) as session,
        Cartd(server.url, session).open("uid") as tar,
    ):
        members = tar.members()
        assert next(members).name == "x/a/b"
        with pytest.raises(BrokenOff, match=r"the files from cartd at .* broke off"):
            next(members)
