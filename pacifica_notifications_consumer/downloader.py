"""download(): fetch the files of a notification's transaction through cartd, and verify each of them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any

from requests import RequestException
from urllib3.exceptions import HTTPError

from .cartd import Cartd, CartState
from .errors import DownloadError, ServiceError
from .notification import FileRecord, Notification
from .promises import Promise
from .session import make_session, reason, summarize
from .settings import Services

_CHUNK = 1 << 20
#: Seconds that cartd may take for a cart, and for each file of it (40 to 60 ms were measured).
_STAGING_SECONDS, _STAGING_SECONDS_PER_FILE = 300.0, 0.5
_FIRST_POLL, _SLOWEST_POLL = 0.02, 1.0


def download(
    event_path: str | os.PathLike[str], *, services: Services | None = None, timeout: float | None = None
) -> Promise[dict[str, Any]]:
    """Fetch the files of the transaction that ``event_path/notification.json`` announces.

    Args:
        event_path: The job's directory ``SRC``; files go to ``event_path/downloads/<subdir>/<name>``.
        services: Where Pacifica is; by default what the environment says (``PACIFICA_CARTD_URL`` and so on).
        timeout: Seconds that cartd may take to prepare the files; by default 300, and 0.5 more for each file.

    Returns:
        A promise of the notification, as ``json.loads`` returns it. It is fulfilled when every file is in place, of
        the size and the hash that the notification names, and rejected with

        - `NotificationError`: the notification is missing or not usable,
        - `ServiceError`: cartd cannot be reached or refuses,
        - `DownloadError`: a file is missing, unexpected, or not the one that was announced.

        A rejection that no code handles ends the process with a status greater than 0.
    """
    return Promise(lambda resolve, _reject: resolve(_download(Path(event_path), services, timeout)))


def _download(event_path: Path, services: Services | None, timeout: float | None) -> dict[str, Any]:
    notification = _read_notification(event_path)
    files = {file.path: file for file in notification.files}
    for file in files.values():
        if file.hashtype not in hashlib.algorithms_available:
            raise DownloadError(
                f"the notification's file {str(file.path)!r} has a hash of the unknown type {file.hashtype!r}",
                "install a Python whose hashlib knows it",
            )
    downloads = event_path / "downloads"
    downloads.mkdir(exist_ok=True)
    if not files:
        return notification.event
    if timeout is None:
        timeout = _STAGING_SECONDS + _STAGING_SECONDS_PER_FILE * len(files)
    services = services or Services.from_environment()
    with make_session(services) as session, _cart(Cartd(services.cartd_url, session), files, timeout) as tar:
        _extract(tar, files, downloads)
    return notification.event


def _read_notification(event_path: Path) -> Notification:
    try:
        body = (event_path / "notification.json").read_bytes()
    except OSError as error:
        raise DownloadError(
            f"cannot read {event_path / 'notification.json'}: {error.strerror}",
            "pass the directory SRC, the first argument of the entry-point",
        ) from error
    return Notification.parse(body)


@contextlib.contextmanager
def _cart(cartd: Cartd, files: dict[PurePosixPath, FileRecord], timeout: float) -> Iterator[Any]:
    """Have a cart prepared, open its tar, and delete it afterwards."""
    uid = str(uuid.uuid4())
    cartd.create(uid, files.values())
    try:
        _wait_until_ready(cartd, uid, timeout)
        with cartd.open(uid) as tar:
            yield tar
    finally:
        # A cart that stays behind costs the server disk, but nobody their data.
        with contextlib.suppress(ServiceError):
            cartd.delete(uid)


def _wait_until_ready(cartd: Cartd, uid: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    pause = _FIRST_POLL
    while (status := cartd.status(uid)).state is not CartState.READY:
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
        pause = min(pause * 1.5, _SLOWEST_POLL)


def _extract(stream: Any, files: dict[PurePosixPath, FileRecord], downloads: Path) -> None:
    """Write the files of a cart's tar, each under a temporary name until it is verified."""
    missing = set(files)
    incoming = Path(tempfile.mkdtemp(prefix=".incoming-", dir=downloads))
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK) as tar:
            for member in tar:
                if member.isdir():
                    continue
                file = _expected(member, files, missing)
                content = tar.extractfile(member)
                if content is None:
                    raise DownloadError(f"cartd sent {member.name!r} as something that is no file")
                _write(content, file, incoming / "file", downloads / file.path)
                missing.remove(file.path)
    except (tarfile.TarError, RequestException, HTTPError, EOFError) as error:
        raise DownloadError(f"the files from cartd broke off: {reason(error)}", "try again") from error
    except OSError as error:
        raise DownloadError(f"cannot write into {downloads}: {error.strerror}", "make room there") from error
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    if missing:
        raise DownloadError(
            f"cartd did not send {len(missing)} of {len(files)} files, {str(min(missing))!r} among them",
            "look into the log of cartd",
        )


def _expected(
    member: tarfile.TarInfo, files: dict[PurePosixPath, FileRecord], missing: set[PurePosixPath]
) -> FileRecord:
    """Find the file that a member of the tar is, or refuse the member."""
    path = PurePosixPath(*member.name.split("/")[1:])
    if not member.isreg():
        raise DownloadError(f"cartd sent {member.name!r}, which is no regular file", "look into cartd's archive")
    if path not in files:
        raise DownloadError(f"cartd sent {member.name!r}, which the notification does not name", "try again")
    if path not in missing:
        raise DownloadError(f"cartd sent {member.name!r} twice", "try again")
    return files[path]


def _write(content: IO[bytes], file: FileRecord, temporary: Path, target: Path) -> None:
    digest = hashlib.new(file.hashtype, usedforsecurity=False)
    size = 0
    with temporary.open("wb") as out:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            size += out.write(chunk)
    if size != file.size or digest.hexdigest() != file.hashsum.lower():
        raise DownloadError(
            f"{str(file.path)!r} arrived with {size} bytes and {file.hashtype} {digest.hexdigest()}, "
            f"announced were {file.size} bytes and {file.hashsum}",
            "try again; if it stays so, the archive's copy is damaged",
        )
    with contextlib.suppress(ValueError):
        changed = datetime.fromisoformat(file.mtime).replace(tzinfo=UTC).timestamp()
        os.utime(temporary, (changed, changed))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(target)
