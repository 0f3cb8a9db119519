from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.support.machine.waiting import DEADLINE
from tests.support.sandbox_tools import CONTENT, Ear, bundle, upload

FILES = {**CONTENT, "sub/deep/ü.txt": b"", "sub.txt": b"gamma\n"}


@pytest.fixture(scope="module")
def ear() -> Ear:
    return Ear()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, ear: Ear) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("archive"), on_event=ear) as running:
        upload(running, ear, bundle(FILES))
        yield running


@pytest.fixture
def sandbox(archive: Sandbox, ear: Ear) -> Iterator[Sandbox]:
    """The sandbox of this module, without the carts and sentences of the previous test."""
    ear.sentences.clear()
    yield archive
    cart(archive, "DELETE")


def wanted(number: int = 1, path: str = "/a.txt", **changes: Any) -> dict[str, Any]:
    content = list(FILES.values())[number - 1]
    hashsum = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    return {"id": number, "path": path, "hashtype": "sha1", "hashsum": hashsum, **changes}


ALL = [wanted(number, f"/{path}") for number, path in enumerate(FILES, start=1)]


def cart(sandbox: Sandbox, method: str, uid: str = "c1", **arguments: Any) -> requests.Response:
    return requests.request(method, f"{sandbox.cartd_url}/{uid}", timeout=DEADLINE, **arguments)


def make(sandbox: Sandbox, files: list[dict[str, Any]], uid: str = "c1", **more: Any) -> None:
    answer = cart(sandbox, "POST", uid, json={"fileids": files, **more})
    assert (answer.status_code, answer.json()) == (201, {"message": "Cart Processing has begun"})


def staged(sandbox: Sandbox, ear: Ear, files: list[dict[str, Any]], uid: str = "c1", **more: Any) -> str:
    make(sandbox, files, uid, **more)
    return ear.wait(f"cart {uid} ")[-1]


def members(body: bytes) -> dict[str, bytes | None]:
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        found = {}
        for info in tar:
            content = tar.extractfile(info)
            found[info.name] = None if content is None else content.read()
    return found


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"fileids": []}', {}, 415),
        (b'{"fileids": []}', {"Content-Type": "text/plain"}, 415),
        (b"{", {"Content-Type": "application/json"}, 400),
        (b"[]", {"Content-Type": "application/json"}, 500),
        (b"{}", {"Content-Type": "application/json"}, 500),
        (b'{"fileids": [{"id": 1}]}', {"Content-Type": "application/json"}, 500),
    ],
)
def test_bad_requests_for_a_cart(sandbox: Sandbox, body: bytes, headers: dict[str, str], status: int) -> None:
    """A request without Content-Type, without JSON, or incomplete is refused with the status of the real service."""
    assert cart(sandbox, "POST", data=body, headers=headers).status_code == status
    assert cart(sandbox, "HEAD").status_code == 404


def test_no_cart(sandbox: Sandbox) -> None:
    """An unknown cart is a 404 with a message in the header."""
    answer = cart(sandbox, "HEAD")
    assert (answer.status_code, answer.headers["X-Pacifica-Status"]) == (404, "error")
    assert answer.headers["X-Pacifica-Message"] == "No cart with uid c1 found"
    assert cart(sandbox, "GET").status_code == 404
    assert cart(sandbox, "DELETE").status_code == 404


def test_a_cart_from_begin_to_end(sandbox: Sandbox, ear: Ear) -> None:
    """A cart is staged, becomes ready, can be downloaded repeatedly, and deleted once."""
    staged(sandbox, ear, ALL)
    answer = cart(sandbox, "HEAD")
    assert (answer.status_code, answer.headers["X-Pacifica-Status"]) == (204, "ready")
    assert answer.headers["X-Pacifica-Message"] == ""
    for _ in range(2):
        answer = cart(sandbox, "GET", params={"filename": "data"})
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/octet-stream")
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert answer.headers["Content-Disposition"] == "attachment; filename=data"
    gone = cart(sandbox, "DELETE")
    assert (gone.status_code, gone.json()) == (200, {"message": "Cart Deleted Successfully"})
    assert cart(sandbox, "DELETE").status_code == 404
    assert cart(sandbox, "GET").status_code == 404


def test_what_is_in_a_cart(sandbox: Sandbox, ear: Ear) -> None:
    """The tar has one top directory and members for all directories, sorted, with modes and times of the archive."""
    staged(sandbox, ear, ALL[::-1])
    body = cart(sandbox, "GET", params={"filename": "data"}).content
    assert list(members(body).items()) == [
        ("data", None),
        ("data/a.txt", b"alpha\n"),
        ("data/sub", None),
        ("data/sub/b.txt", b"beta\n"),
        ("data/sub/deep", None),
        ("data/sub/deep/ü.txt", b""),
        ("data/sub.txt", b"gamma\n"),
    ]
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        info = tar.getmember("data/a.txt")
        assert (info.mode, tar.getmember("data/sub").mode) == (0o644, 0o755)
        assert info.mtime == int((sandbox.directory / "files" / "1").stat().st_mtime)
        assert info.uid == os.getuid()


@pytest.mark.parametrize(
    ("filename", "top"),
    [("data", "data"), ("data.tar", "data"), ("my.tar.gz", "my.gz"), ("x/y", "x/y"), (None, "data_20")],
)
def test_the_name_of_the_directory(sandbox: Sandbox, ear: Ear, filename: str | None, top: str) -> None:
    """The top directory has the requested file name without .tar, or a name with the time."""
    staged(sandbox, ear, [wanted()])
    names = list(members(cart(sandbox, "GET", params={"filename": filename}).content))
    assert names[0].startswith(top)
    assert filename is None or names[0] == top


def test_a_bundle(sandbox: Sandbox, ear: Ear) -> None:
    """A cart with bundle is sent as a file: with its length, named after the cart, and in ranges."""
    staged(sandbox, ear, ALL, bundle=True)
    answer = cart(sandbox, "GET", params={"filename": "data"})
    assert (answer.status_code, answer.headers["Content-Length"]) == (200, str(len(answer.content)))
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert next(iter(members(answer.content))) == "c1"
    for header, part in {
        "bytes=10-19": answer.content[10:20],
        "bytes=100-": answer.content[100:],
        "bytes=-7": answer.content[-7:],
    }.items():
        partial = cart(sandbox, "GET", headers={"Range": header})
        assert (partial.status_code, partial.content) == (206, part)
    assert cart(sandbox, "GET", headers={"Range": "bytes=99999999-"}).status_code == 416
    cart(sandbox, "DELETE")
    assert list((sandbox.directory / "carts").iterdir()) == []


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([wanted(id=99)], "Failed to stage with error"),
        ([wanted(id="../../ids.json")], "Failed to stage with error"),
        ([wanted(hashsum="0" * 40)], "File hash does not match provided hash"),
        ([wanted(hashtype="nope")], "unsupported hash type nope"),
        ([wanted(1, "x"), wanted(2, "x/y")], "Failed directory create with error"),
    ],
)
def test_carts_that_fail(sandbox: Sandbox, ear: Ear, files: list[dict[str, Any]], reason: str) -> None:
    """A missing file fails the cart with the reason, while GET only answers that the cart is not ready."""
    assert reason in staged(sandbox, ear, files)
    answer = cart(sandbox, "HEAD")
    assert (answer.status_code, answer.headers["X-Pacifica-Status"]) == (500, "error")
    assert reason in answer.headers["X-Pacifica-Message"]
    answer = cart(sandbox, "GET")
    assert (answer.status_code, answer.text) == (202, "The cart is not ready for download.")
    assert cart(sandbox, "DELETE").status_code == 200


def test_a_cart_of_nothing(sandbox: Sandbox) -> None:
    """A cart without files stays staging for ever, and can be deleted."""
    make(sandbox, [])
    answer = cart(sandbox, "HEAD")
    assert (answer.status_code, answer.headers["X-Pacifica-Status"]) == (204, "staging")
    assert cart(sandbox, "GET").status_code == 202
    assert cart(sandbox, "DELETE").status_code == 200


def test_staging_takes_its_time(tmp_path: Path) -> None:
    """A cart takes the configured time; deleting it or closing the sandbox does not wait for that."""
    with Sandbox(tmp_path, staging_seconds=3600) as sandbox:
        make(sandbox, [wanted()])
        make(sandbox, [wanted()], "c2")
        assert cart(sandbox, "HEAD").headers["X-Pacifica-Status"] == "staging"
        assert cart(sandbox, "DELETE").status_code == 200


def test_the_newest_of_a_uid(sandbox: Sandbox, ear: Ear) -> None:
    """A second cart with the same uid hides the first, and both are deleted together."""
    staged(sandbox, ear, [wanted()])
    make(sandbox, [])
    assert cart(sandbox, "HEAD").headers["X-Pacifica-Status"] == "staging"
    cart(sandbox, "DELETE")
    assert cart(sandbox, "HEAD").status_code == 404


def test_paths_in_a_cart(sandbox: Sandbox, ear: Ear) -> None:
    """A leading slash is removed from a path, long paths are kept, and files outside of the cart are left out."""
    long = "/".join(["long" * 10] * 5)
    files = [wanted(1, "/one"), wanted(1, long), wanted(2, "in/../two"), wanted(1, "x/../../out"), wanted(1, "//abs")]
    staged(sandbox, ear, files)
    found = members(cart(sandbox, "GET", params={"filename": "d"}).content)
    assert {name for name, content in found.items() if content is not None} == {"d/one", f"d/{long}", "d/two"}


def test_header_injection(sandbox: Sandbox, ear: Ear) -> None:
    """A file name with line breaks does not inject header fields."""
    staged(sandbox, ear, [wanted()])
    answer = cart(sandbox, "GET", params={"filename": "data\r\nX-Evil: 1"})
    assert "X-Evil" not in answer.headers


def test_a_client_that_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A client that disconnects during the download of a cart causes no output on the terminal."""
    ear = Ear()
    content = bytes(8 << 20)
    with Sandbox(tmp_path, on_event=ear) as sandbox:
        upload(sandbox, ear, bundle({"big.bin": content}))
        hashsum = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        staged(sandbox, ear, [{"id": 1, "path": "big", "hashtype": "sha1", "hashsum": hashsum}])
        with requests.get(f"{sandbox.cartd_url}/c1", timeout=DEADLINE, stream=True) as answer:
            assert answer.raw.read(100)
    assert capsys.readouterr() == ("", "")


def test_large_files_stream(tmp_path: Path) -> None:
    """Neither ingest nor cartd reads a large file into memory."""
    ear = Ear()
    content = bytes(24 << 20)
    body = bundle({"big.bin": content})
    hashsum = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    size = len(content)
    del content
    with Sandbox(tmp_path, on_event=ear) as sandbox:
        tracemalloc.start()
        try:
            upload(sandbox, ear, body)
            staged(sandbox, ear, [{"id": 1, "path": "big", "hashtype": "sha1", "hashsum": hashsum}])
            with requests.get(f"{sandbox.cartd_url}/c1", timeout=DEADLINE, stream=True) as answer:
                received = sum(map(len, answer.iter_content(1 << 20)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert received > size
    assert peak < size / 2
