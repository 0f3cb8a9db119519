"""Runs the tests on another system than Linux: ``python -m pytest -p tests.support.other_system.plugin``.

It starts pytest again under `sitecustomize`, which reaches every Python that the tests start as well.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_HERE = str(Path(__file__).parent)
#: Plugins of pytest and hypothesis that import trio, which needs epoll or kqueue.
_WITHOUT_TRIO = {"PYTEST_ADDOPTS": "-p no:anyio", "HYPOTHESIS_NO_PLUGINS": "1"}

if _HERE not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_HERE, os.environ.get("PYTHONPATH")]))
    os.environ.update(_WITHOUT_TRIO)
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606
