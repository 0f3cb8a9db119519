"""Files from the proxy are verified; files that it does not deliver, or delivers damaged, come from cartd."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pacifica_notifications_consumer import download, upload
from pacifica_notifications_consumer.errors import DownloadError
from pacifica_notifications_consumer.http.server import Handler
from pacifica_notifications_consumer.settings.services import Services
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.support.faults import FaultServer, fault_server, replying
from tests.unit.transfer.test_transfer import FILES, TRANSACTION, contents, failure, incoming


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def source(sandbox: Sandbox, tmp_path: Path) -> Path:
    for name, content in FILES.items():
        path = tmp_path / "out" / "uploads" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    event = upload(tmp_path / "out", TRANSACTION, services=Services.from_environment(sandbox.environ())).get()
    return incoming(tmp_path, json.dumps(event).encode())


@contextlib.contextmanager
def proxy(source: Path, spoil: Callable[[Handler, bytes], bool] = lambda *_: False) -> Iterator[FaultServer]:
    """A proxy that has the files; `spoil` may answer a request in its place and then returns True."""
    rows = json.loads((source / "notification.json").read_bytes())["data"]
    by_hash = {
        f"/files/sha1/{row['hashsum']}": FILES[f"{row['subdir']}/{row['name']}".lstrip("/")]
        for row in rows
        if row["destinationTable"] == "Files"
    }

    def answer(handler: Handler, _: bytes) -> None:
        content = by_hash[handler.path]
        if not spoil(handler, content):
            handler.reply(200, content)

    with fault_server(answer) as server:
        yield server


def test_all_from_the_proxy(sandbox: Sandbox, source: Path) -> None:
    """If the proxy has all files, cartd is not used, and each file is requested once."""
    with proxy(source) as server:
        nowhere = Services(cartd_url="http://127.0.0.1:9", proxy_url=server.url)
        download(source, services=nowhere).get()
        assert len(server.requests) == len(FILES)
    assert contents(source / "downloads") == FILES


def reply_404(handler: Handler, content: bytes) -> bool:
    handler.reply(404)
    return True


def damage(handler: Handler, content: bytes) -> bool:
    handler.reply(200, content[:-1] + b"?")
    return True


def lengthen(handler: Handler, content: bytes) -> bool:
    handler.reply(200, content + b"?")
    return True


def break_off(handler: Handler, content: bytes) -> bool:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content) + 1))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)
    return True


@pytest.mark.sampled
@pytest.mark.parametrize("spoil", [reply_404, damage, lengthen, break_off])
def test_proxy_that_misbehaves(
    sandbox: Sandbox, source: Path, spoil: Callable[[Handler, bytes], bool], caplog: pytest.LogCaptureFixture
) -> None:
    """All files arrive intact even if the proxy refuses, damages, lengthens or breaks off some of them."""
    with proxy(source, lambda handler, content: len(content) % 2 == 1 and spoil(handler, content)) as server:
        services = Services.from_environment(sandbox.environ() | {"PACIFICA_PROXY_URL": server.url})
        told: list[tuple[int, ...]] = []
        download(source, services=services, progress=lambda *numbers: told.append(numbers)).get()
    assert contents(source / "downloads") == FILES
    assert "left to cartd" in caplog.text
    size = sum(map(len, FILES.values()))
    assert told[-1] == (size, size, len(FILES), len(FILES))


def test_proxy_that_gives_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    """After ten failed files the proxy is not asked for the remaining ones."""
    (tmp_path / "out" / "uploads").mkdir(parents=True)
    for number in range(200):
        (tmp_path / "out" / "uploads" / str(number)).write_text(str(number))
    event = upload(tmp_path / "out", TRANSACTION, services=Services.from_environment(sandbox.environ())).get()
    source = incoming(tmp_path, json.dumps(event).encode())
    with fault_server(replying(404)) as server:
        services = Services.from_environment(sandbox.environ() | {"PACIFICA_PROXY_URL": server.url})
        download(source, services=services).get()
        assert 10 <= len(server.requests) < 20
    assert len(contents(source / "downloads")) == 200


def test_disk_that_takes_nothing(sandbox: Sandbox, source: Path) -> None:
    """A file that cannot be written ends the download without a cart."""
    (source / "downloads").mkdir()
    (source / "downloads" / "größe").touch()
    with proxy(source) as server:
        nowhere = Services(cartd_url="http://127.0.0.1:9", proxy_url=server.url)
        error: Any = failure(download(source, services=nowhere))
    assert isinstance(error, DownloadError)
    assert "cannot write into" in str(error)
