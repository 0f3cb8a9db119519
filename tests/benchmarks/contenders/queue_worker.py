"""A worker of a common job queue: queue_worker.py rq|huey WHERE."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any


def note(notes: str, event_id: str) -> None:
    """Note the time."""
    line = f"{event_id} {time.time()!r}\n"
    with open(notes, "a") as file:  # noqa: PTH123
        file.write(line)


def huey_queue(path: str) -> tuple[Any, Callable[[str, str], object]]:
    """A queue of huey on SQLite, with its task."""
    from huey import SqliteHuey

    queue = SqliteHuey(filename=path)
    return queue, queue.task()(note)


def rq_queue(port: str) -> Any:
    """A queue of rq on Redis."""
    import redis
    import rq

    return rq.Queue(connection=redis.Redis(port=int(port)))


if __name__ == "__main__":
    from tests.benchmarks.contenders.queue_worker import huey_queue, rq_queue

    kind, where = sys.argv[1:]
    if kind == "huey":
        huey_queue(where)[0].create_consumer(workers=2, initial_delay=0.01, max_delay=0.01).run()
    else:
        import rq

        rq.Worker([rq_queue(where)]).work(logging_level="WARNING")
