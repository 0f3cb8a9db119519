"""download() on the real cartd, archive and proxy."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest

from pacifica_notifications_consumer import download, upload
from pacifica_notifications_consumer.clients.cartd import Cartd
from pacifica_notifications_consumer.errors import BrokenOff, DownloadError, ServiceError
from pacifica_notifications_consumer.settings.services import Services
from tests.endtoend.conftest import wait_until
from tests.integration.bed import Bed
from tests.integration.conftest import TRANSACTION, announce, contents, failure, write
from tests.support.relay import Relay

FILES = {
    "a.txt": b"alpha",
    "empty": b"",
    "größe/ψ/naïve café.txt": "straße, ὀδός\n".encode(),
    "data/inner.txt": b"a folder of the name that ingest cuts off",
    "data/data/deeper.txt": b"twice",
    "deep/" * 30 + "n" * 150 + ".txt": b"a path of more than the 100 characters of old tars",
    "n" * 255: b"the longest name that a file can have",
    "ä" * 127: b"the longest one of two bytes a character",
    " a \t'\"\\ ": b"a name that has to be quoted",
    "large.bin": os.urandom(5 << 20),
}


@pytest.fixture(scope="module")
def event(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    services = Services.from_environment(bed.environ() | {"PACIFICA_USERNAME": "alice"})
    directory = write(tmp_path_factory.mktemp("instrument"), FILES)
    for number, name in enumerate(FILES):
        os.utime(directory / "uploads" / name, (1_600_000_000 + number, 1_600_000_000 + number))
    made: dict[str, Any] = upload(directory, TRANSACTION, services=services).get()
    return made


@pytest.fixture
def source(event: dict[str, Any], tmp_path: Path) -> Path:
    return announce(tmp_path / "source", event)


@pytest.fixture
def carts(bed: Bed) -> Iterator[None]:
    """Asserts that no cart is left behind."""
    yield
    assert [path for path in (bed.directory / "cart").rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("carts")
def test_files_of_all_kinds(services: Services, event: dict[str, Any], source: Path) -> None:
    """Unicode, empty, long and odd names arrive as they were sent, with their times, and the cart is deleted."""
    assert download(source, services=services).get() == event
    assert contents(source / "downloads") == FILES
    for row in (row for row in event["data"] if row["destinationTable"] == "Files"):
        changed = (source / "downloads" / row["subdir"] / row["name"]).stat().st_mtime
        assert datetime.fromtimestamp(changed, UTC).replace(tzinfo=None).isoformat() == row["mtime"]
    assert {path.name for path in (source / "downloads").iterdir()} == {name.split("/")[0] for name in FILES}


@pytest.mark.usefixtures("carts")
def test_bundled_cart(services: Services, event: dict[str, Any], source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cart that cartd bundles, where a site is configured so, is laid out differently and read all the same."""
    original = Cartd.request

    def bundling(self: Cartd, method: str, path: str, **arguments: Any) -> Any:
        if method == "POST":
            arguments["data"] = json.dumps({**json.loads(arguments["data"]), "bundle": True}).encode()
        return original(self, method, path, **arguments)

    monkeypatch.setattr(Cartd, "request", bundling)
    assert download(source, services=services).get() == event
    assert contents(source / "downloads") == FILES


def test_second_download_fetches_nothing(services: Services, source: Path) -> None:
    """What is there and verified is not fetched again: without cartd the second download succeeds."""
    download(source, services=services).get()
    nowhere = attrs.evolve(services, cartd_url="http://127.0.0.1:9")
    download(source, services=nowhere).get()
    (source / "downloads" / "a.txt").write_bytes(b"ALPHA")
    assert "cannot reach cartd" in str(failure(download(source, services=nowhere)))


def test_interrupted_download_fetches_what_is_missing(
    bed: Bed, services: Services, source: Path, relays: list[Relay]
) -> None:
    """A stream that breaks off is gone on with: the next cart holds what was not verified before."""
    cuts = [3 << 20]

    def cut(request: bytes, passed: int) -> int | None:
        if b"GET /" in request and cuts and passed > cuts[0]:
            # A reset takes with it what has not been read yet.
            downloads = source / "downloads"
            wait_until(lambda: any((downloads / name).exists() for name in FILES), "something has been verified")
            del cuts[0]
            return 0
        return None

    relay = Relay(bed.urls["cartd"], cut)
    relays.append(relay)
    download(source, services=attrs.evolve(services, cartd_url=relay.url)).get()
    assert contents(source / "downloads") == FILES
    assert not cuts
    sent = b"".join(relay.requests)
    carts = [json.loads(part.split(b"\r\n\r\n", 1)[1].split(b"HEAD ")[0]) for part in sent.split(b"POST /")[1:]]
    asked = [{file["hashsum"] for file in cart["fileids"]} for cart in carts]
    assert len(asked) == 2
    assert len(asked[0]) == len(FILES)
    assert hashlib.sha1(FILES["large.bin"]).hexdigest() in asked[1] < asked[0]  # noqa: S324


def test_hash_that_does_not_agree(services: Services, event: dict[str, Any], tmp_path: Path) -> None:
    """The real cartd refuses a file whose hash is not the announced one; it says so after its own five tries."""
    changed = json.loads(json.dumps(event))
    changed["data"][3]["hashsum"] = "0" * 40
    error = failure(download(announce(tmp_path / "source", changed), services=services))
    assert isinstance(error, DownloadError)
    assert "could not prepare the files" in str(error)
    assert contents(tmp_path / "source" / "downloads") == {}


def test_file_that_nobody_has(services: Services, event: dict[str, Any], tmp_path: Path) -> None:
    """A file that the archive does not have fails the cart with the archive's reason."""
    changed = json.loads(json.dumps(event))
    changed["data"][3]["_id"] = 10**9
    error = failure(download(announce(tmp_path / "source", changed), services=services))
    assert "could not prepare the files" in str(error)


def test_archive_that_is_down(bed: Bed, services: Services, source: Path) -> None:
    """Without the archive the cart fails, and says why; afterwards the same call succeeds."""
    with bed.without("archiveinterface"):
        error = failure(download(source, services=services))
        assert isinstance(error, DownloadError)
        assert "could not prepare the files" in str(error)
    download(source, services=services).get()
    assert contents(source / "downloads") == FILES


def test_worker_that_is_down(bed: Bed, services: Services, source: Path) -> None:
    """A cart that stays staging for ever is given up at the deadline."""
    with bed.without("cartd-worker"):
        error = failure(download(source, services=services, timeout=1.5))
        assert "did not prepare the files within 1.5 seconds; check that cartd's worker runs" in str(error)
    download(source, services=services).get()


def test_cart_that_is_taken_away(bed: Bed, services: Services, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cart that somebody deletes while it is waited for is an error, not an endless wait."""
    original = Cartd.create

    def create_and_lose(self: Cartd, uid: str, files: Any) -> None:
        original(self, uid, files)
        self.delete(uid)

    monkeypatch.setattr(Cartd, "create", create_and_lose)
    error = failure(download(source, services=services))
    assert isinstance(error, DownloadError)
    assert "No cart with uid" in str(error)


def test_cartd_that_restarts(bed: Bed, services: Services, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cartd that goes away after it has answered is waited for."""
    original = Cartd.create

    def create_and_restart(self: Cartd, uid: str, files: Any) -> None:
        original(self, uid, files)
        with bed.without("cartd"):
            pass

    monkeypatch.setattr(Cartd, "create", create_and_restart)
    download(source, services=services).get()
    assert contents(source / "downloads") == FILES


def test_cartd_that_is_down(bed: Bed, services: Services, source: Path) -> None:
    """A cartd that does not answer at all is told at once, with its address."""
    with bed.without("cartd"):
        error = failure(download(source, services=services))
    assert isinstance(error, ServiceError)
    assert f"cannot reach cartd at {services.cartd_url}: Connection refused" in str(error)


def test_connection_that_always_breaks(
    bed: Bed, services: Services, source: Path, relays: list[Relay], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that never gets anywhere is given up after some tries."""
    monkeypatch.setattr("pacifica_notifications_consumer.clients.retry.time.sleep", lambda _: None)
    relay = Relay(bed.urls["cartd"], lambda request, passed: 200 if b"GET /" in request and passed else None)
    relays.append(relay)
    error = failure(download(source, services=attrs.evolve(services, cartd_url=relay.url)))
    assert isinstance(error, BrokenOff | ServiceError)


@pytest.fixture
def with_proxy(bed: Bed, services: Services) -> Services:
    return attrs.evolve(services, proxy_url=bed.urls["proxy"])


def test_proxy_alone(with_proxy: Services, source: Path) -> None:
    """The proxy gives all files, of whatever name, without a cart; they are verified the same way."""
    download(source, services=attrs.evolve(with_proxy, cartd_url="http://127.0.0.1:9")).get()
    assert contents(source / "downloads") == FILES


def test_proxy_with_cartd_behind(with_proxy: Services, source: Path) -> None:
    """What the proxy does not give comes from cartd."""
    download(source, services=with_proxy).get()
    assert contents(source / "downloads") == FILES


def test_proxy_that_is_down(bed: Bed, with_proxy: Services, source: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without the proxy all comes from cartd, and the log says so."""
    with bed.without("proxy"):
        download(source, services=with_proxy).get()
    assert contents(source / "downloads") == FILES
    assert "cannot reach the proxy" in caplog.text


def test_archive_that_is_down_behind_the_proxy(bed: Bed, with_proxy: Services, source: Path) -> None:
    """When neither way gives the files, the error is cartd's."""
    with bed.without("archiveinterface"):
        assert "could not prepare the files" in str(failure(download(source, services=with_proxy)))
    assert contents(source / "downloads") == {}
