"""Helpers of the tests of JobRunner: runners of small entry-points, and functions that wait for their effects."""

import json
import os
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.engines.local import LocalEngine
from pacifica_notifications_consumer.jobs.job import Job
from pacifica_notifications_consumer.settings.services import Services
from tests.support.machine.waiting import DEADLINE
from tests.support.paths import PROC

#: An entry-point of its own interpreter takes several times as long, so most tests of it are left to `make test-all`.
WAYS = (pytest.param("cold", marks=pytest.mark.whole), "warm")
SERVICES = Services(username="alice", password="hunter2", cartd_url="http://cartd:1")


class WarmRunner(JobRunner):
    """A runner whose context begins when warm start is ready."""

    def __enter__(self) -> Self:
        runner = super().__enter__()
        if isinstance(self._engine, LocalEngine):
            assert self._engine._warm_start is not None
            assert self._engine._warm_start.wait(DEADLINE)
        return runner


def make_runner(tmp_path: Path, source: str, *, way: str = "cold", **arguments: Any) -> JobRunner:
    """Make a runner of an entry-point, given by its source, with one of the `WAYS` of starting it."""
    entry_point = tmp_path / "consumer" / "__main__.py"
    entry_point.parent.mkdir(exist_ok=True)
    entry_point.write_text(source)
    options: dict[str, Any] = {"name": "mine", "services": SERVICES, "retry_delay": 0.0, "grace": 0.0}
    options["warm"] = way == "warm"
    return (WarmRunner if way == "warm" else JobRunner)(entry_point, tmp_path / "state", **(options | arguments))


def body(number: int = 1, *rows: dict[str, Any]) -> bytes:
    """A notification."""
    return json.dumps({"source": "here", "eventID": f"e.{number}", "data": list(rows)}).encode()


def accept(runner: JobRunner, number: int = 1) -> int:
    """Accept a matching notification, and return the number of its job."""
    job_id = runner.accept(body(number)).job_id
    assert job_id is not None
    return job_id


def run_one(runner: JobRunner) -> Job:
    """Run one job to its end."""
    with runner:
        return runner.wait(accept(runner), DEADLINE)


def alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return (PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def run_in_child(work: Callable[[], object]) -> int:
    """Run a function in a forked child, which may kill itself there; returns the child's exit code."""
    with warnings.catch_warnings():
        # Python 3.12 and later warn of the threads of the tests.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
