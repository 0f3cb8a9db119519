"""What the tests take away from Python, to try the parts that must not need Linux, is really gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import OTHER_SYSTEM, PROC

LOOK = """
import ctypes, json, os, selectors, select, signal, socket, sys

def missing(path):
    for look in (os.stat, os.listdir, os.readlink, open, lambda path: os.open(path, os.O_RDONLY)):
        try:
            look(path)
        except FileNotFoundError:
            continue
        return False
    return not os.path.exists(path)

names = [(os, "pidfd_open"), (os, "waitid"), (os, "memfd_create"), (select, "epoll"), (signal, "pidfd_send_signal"),
         (socket, "SOCK_SEQPACKET"), (ctypes.CDLL(None), "prctl"), (ctypes.CDLL(None), "setfsuid")]
there = [name for module, name in names if hasattr(module, name)]
print(json.dumps([sys.platform, there, missing("/proc"), missing("/proc/self/environ"),
                  selectors.DefaultSelector.__name__]))
"""
AS_IT_SHOULD_BE = ["freebsd14", [], True, True, "PollSelector"]
#: Starts another Python with an environment of its own, as the jobs of a consumer are started.
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], env={}, check=True)"


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"PYTHONPATH": str(OTHER_SYSTEM)}
    # It begins before the names are gone, and imports what looks for them.
    environ.pop("COVERAGE_PROCESS_START", None)
    return subprocess.run([sys.executable, *arguments], env=environ, capture_output=True, text=True)


def test_names_are_gone() -> None:
    """A Python that is started so has neither the names nor /proc, nor has one that it starts."""
    assert json.loads(python("-c", LOOK).stdout) == AS_IT_SHOULD_BE
    assert json.loads(python("-c", PARENT, LOOK).stdout) == AS_IT_SHOULD_BE


@pytest.mark.skipif(sys.platform == "linux", reason="for test runs without the names of Linux")
def test_names_are_gone_in_this_process() -> None:
    """A test run on another system runs so itself, and all that it starts does; only the tests see /proc."""
    assert not hasattr(os, "pidfd_open")
    assert not Path("/proc/self").exists()
    assert (PROC / "self").exists()
    told = subprocess.run([sys.executable, "-c", LOOK], env={}, capture_output=True, text=True, check=True).stdout
    assert json.loads(told) == AS_IT_SHOULD_BE


@pytest.mark.parametrize("name", ["os.waitid", "socket.SO_PEERCRED"])
def test_wrong_lists_are_reported(name: str) -> None:
    """A name in the lists that Python does not have ends the test run, because then they prove less than they say."""
    module = name.partition(".")[0]
    script = f"import runpy, {module}; del {name}; runpy.run_path(sys.argv[1])"
    command = [sys.executable, "-I", "-c", f"import sys; {script}", str(OTHER_SYSTEM / "sitecustomize.py")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1
    assert f"takes away what is not there: {name}" in ended.stderr
