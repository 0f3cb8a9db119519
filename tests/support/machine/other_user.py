"""A second user of the machine, as whom tests run programs, and a Python that this user can start."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest

from pacifica_notifications_consumer.system.account import Account

NOBODY = "nobody"


def _is_root() -> bool:
    """Whether this is root, also over the files of other users: who only seems to be root in a container is not."""
    if os.geteuid() != 0 or sys.platform != "linux":
        return os.geteuid() == 0
    with open("/proc/self/uid_map") as file:  # noqa: PTH123  (tests replace paths)
        return any(int(first) <= 12345 < int(first) + int(count) for first, _, count in map(str.split, file))


IS_ROOT = _is_root()
as_root = pytest.mark.skipif(
    not IS_ROOT or sys.platform != "linux", reason="only root can act as another user, on Linux"
)


def python_for_all() -> str:
    """A Python that all users can run, and that can make environments."""
    account = Account.find(NOBODY)
    names = [os.path.realpath(sys.executable), *(f"/usr/bin/python3.{minor}" for minor in (11, 12, 13, 14))]
    for name in names:
        with contextlib.suppress(OSError):
            if subprocess.run([name, "-c", "import venv"], check=False, **account.popen_arguments()).returncode == 0:
                return name
    pytest.skip("there is no Python that all users can run")
