"""Many machines: attempts handed through a broker to workers on other machines, and their results taken back.

The runner's side is `CeleryEngine`, the other one `RemoteWorker`; both need the extra ``celery``. What they tell each
other of an attempt stands in a record in Redis, `AttemptRecords`; the ledger stays the one truth about jobs.
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
