"""What a job may use, as the system enforces it on each of its processes."""

from __future__ import annotations

import contextlib
import resource
import sys

import attrs


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

    def apply(self, pid: int) -> None:
        """Enforce them on a process that has just been started, and on those that it starts."""
        if sys.platform != "linux":
            return
        wanted = (
            (resource.RLIMIT_DATA, self.memory),
            (resource.RLIMIT_CPU, self.cpu),
            (resource.RLIMIT_NPROC, self.processes),
            (resource.RLIMIT_FSIZE, self.file_size),
        )
        for kind, limit in wanted:
            if limit is not None:
                # It may have ended already.
                with contextlib.suppress(ProcessLookupError):
                    _, hard = resource.prlimit(pid, kind)
                    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
                    # It is to be told by a signal that it knows, before it is ended by one that nobody can catch.
                    later = limit + 1 if kind == resource.RLIMIT_CPU and hard == resource.RLIM_INFINITY else limit
                    resource.prlimit(pid, kind, (limit, later))
