"""Consume the notifications of the Pacifica scientific data management platform.

An entry-point, the script that processes the files of one transaction, uses two functions:

- `download` fetches the files that a notification names, and verifies their sizes and hashes.
- `upload` sends the files of a directory as one new transaction, and waits until it is ingested.

A program that is a consumer of its own is composed of these, and of what the folders of this package export:

- `Filter` tests notifications against a JSONPath.
- `VenvBuilder` makes the virtual environment of a consumer, or finds it in a cache.
- `JobRunner` keeps notifications and jobs on disk, and runs the entry-point once for each notification that matches.
- `subscribed` subscribes an endpoint to the producer, watches and repairs the subscription, and ends it.
- `Services` says where the services of Pacifica are, and as which user to ask them.

To try a consumer, and in tests:

- `Sandbox` is a small Pacifica on this machine.

Every error is a `PacificaError`, and says what happened, to which thing, and what to do about it; the others are in the
module ``errors``. The documentation has a page for each of the three uses: "A first consumer", "Compose your own" and
"Try a consumer". Names load when first used, so that importing the package is cheap.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .environment import VenvBuilder
    from .errors import PacificaError
    from .filter import Filter
    from .queue import JobRunner
    from .settings import Services
    from .subscription import subscribed
    from .testing import Sandbox
    from .transfer import download, upload
else:
    from .exports import lazy

    __getattr__, __dir__ = lazy(
        __name__,
        environment="VenvBuilder",
        errors="PacificaError",
        filter="Filter",
        queue="JobRunner",
        settings="Services",
        subscription="subscribed",
        testing="Sandbox",
        transfer="download upload",
    )

__all__ = [
    "Filter",
    "JobRunner",
    "PacificaError",
    "Sandbox",
    "Services",
    "VenvBuilder",
    "download",
    "subscribed",
    "upload",
]
