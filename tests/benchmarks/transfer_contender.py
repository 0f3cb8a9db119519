"""One download or upload by this library, in a process of its own: prints the seconds and the peak memory in bytes.

`python -m tests.benchmarks.transfer_contender download|upload DIRECTORY URL`
"""

from __future__ import annotations

import resource
import sys
import time

from pacifica_notifications_consumer import download, upload
from pacifica_notifications_consumer.services import Services


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
    print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _nobody(*_: int) -> None:
    """Wants to know nothing."""


if __name__ == "__main__":
    main()
