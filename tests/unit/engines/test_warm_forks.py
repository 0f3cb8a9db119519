"""What the warm process does when the system lets it fork no further child."""

from __future__ import annotations

from pathlib import Path

import pytest

from pacifica_notifications_consumer.engines.warm import start as warm_start
from pacifica_notifications_consumer.jobs.job import JobState
from tests.support.machine.waiting import DEADLINE, wait_until
from tests.support.runner_tools import accept, make_runner
from tests.unit.engines.test_warm_start import warm

#: Is imported by the warm process: while a file exists, it cannot fork, as at the limit of processes.
LIMITED = """
import errno, os
fork = os.fork
def limited():
    if os.path.exists("limit"):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()
os.fork = limited
"""


def test_no_further_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job for which no process can be forked is put off with the system's reason, and runs warm when one can."""
    monkeypatch.setattr(warm_start, "DOCUMENTED", ())
    consumer = tmp_path / "consumer"
    consumer.mkdir()
    (consumer / "limited.py").write_text(LIMITED)
    (consumer / "limit").touch()
    with make_runner(tmp_path, "import os; print(os.getppid())", way="warm", preload=["limited"]) as runner:
        job_id = accept(runner)
        assert job_id is not None
        wait_until(lambda: runner.job(job_id).deferrals >= 2)
        assert "could not be started: [Errno 11] Resource temporarily unavailable" in runner.job(job_id).reason
        pid = warm(runner).pid
        (consumer / "limit").unlink()
        job = runner.wait(job_id, DEADLINE)
        assert (job.state, job.attempts) == (JobState.SUCCEEDED, 1)
        assert runner.directory(job.id).output.read_text() == f"{pid}\n"
