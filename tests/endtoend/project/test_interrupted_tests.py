"""Tests that are interrupted, or whose process is killed, leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.machine.waiting import DEADLINE, wait_until, whole_lines
from tests.support.paths import ROOT
from tests.support.runner_tools import alive

#: A test that has started all kinds of things and then hangs.
HANGING = """
import os, subprocess, time
from pathlib import Path
from pacifica_notifications_consumer.engines.celery import Broker
from tests.endtoend.conftest import TOOL, Operator
from tests.engines.beds import WorkerProcess
from tests.engines.brokers import RedisServer
from tests.support.machine import reaper
from tests.support.machine.waiting import wait_for_line
from tests.support.runner_tools import accept, make_runner

HOME = Path(os.environ["HANGING_HOME"])

def test_that_hangs():
    redis = RedisServer(HOME / "redis")
    redis.start()
    worker = WorkerProcess(HOME / "worker", Broker(url=redis.url(), queue="q")).wait()
    Operator(HOME / "operator").command(TOOL, "sandbox", "--producer-port", "0", "--cartd-port", "0", "--ingest-port",
                                        "0", "--policy-port", "0").wait_for("Stop it with Ctrl-C")
    forked = os.fork()
    if not forked:
        time.sleep(1000)
    source = "import os, subprocess, sys, time; print(subprocess.Popen(['sleep', '1000'], env={}).pid, flush=True)"
    with make_runner(HOME, source + "; time.sleep(1000)", way="warm") as runner:
        output = runner.directory(accept(runner)).output
        job = wait_for_line(output)
        (HOME / "directory").mkdir()
        reaper.remove(HOME / "directory")
        (HOME / "disk").mkdir()
        if subprocess.run(["/bin/mount", "-t", "tmpfs", "none", HOME / "disk"], capture_output=True).returncode == 0:
            reaper.unmount(HOME / "disk")
        (HOME / "pids").write_text(f"{redis.pid} {worker.process.pid} {forked} {job}\\n")
        time.sleep(1000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
@pytest.mark.parametrize(
    ("number", "arguments"),
    [(signal.SIGKILL, []), (signal.SIGINT, []), (signal.SIGKILL, ["-n", "1"])],
    ids=["killed", "interrupted", "killed with workers"],
)
def test_interrupted_tests_leave_nothing(tmp_path: Path, number: int, arguments: list[str]) -> None:
    """No process, broker, worker, mount or directory of a test outlives a run that is killed or interrupted."""
    (tmp_path / "test_hanging.py").write_text(HANGING)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", *arguments]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            [*command, "-c", str(ROOT / "pyproject.toml"), str(tmp_path / "test_hanging.py")],
            cwd=ROOT,
            env=os.environ | {"HANGING_HOME": str(tmp_path)},
            stdout=said,
        )

    def hanging() -> list[str]:
        assert process.poll() is None, (tmp_path / "said").read_text()
        return whole_lines(tmp_path / "pids")

    pids = [int(pid) for pid in wait_until(hanging, "the test hangs")[0].split()]
    assert all(map(alive, pids))
    assert len(_processes(tmp_path)) > len(pids)
    process.send_signal(number)
    process.wait(DEADLINE)
    wait_until(lambda: not any(map(alive, pids)), "those that were told of have ended")
    wait_until(lambda: _processes(tmp_path) == [], "all others have ended")
    wait_until(lambda: not (tmp_path / "disk").is_mount(), "the file system is not mounted any more")
    wait_until(lambda: not (tmp_path / "directory").exists(), "the directory has gone")


def _processes(home: Path) -> list[int]:
    """The processes that come of a run."""
    found, mark = [], f"HANGING_HOME={home}".encode()
    for path in Path("/proc").iterdir():
        try:
            environ = (path / "environ").read_bytes()
        except OSError:
            continue
        if path.name.isdigit() and mark in environ.split(b"\0"):
            found.append(int(path.name))
    return found
