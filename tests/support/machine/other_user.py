"""A second user of the machine, as whom tests run programs, and a Python that this user can start."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest

from pacifica_notifications_consumer.system.account import Account

NOBODY = "nobody"
as_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can run programs as another user, on Linux"
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
