"""Several machines: hand attempts out through a broker to workers on other machines, and collect the results.

The runner's side is `CeleryEngine`, the workers' side `RemoteWorker`; both need the extra ``celery``. They communicate
about an attempt through a record in Redis (`AttemptRecords`); only the ledger determines the states of jobs.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .broker import Broker
    from .engine import CeleryEngine
    from .worker import RemoteWorker
else:
    from ...exports import lazy

    __getattr__, __dir__ = lazy(__name__, broker="Broker", engine="CeleryEngine", worker="RemoteWorker")

__all__ = ["Broker", "CeleryEngine", "RemoteWorker"]
