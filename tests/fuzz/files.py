"""Fuzzing what is read from files and streams: archives, tars, and JSONPaths."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jsonpath2
import jsonpath2.parser

from pacifica_notifications_consumer import Filter, download
from pacifica_notifications_consumer.archive.archive import ArchiveLimits, Consumer, extract
from pacifica_notifications_consumer.errors import ArchiveError, FilterError, PacificaError
from pacifica_notifications_consumer.http.server import Handler
from pacifica_notifications_consumer.settings.services import Services
from tests.fuzz.good import EVENTS, Finding, Try, remove
from tests.fuzz.mutation import odd_value, spoil
from tests.support.faults import fault_server

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
                remove(inside)
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
            remove(inside)
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
    quick = mock.patch("pacifica_notifications_consumer.clients.retry.time.sleep", lambda _: None)
    with quick, fault_server(answer) as server, tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        services = Services(cartd_url=server.url, username="alice")

        def attempt(chance: random.Random) -> None:
            served[0] = spoil(chance.choice(good), chance, good) if chance.random() < 0.95 else chance.choice(good)
            source = home / "source"
            if source.exists():
                remove(source)
            source.mkdir()
            (source / "notification.json").write_text(json.dumps({"data": rows}))
            server.requests.clear()
            try:
                download(source, services=services, timeout=5.0).get()
            except PacificaError:
                pass
            else:
                _insist_whole(source, content, served[0])
            odd = [path for path in source.rglob("*") if path.is_symlink()]
            if odd or sorted(path.name for path in home.iterdir()) != ["source"]:
                raise Finding(f"{odd} of {served[0]!r}")
            remove(source)

        yield attempt


def _insist_whole(source: Path, content: bytes, served: bytes) -> None:
    files = {path.relative_to(source).as_posix(): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    del files["notification.json"]
    if files != {"downloads/a.txt": content, "downloads/sub/b.txt": content}:
        raise Finding(f"{sorted(files)} of {served!r}")


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
