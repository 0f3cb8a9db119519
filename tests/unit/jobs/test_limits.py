"""The limits of a program apply from its first instruction."""

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pacifica_notifications_consumer.jobs.limits import JobLimits
from tests.support.machine.other_user import IS_ROOT

SHOW = "import json, resource, sys; print(json.dumps([resource.getrlimit(int(kind)) for kind in sys.argv[1:]]))"
LIMITS = JobLimits(memory=1 << 30, cpu=77, processes=400, file_size=9)
KINDS = (resource.RLIMIT_DATA, resource.RLIMIT_CPU, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE)


def shown(limits: JobLimits) -> list[tuple[int, int]]:
    """The soft and hard limits that a program finds when it is started under these limits."""
    command = [str(word) for word in limits.launch([sys.executable, "-c", SHOW, *map(str, KINDS)])]
    told = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return [(soft, hard) for soft, hard in json.loads(told)]


def test_limited_from_the_start() -> None:
    """A program that is started by the wrapped command has all limits."""
    assert shown(LIMITS) == [(1 << 30, 1 << 30), (77, 78), (400, 400), (9, 9)]


def test_one_limit_leaves_the_others() -> None:
    """Limits that are not set are inherited from this process."""
    expected = [resource.getrlimit(kind) for kind in KINDS]
    expected[3] = (5, 5)
    assert shown(JobLimits(file_size=5)) == expected


def test_no_limits() -> None:
    """Without limits the command is not wrapped."""
    assert JobLimits().launch(["python", "x"]) == ["python", "x"]
    assert JobLimits().resources() == []


def test_no_more_than_this_process_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit above the hard limit of this process is lowered to it."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (50, 60))
    assert [limits for _, *limits in LIMITS.resources()] == [[60, 60], [60, 60], [60, 60], [9, 9]]


FORKS = """
import os, resource, sys
os.setuid(1_000_000 + os.getpid())  # a user without other processes
started = 1
read, write = os.pipe()
for _ in range(int(sys.argv[1])):
    try:
        if os.fork() == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
    except BlockingIOError:
        break
    started += 1
os.close(write)
for _ in range(started - 1): os.wait()  # zombies would count as processes of the user
print(started)
"""


@pytest.mark.skipif(not IS_ROOT, reason="needs root to become a user without other processes")
@pytest.mark.parametrize(("children", "there_are"), [(1, 2), (2, 3), (3, 3)])
def test_processes(children: int, there_are: int) -> None:
    """A user can have exactly as many processes as the limit says."""
    command = JobLimits(processes=3).launch([sys.executable, "-c", FORKS, str(children)])
    told = subprocess.run(list(map(str, command)), capture_output=True, check=True, text=True).stdout
    assert int(told) == there_are


@pytest.mark.parametrize(("size", "status"), [(99, 0), (100, 0), (101, 1)])
def test_file_size(tmp_path: Path, size: int, status: int) -> None:
    """A file can have exactly as many bytes as the limit says."""
    source = "import sys; assert open(sys.argv[1], 'wb', 0).write(b'x' * int(sys.argv[2])) == int(sys.argv[2])"
    command = JobLimits(file_size=100).launch([sys.executable, "-c", source, str(tmp_path / "f"), str(size)])
    assert subprocess.run(list(map(str, command)), capture_output=True, check=False).returncode == status


@pytest.mark.parametrize(("mebibytes", "status"), [(50, 0), (250, 1)])
def test_memory(mebibytes: int, status: int) -> None:
    """A process cannot allocate more memory than the limit, of which the interpreter needs a few MiB."""
    command = JobLimits(memory=200 << 20).launch([sys.executable, "-c", f"bytearray({mebibytes} << 20)"])
    told = subprocess.run(list(map(str, command)), capture_output=True, check=False, text=True)
    assert (told.returncode, "MemoryError" in told.stderr) == (status, status == 1)


@pytest.mark.whole
@pytest.mark.parametrize(("seconds", "status"), [(0.3, 0), (30, -signal.SIGXCPU)])
def test_cpu(seconds: float, status: int) -> None:
    """A process that exceeds its processor time is ended by SIGXCPU."""
    source = f"import time\nwhile time.process_time() < {seconds}: pass"
    command = JobLimits(cpu=1).launch([sys.executable, "-c", source])
    assert subprocess.run(list(map(str, command)), capture_output=True, check=False).returncode == status
