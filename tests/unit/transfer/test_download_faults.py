"""download() from a faulty cartd: the error names every fault, and no incomplete file is left."""

import hashlib
import io
import json
import os
import socket
import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer import download
from pacifica_notifications_consumer.errors import DownloadError, NotificationError, ServiceError
from pacifica_notifications_consumer.http.server import Handler
from pacifica_notifications_consumer.settings.services import Services
from tests.support.faults import fault_server
from tests.unit.transfer.test_transfer import contents, failure, incoming

pytestmark = pytest.mark.usefixtures("no_pauses")


def test_notification_that_is_missing(tmp_path: Path) -> None:
    """download() reports a missing notification with the directory to pass, and a damaged one as NotificationError."""
    assert "pass the directory SRC" in str(failure(download(tmp_path)))
    (tmp_path / "notification.json").write_text("{")
    assert isinstance(failure(download(tmp_path)), NotificationError)


def announce(*files: dict[str, Any]) -> bytes:
    row = {"destinationTable": "Files", "_id": 1, "subdir": "", "hashtype": "sha1"}
    return json.dumps({"data": [row | file for file in files]}).encode()


ALPHA = {"name": "a.txt", "size": 5, "hashsum": hashlib.sha1(b"alpha").hexdigest()}  # noqa: S324


def tar_with(*members: tuple[str, bytes, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content, kind in ((("data", b"", tarfile.DIRTYPE)), *members):
            info = tarfile.TarInfo(name)
            info.size, info.type = len(content), kind
            info.linkname = "/etc/passwd"
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def reset(handler: Handler) -> None:
    """Reset the connection of a request."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True


def download_from(tar: bytes, tmp_path: Path, body: bytes | None = None, **arguments: Any) -> Any:
    state, left = arguments.pop("state", "ready"), arguments.pop("left", [])
    source = incoming(tmp_path, body or announce(ALPHA))

    def answer(handler: Handler, _: bytes) -> None:
        if handler.command == "POST":
            handler.reply(201)
        elif handler.command == "HEAD":
            status = {"error": 500, "unknown": 404}.get(state, 204)
            handler.reply(status, X_Pacifica_Status=state, X_Pacifica_Message="the disk burns")
        else:
            handler.reply(200, tar)

    with fault_server(answer) as server:
        error = failure(download(source, services=Services(cartd_url=server.url), **arguments))
        methods = [request[0] for request in server.requests]
    # No incomplete file stays, and the cart is always deleted.
    assert sorted(contents(source / "downloads")) == left
    assert methods[-1] == "DELETE"
    return error


FILE = tarfile.REGTYPE


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([("data/a.txt", b"ALPHA", FILE)], "arrived with 5 bytes and sha1"),
        ([("data/a.txt", b"alph", FILE)], "arrived with 4 bytes"),
        ([], "did not send 1 of 1 files, 'a.txt' among them"),
        ([("data/b.txt", b"x", FILE)], "'data/b.txt', which the notification does not name"),
        ([("data/../a.txt", b"alpha", FILE)], "which the notification does not name"),
        ([("/data/a.txt", b"alpha", FILE)], "which the notification does not name"),
        ([("data/a.txt", b"", tarfile.SYMTYPE)], "which is not a regular file"),
        ([("data/a.txt", b"", tarfile.LNKTYPE)], "which is not a regular file"),
        ([("data/a.txt", b"", tarfile.FIFOTYPE)], "which is not a regular file"),
        ([("data/a.txt", b"", tarfile.CHRTYPE)], "which is not a regular file"),
    ],
)
def test_tar_that_is_not_what_was_announced(
    tmp_path: Path, members: list[tuple[str, bytes, bytes]], problem: str
) -> None:
    """A file that differs from the notification is an error that names the file, and no file is left in place."""
    error = download_from(tar_with(*members), tmp_path)
    assert isinstance(error, DownloadError)
    assert problem in str(error)


def test_tar_with_a_file_twice(tmp_path: Path) -> None:
    """A second copy of a file is refused; the first copy, which was verified, may stay."""
    tar = tar_with(("data/a.txt", b"alpha", FILE), ("data/a.txt", b"alpha", FILE))
    assert "twice" in str(download_from(tar, tmp_path, left=["a.txt"]))


@pytest.mark.parametrize("kept", [0, 100, 600, 1026])
def test_tar_that_breaks_off(tmp_path: Path, kept: int) -> None:
    """A tar that ends early is an error, at whichever byte it ends."""
    tar = tar_with(("data/a.txt", b"alpha", FILE))[:kept]
    assert isinstance(download_from(tar, tmp_path), DownloadError)


def test_cart_without_some_of_the_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What a cart lacks is fetched in another one, unless no file of it has come."""
    beta = {"_id": 2, "name": "b.txt", "size": 4, "hashsum": hashlib.sha1(b"beta").hexdigest()}  # noqa: S324
    source = incoming(tmp_path, announce(ALPHA, beta))
    asked: list[list[str]] = []

    def answer(handler: Handler, body: bytes) -> None:
        if handler.command == "POST":
            asked.append([file["path"] for file in json.loads(body)["fileids"]])
        if handler.command == "GET":
            last = (f"data/{asked[-1][-1]}", {"a.txt": b"alpha", "b.txt": b"beta"}[asked[-1][-1]], FILE)
            handler.reply(200, tar_with(last))
        else:
            handler.reply({"POST": 201}.get(handler.command, 204), X_Pacifica_Status="ready")

    with fault_server(answer) as server:
        download(source, services=Services(cartd_url=server.url)).get()
    assert contents(source / "downloads") == {"a.txt": b"alpha", "b.txt": b"beta"}
    assert asked == [["a.txt", "b.txt"], ["a.txt"]]
    assert "did not send 1 of 2 files; the rest is fetched in another cart" in caplog.text


def test_connection_that_is_reset(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that is reset in the middle of a file is tried again, in another cart, and the file is whole."""
    tar, resets = tar_with(("data/a.txt", b"alpha", FILE)), [True]
    source = incoming(tmp_path, announce(ALPHA))

    def answer(handler: Handler, _: bytes) -> None:
        if handler.command == "GET" and resets:
            resets.pop()
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(tar) + tar[:1026])
            handler.wfile.flush()
            reset(handler)
        elif handler.command == "GET":
            handler.reply(200, tar)
        else:
            handler.reply({"POST": 201}.get(handler.command, 204), X_Pacifica_Status="ready")

    with fault_server(answer) as server:
        download(source, services=Services(cartd_url=server.url)).get()
        carts = [path for method, path, *_ in server.requests if method == "POST"]
    assert contents(source / "downloads") == {"a.txt": b"alpha"}
    assert len(set(carts)) == 2
    assert "broke off" in caplog.text


LARGE = bytes(range(256)) * (20 << 10)
HASHSUM = hashlib.sha1(LARGE).hexdigest()  # noqa: S324


def test_large_file_that_is_damaged(tmp_path: Path) -> None:
    """A large file, which is hashed on another thread, is verified like a small one."""
    announced = announce({"name": "a.bin", "size": len(LARGE), "hashsum": HASHSUM})
    tar = tar_with(("data/a.bin", LARGE[:-1] + b"x", FILE))
    assert f"arrived with {len(LARGE)} bytes and sha1" in str(download_from(tar, tmp_path, announced))


def test_disk_that_takes_a_part_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file is whole although each write takes only a part of its bytes."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, piece: write(handle, piece[:30_000]))
    source = incoming(tmp_path, announce({"name": "a.bin", "size": len(LARGE), "hashsum": HASHSUM}))
    tar = tar_with(("data/a.bin", LARGE, FILE))

    def answer(handler: Handler, _: bytes) -> None:
        handler.reply({"POST": 201, "GET": 200}.get(handler.command, 204), tar, X_Pacifica_Status="ready")

    with fault_server(answer) as server:
        download(source, services=Services(cartd_url=server.url)).get()
    assert (source / "downloads" / "a.bin").read_bytes() == LARGE


@pytest.mark.parametrize(
    ("state", "problem"),
    [("error", "could not prepare the files: the disk burns"), ("unknown", "could not prepare the files")],
)
def test_cart_that_fails(tmp_path: Path, state: str, problem: str) -> None:
    """A cart that cartd cannot prepare fails the download with cartd's reason."""
    assert problem in str(download_from(b"", tmp_path, state=state))


def test_cart_that_stays_staging(tmp_path: Path) -> None:
    """A cart that is never ready fails the download at the deadline."""
    assert "within 0.1 seconds" in str(download_from(b"", tmp_path, state="staging", timeout=0.1))


def test_cartd_that_is_something_else(tmp_path: Path) -> None:
    """A server that is not cartd is reported as a ServiceError."""
    assert isinstance(download_from(b"", tmp_path, state="tea"), ServiceError)


def test_unknown_hash(tmp_path: Path) -> None:
    """A hash type that hashlib does not support is refused before a cart is made."""
    source = incoming(tmp_path, announce(ALPHA | {"hashtype": "crc7"}))
    assert "unknown type 'crc7'" in str(failure(download(source, services=Services())))
