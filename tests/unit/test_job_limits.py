"""A program is limited from its first instruction on, not from some moment after its start."""

import json
import resource
import subprocess
import sys

import pytest

from pacifica_notifications_consumer.job_limits import JobLimits

SHOW = "import json, resource, sys; print(json.dumps([resource.getrlimit(int(kind)) for kind in sys.argv[1:]]))"
LIMITS = JobLimits(memory=1 << 30, cpu=77, processes=400, file_size=9)
KINDS = (resource.RLIMIT_DATA, resource.RLIMIT_CPU, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE)


def shown(limits: JobLimits) -> list[tuple[int, int]]:
    """What a program finds that is started under limits."""
    command = [str(word) for word in limits.launch([sys.executable, "-c", SHOW, *map(str, KINDS)])]
    told = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return [(soft, hard) for soft, hard in json.loads(told)]


def test_limited_from_the_start() -> None:
    """Whoever starts it does no more than to start it."""
    assert shown(LIMITS) == [(1 << 30, 1 << 30), (77, 78), (400, 400), (9, 9)]


def test_one_limit_leaves_the_others() -> None:
    """What is not limited is as it is for this process."""
    expected = [resource.getrlimit(kind) for kind in KINDS]
    expected[3] = (5, 5)
    assert shown(JobLimits(file_size=5)) == expected


def test_no_limits() -> None:
    """Without limits nothing stands in between."""
    assert JobLimits().launch(["python", "x"]) == ["python", "x"]
    assert JobLimits().resources() == []


def test_no_more_than_this_process_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that is above what this process may have is lowered to that."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (50, 60))
    assert [limits for _, *limits in LIMITS.resources()] == [[60, 60], [60, 60], [60, 60], [9, 9]]
