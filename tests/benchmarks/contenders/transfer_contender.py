"""One download or upload by this library, in a process of its own: prints the seconds and the peak memory in bytes.

`python -m tests.benchmarks.contenders.transfer_contender download|upload DIRECTORY URL`
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pacifica_notifications_consumer import download, upload
from pacifica_notifications_consumer.settings.services import Services


def main() -> None:
    """Do it once."""
    what, directory, url = sys.argv[1:]
    services = Services(cartd_url=url, ingest_url=url)
    started = time.perf_counter()
    if what == "download":
        download(directory, services=services, progress=_nobody).get()
    else:
        attributes = {"Transactions.submitter": 10, "Transactions.project": "1234a", "Transactions.instrument": 54}
        upload(directory, attributes, services=services, progress=_nobody).get()
    print(time.perf_counter() - started, peak_memory())


def peak_memory() -> int:
    """Bytes of this program alone: what `resource` tells counts the one that it was started from, too."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _nobody(*_: int) -> None:
    """Wants to know nothing."""


if __name__ == "__main__":
    main()
