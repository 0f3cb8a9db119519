"""The Python interpreter of an environment."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import attrs

from ..errors import ConfigurationError
from ..system.account import CURRENT_USER, Account
from ..system.processes import run_captured

_OLDEST = (3, 11)
_SECONDS = 30.0
_PROBE = """
import glob, json, os, platform, sys, sysconfig
wheels = sysconfig.get_config_var("WHEEL_PKG_DIR")
if not wheels:
    try:
        import ensurepip
        wheels = os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")
    except ImportError:
        wheels = ""
base = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
build = [sys.version, sys.implementation.cache_tag, sys.abiflags, sysconfig.get_config_var("SOABI"), sys.base_prefix,
         base, sysconfig.get_platform(), platform.libc_ver(), os.stat(base).st_size]
print(json.dumps([sys.version_info[:2], sys.version.split()[0], build,
                  sorted(glob.glob(os.path.join(glob.escape(wheels), "pip-*.whl")))[-1:] if wheels else []]))
"""


@attrs.frozen(kw_only=True)
class Interpreter:
    """A Python interpreter."""

    executable: str  #: path or name
    version: str  #: such as ``3.11.7``
    build: str  #: distinguishes interpreters of the same version, and of different platforms
    pip_wheel: Path | None  #: comes with the interpreter for new environments

    @classmethod
    def probe(
        cls, executable: str, run_as: Account = CURRENT_USER, cancel: threading.Event | None = None
    ) -> Interpreter:
        """Ask an interpreter what it is; ConfigurationError if this user cannot run it, or it is older than 3.11."""
        # Programs run in other working directories; a bare name is looked up on PATH.
        executable = str(Path(executable).absolute()) if os.sep in executable else executable
        try:
            answer = run_captured(
                [executable, "-I", "-c", _PROBE],
                environ=run_as.environ(),
                cwd=Path("/"),
                timeout=_SECONDS,
                on_line=lambda _: None,
                cancel=cancel,
                run_as=run_as,
            )
            series, version, build, wheels = json.loads(answer.output)
        except (OSError, ValueError, TypeError) as error:
            reason = getattr(error, "strerror", None) or "it does not run Python code"
            whose = f" for the user {run_as.name}" if run_as.name else ""
            advice = "set `python` to one that all users can run" if run_as.name else "correct `python`"
            raise ConfigurationError(f"{executable} is not a usable Python{whose}: {reason}", advice) from error
        if tuple(series) < _OLDEST:
            raise ConfigurationError(
                f"{executable} is Python {version}", "set `python` to one of version 3.11 or later"
            )
        pip_wheel = Path(wheels[0]) if wheels else None
        return cls(executable=executable, version=str(version), build=json.dumps(build), pip_wheel=pip_wheel)
