"""download(): fetch the files of a notification's transaction and verify each of them."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..clients.base import PATIENT_TRIES, make_session, summarize
from ..clients.cartd import Cartd, CartState
from ..clients.retry import Backoff, pauses
from ..cloudevents.notification import FileRecord, Notification
from ..errors import BrokenOff, DownloadError, ServiceError, explained
from ..settings.services import Services
from ..streams.progress import ProgressCallback, TransferMeter
from ..streams.tar_stream import TarStream
from .background import in_background
from .downloads import Downloads
from .promises import Promise
from .proxy_download import fetch_from_proxy

log = logging.getLogger(__name__)

#: Seconds that cartd may take to prepare a cart, plus seconds for each of its files (measured: 40 to 60 ms).
_STAGING_SECONDS, _STAGING_SECONDS_PER_FILE = 300.0, 0.5
#: Maximum number of characters of a path in a cart. cartd's database stores 255, including the directory of the cart;
#: a cart with a longer path stays in the state "staging" for ever.
_LONGEST_CART_PATH = 100
#: The number of folders in a cart's tar that no file's path names.
_MORE_FOLDERS = 100


def download(
    event_path: str | os.PathLike[str],
    *,
    services: Services | None = None,
    timeout: float | None = None,
    progress: ProgressCallback | None = None,
) -> Promise[dict[str, Any]]:
    """Fetch the files of the transaction that ``event_path/notification.json`` announces.

    The download runs on a background thread, so several downloads and uploads can run at the same time. Transient
    failures are retried. A call after an interrupted download fetches only the missing files.

    Args:
        event_path: The job's directory ``SRC``; files go to ``event_path/downloads/<subdir>/<name>``.
        services: The addresses of Pacifica's services; by default those in the environment (``PACIFICA_CARTD_URL`` and
            so on).
        timeout: Seconds that cartd may take to prepare the files; by default 300, plus 0.5 for each file.
        progress: Called with the bytes done, the total bytes, the files done and the total files, at most ten times a
            second and at the end, on the background thread; by default a progress bar on a terminal, else log lines.

    Returns:
        A promise of the notification, as ``json.loads`` returns it. It is fulfilled when every file is in place with
        the size and the hash that the notification names, and rejected with

        - `NotificationError`: the notification is not usable,
        - `ServiceError`: cartd cannot be reached or refuses,
        - `DownloadError`: the notification or a file is missing, unexpected, or not the one that was announced.

        Callbacks run on the thread that waits for the promise with ``get()``, or on the main thread at the end of the
        program. An unhandled rejection ends the process with a status greater than 0.
    """
    path = Path(event_path)

    def work() -> dict[str, Any]:
        # A second download into the same directory finds what the first one has fetched.
        with _turns.setdefault(os.path.realpath(path), threading.Lock()):
            return _download(path, services, timeout, progress)

    return in_background(work)


#: The lock of each directory that is downloaded into.
_turns: dict[str, threading.Lock] = {}
os.register_at_fork(after_in_child=_turns.clear)


def _download(
    event_path: Path, services: Services | None, timeout: float | None, progress: ProgressCallback | None
) -> dict[str, Any]:
    event, files = _read_notification(event_path)
    size = sum(file.size for file in files)
    with (
        TransferMeter("download", size, len(files), progress) as meter,
        Downloads(event_path / "downloads", files, meter) as downloads,
    ):
        if downloads.missing:
            services = services or Services.from_environment()
            if services.proxy_url is not None:
                fetch_from_proxy(services, downloads)
            if downloads.missing:
                _fetch_from_cartd(services, downloads, timeout)
    return event


def _read_notification(event_path: Path) -> tuple[dict[str, Any], tuple[FileRecord, ...]]:
    path = event_path / "notification.json"
    advice = "pass the directory SRC, the first argument of the entry-point"
    with explained(DownloadError, f"cannot read {path}", advice):
        body = path.read_bytes()
    notification = Notification.parse(body, compact=True)
    return notification.event, notification.files


def _fetch_from_cartd(services: Services, downloads: Downloads, timeout: float | None) -> None:
    """Fetch the missing files in one cart; if it lacks some of them, or breaks off, fetch the rest in another cart."""
    backoff = Backoff(PATIENT_TRIES)
    with make_session(services) as session:
        cartd = Cartd(services.cartd_url, session)
        while True:
            missing = len(downloads.missing)
            files = _paths_in_cart(downloads.missing)
            try:
                with _cart(cartd, files, timeout) as tar:
                    _receive(tar, files, downloads)
                if not downloads.missing:
                    return
                problem = f"cartd did not send {len(downloads.missing)} of {len(files)} files"
                if len(downloads.missing) == missing:
                    example = min(file.path for file in files.values())
                    raise DownloadError(f"{problem}, {example!r} among them", "look into the log of cartd")
                # Where cartd bundles a cart, two of its workers may do so at the same time, which loses files.
                log.warning("%s; the rest is fetched in another cart", problem)
            except BrokenOff as error:
                if len(downloads.missing) < missing:
                    backoff.reset()
                if not backoff.pause(error.problem):
                    raise


def _paths_in_cart(missing: dict[str, FileRecord]) -> dict[str, FileRecord]:
    """Map each file to a path in the cart: its own path, or a replacement where cartd does not accept that."""
    files = {}
    for number, (path, file) in enumerate(missing.items()):
        while len(path) > _LONGEST_CART_PATH or (path in missing and path != file.path):
            path = f"long-name-{number}" if len(path) > _LONGEST_CART_PATH else f"{path}_"
        files[path] = file
    return files


@contextlib.contextmanager
def _cart(cartd: Cartd, files: dict[str, FileRecord], timeout: float | None) -> Iterator[TarStream]:
    """Have cartd prepare a cart, open the cart's tar, and delete the cart afterwards."""
    uid = str(uuid.uuid4())
    if timeout is None:
        timeout = _STAGING_SECONDS + _STAGING_SECONDS_PER_FILE * len(files)
    cartd.create(uid, files)
    try:
        _wait_until_ready(cartd, uid, timeout)
        with cartd.open(uid) as tar:
            yield tar
    finally:
        # A cart that is not deleted takes up disk space of the server; no data is lost.
        with contextlib.suppress(ServiceError):
            cartd.delete(uid)


def _wait_until_ready(cartd: Cartd, uid: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    for pause in pauses():
        status = cartd.status(uid)
        if status.state is CartState.READY:
            return
        if status.state is not CartState.STAGING:
            raise DownloadError(
                f"cartd at {cartd.url} could not prepare the files: {summarize(status.message or status.state.value)}",
                "look into the log of cartd, and check that its archive is up",
            )
        if time.monotonic() + pause > deadline:
            raise DownloadError(
                f"cartd at {cartd.url} did not prepare the files within {timeout:g} seconds",
                "check that cartd's worker runs, or pass a larger timeout to download()",
            )
        time.sleep(pause)


def _receive(tar: TarStream, files: dict[str, FileRecord], downloads: Downloads) -> None:
    """Write the files of a cart's tar; `files` maps the paths in the cart to the files."""
    expected = dict(files)
    folders = sum(path.count("/") + 1 for path in files) + _MORE_FOLDERS
    for member in tar.members():
        if member.isdir():
            if (folders := folders - 1) < 0:
                raise DownloadError("cartd sent more folders than the files are in", "look into the log of cartd")
            continue
        path = member.name.partition("/")[2]
        if not member.isreg() or member.issparse():
            raise DownloadError(f"cartd sent {member.name!r:.99}, which is not a regular file", "check cartd's archive")
        if path not in expected:
            problem = " twice" if path in files else ", which the notification does not name"
            raise DownloadError(f"cartd sent {member.name!r:.99}{problem}", "try again")
        downloads.receive(expected.pop(path), tar.body(member.size))
