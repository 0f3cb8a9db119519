"""A port that one test process has reserved is not given to another one."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.machine import ports
from tests.support.paths import ROOT


def test_reserved_for_one_process(tmp_path: Path) -> None:
    """Neither another process, with another TMPDIR, nor the same one gets the port again."""
    script = "import sys; from tests.support.machine.ports import free_port; print(free_port(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout
        assert not ports._reserve(int(other.stdout.readline()))
        other.communicate("\n")
    assert other.returncode == 0
    assert not ports._reserve(ports.free_port())
