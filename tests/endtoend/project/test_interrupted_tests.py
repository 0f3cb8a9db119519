"""Tests that are interrupted, or whose process is killed, leave nothing behind; what failed is summed up at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.machine.reaper import environ_of
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
from tests.support.machine.scratch import scratch_directory
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
    runner = make_runner(HOME, source + "; time.sleep(1000)", way="warm")
    with scratch_directory(HOME) as directory, runner:
        (directory / "file").touch()
        output = runner.directory(accept(runner)).output
        job = wait_for_line(output)
        (HOME / "disk").mkdir()
        if subprocess.run(["/bin/mount", "-t", "tmpfs", "none", HOME / "disk"], capture_output=True).returncode == 0:
            reaper.unmount(HOME / "disk")
        (HOME / "pids").write_text(f"{redis.pid} {worker.process.pid} {forked} {job}\\n")
        time.sleep(1000)
"""


#: Runs parts of the tests that are given by their arguments for pytest, as `make test` does.
RUN = """
import json, sys
sys.path.insert(0, "tools")
import run_tests
run_tests.PARTS = json.loads(sys.argv.pop(1))
sys.argv += run_tests.PARTS
sys.exit(run_tests.main())
"""
WITHOUT_CACHE = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
@pytest.mark.parametrize(
    ("number", "whole", "arguments"),
    [
        (signal.SIGKILL, False, []),
        (signal.SIGINT, False, []),
        (signal.SIGKILL, False, ["-n", "1"]),
        (signal.SIGKILL, True, ["-n", "1"]),
    ],
    ids=["killed", "interrupted", "killed with workers", "killed with what runs all parts"],
)
def test_interrupted_tests_leave_nothing(tmp_path: Path, number: int, whole: bool, arguments: list[str]) -> None:
    """No process, broker, worker, mount or directory of a test outlives a run that is killed or interrupted."""
    (tmp_path / "test_hanging.py").write_text(HANGING)
    arguments = [*WITHOUT_CACHE, *arguments, str(tmp_path / "test_hanging.py")]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            [
                sys.executable,
                *(["-c", RUN, json.dumps({"hanging": arguments})] if whole else ["-m", "pytest", *arguments]),
            ],
            cwd=ROOT,
            env=os.environ | {"HANGING_HOME": str(tmp_path)},
            stdout=said,
        )

    def hanging() -> list[str]:
        assert process.poll() is None, (tmp_path / "said").read_text()
        return whole_lines(tmp_path / "pids")

    pids = [int(pid) for pid in wait_until(hanging, "the test hangs")[0].split()]
    assert all(map(alive, pids))
    assert len(list(tmp_path.glob("tmp*/file"))) == 1
    assert len(_processes(tmp_path)) > len(pids)
    process.send_signal(number)
    process.wait(DEADLINE)
    wait_until(lambda: not any(map(alive, pids)), "those that were told of have ended")
    wait_until(lambda: _processes(tmp_path) == [], "all others have ended")
    wait_until(lambda: not (tmp_path / "disk").is_mount(), "the file system is not mounted any more")
    wait_until(lambda: not list(tmp_path.glob("tmp*")), "the directory has gone")


def test_summary(tmp_path: Path) -> None:
    """The summary names each test that failed, each part that did not end, and nothing else."""
    said = "import logging, os, signal\n"
    tests = {
        "good": "def test_it(): pass\n",
        "bad": "def test_bad():\n    logging.getLogger().error('only said')\n    assert False\n",
        "cut": "def test_cut(): assert False\ndef test_more(): os.kill(os.getpid(), signal.SIGINT)\n",
        "dead": "def test_it(): os.kill(os.getpid(), signal.SIGKILL)\n",
    }
    for name, code in tests.items():
        (tmp_path / f"test_{name}.py").write_text(said + code)
    parts = {name: [*WITHOUT_CACHE, str(tmp_path / f"test_{name}.py")] for name in tests}
    run = [sys.executable, "-c", RUN, json.dumps(parts)]
    finished = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert finished.returncode == 1, finished.stderr
    assert "bad | ERROR    root:test_bad.py:3 only said" in finished.stdout
    summary = finished.stdout.partition("summary of all parts\n")[2].replace(f"{tmp_path}/", "").splitlines()
    assert [line.split()[:2] for line in summary[:4]] == [["good", "1"], ["bad", "1"], ["cut", "1"], ["dead", "pytest"]]
    failed = [line for line in summary[4:-1] if line.startswith("FAILED")]
    assert [line.split(" - ")[0] for line in failed] == [
        "FAILED ::test_bad",
        "FAILED ::test_cut",
        "FAILED cut: pytest ended with status 2, interrupted",
        "FAILED dead: pytest ended with status -9",
    ]
    assert summary[-1].startswith("=== 2 failed, 1 passed in ")


def _processes(home: Path) -> list[int]:
    """The processes that come of a run."""
    mark = f"HANGING_HOME={home}".encode()
    names = [path.name for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [int(name) for name in names if mark in environ_of(name)]
