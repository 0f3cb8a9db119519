"""Resource limits that the operating system enforces on each process of a job."""

from __future__ import annotations

import json
import resource
from collections.abc import Sequence
from pathlib import Path

import attrs

from ..settings.converters import count_limit, size_limit
from ..settings.option import documented, setting

_LAUNCHER = """\
import json, os, resource, sys
for kind, *limits in json.loads(sys.argv[1]):
    resource.setrlimit(kind, limits)
os.execv(sys.argv[2], sys.argv[2:])
"""


@documented
@attrs.frozen(kw_only=True)
class JobLimits:
    """What each process of a job may use; None for no limit.

    They keep an accident from taking the machine down; code that means harm can get around them, since it is the
    user's own. They are ``RLIMIT_DATA``, ``RLIMIT_CPU``, ``RLIMIT_NPROC`` and ``RLIMIT_FSIZE``, as the system has them.
    """

    memory: int | None = setting(
        "the most memory in bytes of each process of a job, such as 8G; allocating more fails in the process",
        size_limit,
        name="job_memory",
    )
    cpu: int | None = setting(
        "the most processor time in seconds of each process of a job; after that, a signal ends it",
        count_limit,
        name="job_cpu",
        metavar="SECONDS",
    )
    processes: int | None = setting(
        "the most processes of the jobs' user, of all jobs and other programs together; starting more fails in a job; "
        "has no effect for root",
        count_limit,
        name="job_processes",
    )
    file_size: int | None = setting(
        "the largest file in bytes that a job can write, such as 100G; writing more fails",
        size_limit,
        name="job_file_size",
    )

    def resources(self) -> list[tuple[int, int, int]]:
        """The arguments of ``setrlimit`` for each limit that is set: the resource, the soft and the hard limit.

        A process has to set them itself before it does anything else: another process could set them only later.
        """
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
