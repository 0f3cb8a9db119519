"""Each way to end a script, at each place in it, gives the same exit status warm, cold and by hand."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pacifica_notifications_consumer import JobRunner
from pacifica_notifications_consumer.engines import local
from pacifica_notifications_consumer.jobs.directory import JobDirectory
from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.system.account import Account
from pacifica_notifications_consumer.system.orphans import end_marked
from tests.support import runner_tools
from tests.support.machine.waiting import DEADLINE, wait_until
from tests.support.runner_tools import accept, make_runner

#: What `stop` does, with the status at the end of the script itself and in a callback.
WAYS = {
    "sys.exit()": (0, 0),
    "sys.exit(3)": (3, 3),
    "sys.exit('text')": (1, 1),
    "sys.exit(75)": (75, 75),
    "sys.exit(2**70)": (255, 255),
    "raise SystemExit(300)": (44, 44),
    "raise KeyboardInterrupt": (-signal.SIGINT, 130),
    "raise GeneratorExit": (1, 1),
    "1 / 0": (1, 120),
    "os._exit(5)": (5, 5),
    "os.kill(os.getpid(), signal.SIGTERM)": (-signal.SIGTERM, -signal.SIGTERM),
}
#: Where `stop` is called.
AT_THE_TOP = {
    "top level": "stop()",
    "get": "task().get(); stop()",
    "signal handler": "signal.signal(signal.SIGUSR1, stop); os.kill(os.getpid(), signal.SIGUSR1)",
}
IN_CALLBACKS = {
    "callback": "task().then(stop)",
    "callback of a callback": "task().then(lambda _: task().then(stop))",
    "second callback": "task().then(lambda _: 1).then(stop)",
    "after all": "from promise import Promise; Promise.all([task(), task()]).then(stop)",
    "coroutine": "async def wait(_): stop()\ntask().then(wait)",
    "signal handler in a callback": "signal.signal(signal.SIGUSR1, stop)\n"
    "task().then(lambda _: os.kill(os.getpid(), signal.SIGUSR1))",
}
#: Python goes on after an exception here, and reports it at most.
IGNORED = {
    "thread": "import threading; thread = threading.Thread(target=stop); thread.start(); thread.join()",
    "exit function": "import atexit; atexit.register(stop)",
    "finalizer": "class Left:\n    def __del__(self): stop()\nleft = Left()",
}
PRELUDE = """
import os, signal, sys, time
from pacifica_notifications_consumer.transfer.background import in_background
def task(): return in_background(lambda: time.sleep(0.01))
def stop(*_): {way}
"""

Case = tuple[str, int]


def _cases() -> dict[str, Case]:
    cases = {}
    for way, (at_the_top, in_callbacks) in WAYS.items():
        ignored = at_the_top if "os." in way else 0
        for places, status in ((AT_THE_TOP, at_the_top), (IN_CALLBACKS, in_callbacks), (IGNORED, ignored)):
            for place, call in places.items():
                cases[f"{way} in {place}"] = PRELUDE.format(way=way) + call, status
    return cases


CASES = _cases()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], int | None]]:
    """Run a script ``warm`` or ``cold`` as the job of a runner, or ``by hand``; returns its exit status."""
    runners: dict[str, JobRunner] = {}
    scripts: dict[str, Path] = {}
    numbers = itertools.count(1)

    def run(way: str, script: str) -> int | None:
        if way == "by hand":
            return subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=DEADLINE).returncode
        if way not in runners:
            directory = tmp_path_factory.mktemp(way)
            scripts[way] = directory / "consumer" / "__main__.py"
            runners[way] = make_runner(directory, "", way=way, attempts=1, retry_delay=1000.0)
            runners[way].__enter__()
        scripts[way].write_text(script)
        job_id = accept(runners[way], next(numbers))
        # A job that asks to be tried again has not ended.
        wait_until(lambda: runners[way].job(job_id).exit_status is not None)
        return runners[way].job(job_id).exit_status

    yield run
    for runner in runners.values():
        runner.__exit__(None, None, None)


@pytest.mark.sampled
@pytest.mark.parametrize("name", CASES)
def test_warm(run: Callable[[str, str], int | None], name: str) -> None:
    """A script that starts warm ends with this status."""
    script, status = CASES[name]
    assert run("warm", script) == status


@pytest.mark.whole
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("way", ["cold", "by hand"])
def test_cold(run: Callable[[str, str], int | None], way: str, name: str) -> None:
    """A script that has an interpreter of its own ends with the same status."""
    script, status = CASES[name]
    assert run(way, script) == status


@pytest.mark.parametrize("way", runner_tools.WAYS)
def test_lack_of_files_after_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """A job whose processes and files cannot be looked for at first, at its end, keeps its result and runs once."""
    lacking = 2

    def late(mark: str, kill_after: float, run_as: Account) -> int:
        nonlocal lacking
        lacking -= 1
        if lacking >= 0:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return end_marked(mark, kill_after, run_as)

    def never(_: JobDirectory) -> str:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with make_runner(tmp_path, "print('once')", way=way, attempts=1) as runner:
        monkeypatch.setattr(local, "end_marked", late)
        monkeypatch.setattr(local, "describe_unsent", never)
        job = runner.wait(accept(runner), DEADLINE)
    assert (job.state, job.attempts, job.ending.output_tail) == (JobState.SUCCEEDED, 1, "once")
    assert lacking < 0
