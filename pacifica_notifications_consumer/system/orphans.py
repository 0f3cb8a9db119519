"""Find and end the processes of a job, also orphans of a dead runner.

A job's processes have a mark in their environment, which their children inherit even if they change their process
group, session or parent. It is read from Linux's /proc; on other systems no processes are found, which is logged once.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import logging
import math
import os
import re
import select
import signal
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from .account import CURRENT_USER, Account

#: The variable that holds the mark.
MARK_VARIABLE = "PACIFICA_JOB"
_PROC = "/proc"
#: Seconds after SIGKILL in which a process should have ended.
_KILL_SECONDS = 5.0
#: Pieces of 64 KiB that are read of a file. Linux starts no program with an environment of more than 6 MiB, but any
#: process can make its own as long as it likes.
_MOST_PIECES = 96
#: The flag of a kernel thread in /proc/PID/stat (PF_KTHREAD of Linux' sched.h).
_KERNEL_THREAD = 0x00200000
#: How often a process that is just being started is looked at again, and the seconds in between.
_MOST_LOOKS, _BETWEEN_LOOKS = 100, 0.005

log = logging.getLogger(__name__)


def mark_of(directory: Path) -> str:
    """The prefix of the marks of all processes that work for a directory, with which no other directory's begin."""
    # A path may have colons, but never two slashes in a row.
    return f"{os.path.realpath(directory).replace(':', '//')}:"


def end_marked(mark: str, kill_after: float, run_as: Account = CURRENT_USER, most: float = math.inf) -> int:
    """End the processes with a mark by SIGTERM, and those that remain after some seconds by SIGKILL.

    Returns their number. ``mark`` is the prefix of their `MARK_VARIABLE`. Of another user ``run_as``, only processes
    that this user may signal are ended: anybody can give a process the mark, and root must not signal for that user.
    After ``most`` further seconds it gives up, although new ones are still started.
    """
    ended: set[int] = set()
    marks: set[bytes] = set()
    deadline = time.monotonic() + kill_after
    number = signal.SIGTERM if kill_after > 0 else signal.SIGKILL
    # Repeat, because processes may have started more with the same marks meanwhile. Jobs that begin have others.
    while time.monotonic() < deadline + most and (found := list(_marked(mark, marks, run_as))):
        marks.update(whole for _, _, whole in found)
        try:
            for pid, handle, _ in found:
                if number is signal.SIGKILL or pid not in ended:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        signal.pidfd_send_signal(handle, number)
                ended.add(pid)
            seconds = max(0.0, deadline - time.monotonic()) if number is signal.SIGTERM else _KILL_SECONDS
            until = time.monotonic() + seconds
            if not all(is_readable(handle, max(0.0, until - time.monotonic())) for _, handle, _ in found):
                if number is signal.SIGKILL:
                    # A system call, such as on an unreachable network disk, may block a process even after SIGKILL.
                    log.warning("still waiting for the end of processes: %s", [pid for pid, _, _ in found])
                number = signal.SIGKILL
        finally:
            for _, handle, _ in found:
                os.close(handle)
    return len(ended)


def is_readable(handle: int, seconds: float) -> bool:
    """Wait some seconds until a file can be read, or the process of a pidfd has ended; returns whether that is so."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _marked(mark: str, among: Collection[bytes], run_as: Account) -> Iterator[tuple[int, int, bytes]]:
    """Find the processes with a mark, if there are any ``among`` with one of these; yields id, pidfd and whole mark."""
    wanted = os.fsencode(f"{MARK_VARIABLE}={mark}")
    # pathlib would be too slow: this runs after every job, and there may be thousands of processes.
    for name in os.listdir(_PROC) if _can_find() else ():  # noqa: PTH208
        if name.isdigit() and int(name) != os.getpid() and (whole := _mark_of(name, wanted, among, run_as)):
            try:
                handle = os.pidfd_open(int(name))
            except OSError:
                continue
            # Check again, because another process may have got the number in between.
            if _mark_of(name, wanted, among, run_as) == whole:
                yield int(name), handle, whole
            else:
                os.close(handle)


@functools.cache
def _can_find() -> bool:
    """Whether processes can be found and ended on this system; logs once if not."""
    try:
        # Old kernels have no pidfds, and the rules of a container may forbid them.
        handle = os.pidfd_open(os.getpid())
        try:
            signal.pidfd_send_signal(handle, 0)
        finally:
            os.close(handle)
        _read("self", "environ")
    except (AttributeError, OSError) as error:
        if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE):
            raise  # that is not for ever
        log.warning(
            "processes that leave the process group of their program cannot be found here, nor ended: %s", error
        )
        return False
    return True


def _mark_of(pid: str, wanted: bytes, among: Collection[bytes], run_as: Account) -> bytes:
    """The whole mark of a process, if it is a wanted one; otherwise empty."""
    try:
        # Those of strangers need not be read. A program that has changed its user belongs to root here.
        if run_as.name and os.stat(f"{_PROC}/{pid}").st_uid not in (0, run_as.uid):  # noqa: PTH116
            return b""
        environ = b"\0" + _environ(pid)
    except PermissionError:
        if not run_as.name:
            return b""
        with run_as.acting():
            return _mark_of(pid, wanted, among, CURRENT_USER)
    except OSError:
        return b""
    start = environ.find(b"\0" + wanted)
    whole = environ[start + 1 :].partition(b"\0")[0] if start >= 0 else b""
    return whole if (not among or whole in among) and (not whole or _may_signal(run_as, pid)) else b""


def _may_signal(run_as: Account, pid: str) -> bool:
    """Whether a process has the real or the saved user id of another user, as kill() demands of that user."""
    with contextlib.suppress(OSError):
        found = re.search(rb"^Uid:\t(\d+)\t\d+\t(\d+)", _read(pid, "status"), re.MULTILINE)
        return not run_as.name or (found is not None and b"%d" % run_as.uid in found.groups())
    return False


def _environ(pid: str) -> bytes:
    for _ in range(_MOST_LOOKS):
        with contextlib.suppress(ProcessLookupError):
            if environ := _read(pid, "environ"):
                return environ
        # In proc(5), these are the fields 3 (state), 9 (flags) and 51 (env_end).
        fields = _read(pid, "stat").rpartition(b")")[2].split()
        if int(fields[6]) & _KERNEL_THREAD:
            return b""
        if fields[0] == b"Z" or fields[48] != b"0":
            break
        # It is in the middle of an exec(), when it has no environment yet.
        time.sleep(_BETWEEN_LOOKS)
    # That of a zombie cannot be read, but if only its first thread has ended, the others go on.
    for thread in os.listdir(f"{_PROC}/{pid}/task"):  # noqa: PTH208
        with contextlib.suppress(ProcessLookupError):
            if environ := _read(f"{pid}/task/{thread}", "environ"):
                return environ
    return b""


def _read(pid: str, name: str) -> bytes:
    # Not with `open`, which makes three more system calls for each process of the machine, after every job.
    handle = os.open(f"{_PROC}/{pid}/{name}", os.O_RDONLY)
    try:
        return b"".join(itertools.takewhile(bool, (os.read(handle, 1 << 16) for _ in range(_MOST_PIECES))))
    finally:
        os.close(handle)
