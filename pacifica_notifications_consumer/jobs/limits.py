"""Resource limits that the operating system enforces on each process of a job."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs

_LAUNCHER = """\
import json, os, resource, sys
for kind, *limits in json.loads(sys.argv[1]):
    resource.setrlimit(kind, limits)
os.execv(sys.argv[2], sys.argv[2:])
"""


@attrs.frozen(kw_only=True)
class JobLimits:
    """What each process of a job may use; None for no limit.

    They keep an accident from taking the machine down; code that means harm can get around them, since it is the
    user's own. Linux only.

    Args:
        memory: Bytes that it may hold by itself (``RLIMIT_DATA``); beyond them, it gets no more.
        cpu: Seconds of a processor; beyond them, a signal ends it.
        processes: How many processes the user may have, whosever they are (``RLIMIT_NPROC``); not for root.
        file_size: Bytes that a file may have that it writes; beyond them, writing fails.
    """

    memory: int | None = None
    cpu: int | None = None
    processes: int | None = None
    file_size: int | None = None

    def resources(self) -> list[tuple[int, int, int]]:
        """The arguments of ``setrlimit`` for each limit that is set: the resource, the soft and the hard limit.

        A process has to set them itself before it does anything else: another process could set them only later.
        """
        if sys.platform != "linux":
            return []
        wanted = (
            (resource.RLIMIT_DATA, self.memory),
            (resource.RLIMIT_CPU, self.cpu),
            (resource.RLIMIT_NPROC, self.processes),
            (resource.RLIMIT_FSIZE, self.file_size),
        )
        found = []
        for kind, limit in wanted:
            if limit is not None:
                _, hard = resource.getrlimit(kind)
                soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
                # At the soft limit a process gets SIGXCPU, which it can handle; at the hard limit it gets SIGKILL.
                later = soft + 1 if kind == resource.RLIMIT_CPU and hard == resource.RLIM_INFINITY else soft
                found.append((kind, soft, later))
        return found

    def launch(self, arguments: Sequence[str | Path]) -> Sequence[str | Path]:
        """Wrap a Python interpreter and its arguments in a command that sets the limits first, if there are any."""
        resources = self.resources()
        launcher = [arguments[0], "-I", "-S", "-c", _LAUNCHER, json.dumps(resources)] if resources else []
        return [*launcher, *arguments]
