"""Many machines: attempts handed through a broker to workers on other machines, and their results taken back.

The runner's side is `CeleryEngine`, the other one `RemoteWorker`; both need the extra ``celery``. What they tell each
other of an attempt stands in a record in Redis, `AttemptRecords`; the ledger stays the one truth about jobs.
"""

from __future__ import annotations

from .broker import Broker

__all__ = ["Broker"]
