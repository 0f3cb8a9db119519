"""Fetches single files from Pacifica's proxy, several at a time, until the proxy fails too often."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator

from ..clients.base import Readinto, make_session
from ..clients.proxy import Proxy
from ..cloudevents.notification import FileRecord
from ..errors import BrokenOff, DownloadError, ServiceError
from ..settings.services import Services
from ..streams.hashing import buffers
from .downloads import Downloads

log = logging.getLogger(__name__)

#: Number of files that are fetched at the same time; a larger number was not faster on the real proxy.
_CONNECTIONS = 4
#: Number of failed files after which the remaining ones are left to cartd.
_MOST_FAILURES = 10


def fetch_from_proxy(services: Services, downloads: Downloads) -> None:
    """Fetch the missing files from the proxy; a file that the proxy does not deliver correctly stays missing."""
    fetching = _Fetching(services, downloads)
    threads = [
        threading.Thread(target=fetching.work, name="pacifica proxy", daemon=True)
        for _ in range(min(_CONNECTIONS, len(downloads.missing)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if fetching.fault is not None:
        raise fetching.fault


class _Fetching:
    """The state that the fetching threads share."""

    def __init__(self, services: Services, downloads: Downloads) -> None:
        self._services = services
        self._downloads = downloads
        self._files: queue.SimpleQueue[FileRecord] = queue.SimpleQueue()
        for file in downloads.missing.values():
            self._files.put(file)
        self._given_up = False
        self._failures = 0
        #: An error that ends the whole download, such as a full disk.
        self.fault: Exception | None = None

    def work(self) -> None:
        """Fetch files until none are left or the proxy has failed too often."""
        try:
            with make_session(self._services) as session:
                proxy = Proxy(self._services.proxy_url or "", session)
                while not self._given_up and self.fault is None:
                    self._fetch(proxy, self._files.get_nowait())
        except queue.Empty:
            pass
        except Exception as error:
            self.fault = error

    def _fetch(self, proxy: Proxy, file: FileRecord) -> None:
        try:
            with proxy.open(file) as readinto:
                self._downloads.receive(file, _pieces(readinto))
        except ServiceError as error:
            # A proxy that answers lacks only this file; one that does not answer is down for all files.
            self._leave_to_cartd(error, for_all=error.status is None)
        except DownloadError as error:
            if isinstance(error.__cause__, OSError) and not isinstance(error, BrokenOff):
                raise  # a problem of the disk, which cartd cannot avoid either
            self._leave_to_cartd(error, for_all=False)

    def _leave_to_cartd(self, error: ServiceError | DownloadError, *, for_all: bool) -> None:
        self._failures += 1
        for_all = for_all or self._failures >= _MOST_FAILURES
        if not self._given_up:
            log.warning("%s; %s left to cartd", error.problem, "all files are" if for_all else "this file is")
        self._given_up = self._given_up or for_all


def _pieces(readinto: Readinto) -> Iterator[memoryview]:
    for buffer in buffers():
        size = readinto(buffer)
        if not size:
            return
        yield buffer[:size]
