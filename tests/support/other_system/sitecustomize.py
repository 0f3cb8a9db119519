"""Takes from Python what only Linux has. Each Python with this folder on its PYTHONPATH imports it when it starts.

What is taken away is what this project uses on Linux or may come to use, and all of Python's own library does without.
`sys.platform` becomes that of FreeBSD instead of macOS, since Python's own library and pip call parts of macOS that do
not exist here. A program that is not written in Python, such as a shell, still sees Linux.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

PLATFORM = "freebsd14"
HERE = os.path.dirname(__file__)  # noqa: PTH120  (pathlib is not imported this early, for speed)
#: From each module, names that it lacks on macOS or on FreeBSD. `socket` imports modules that look for epoll.
NAMES = {
    "select": "EPOLLEXCLUSIVE EPOLLIN epoll",
    "os": "O_PATH O_TMPFILE P_PID P_PIDFD WEXITED WNOWAIT copy_file_range eventfd fdatasync getrandom getresuid"
    " getxattr listxattr memfd_create pidfd_open pipe2 posix_fadvise posix_fallocate removexattr sched_getaffinity"
    " sched_getscheduler sched_setaffinity setresuid setxattr splice waitid",
    "signal": "SIGPWR SIGSTKFLT pidfd_send_signal sigtimedwait sigwaitinfo",
    "socket": "AF_NETLINK MSG_NOSIGNAL SOCK_CLOEXEC SOCK_NONBLOCK SOCK_SEQPACKET SO_PASSCRED SO_PEERCRED"
    " TCP_DEFER_ACCEPT TCP_QUICKACK TCP_USER_TIMEOUT",
    "fcntl": "F_ADD_SEALS F_OFD_SETLK F_OFD_SETLKW F_SETPIPE_SZ",
    "resource": "RUSAGE_THREAD prlimit",
}
#: Functions of the C library that ctypes does not find.
FUNCTIONS = ("dl_iterate_phdr", "fallocate", "memfd_create", "prctl", "setfsgid", "setfsuid")
#: Functions that Python does not report to audit hooks.
_UNREPORTED = ("access", "lstat", "readlink", "stat", "statvfs")


def take_away_names() -> None:
    """Delete the names; a name that does not exist on Linux either ends Python, so that the lists stay right."""
    missing = [name for name in FUNCTIONS if not hasattr(ctypes.CDLL(None), name)]
    for module in NAMES:
        for name in NAMES[module].split():
            try:
                delattr(import_module(module), name)
            except AttributeError:
                missing.append(f"{module}.{name}")
    if missing:
        # An ordinary exception would only be printed.
        sys.exit(f"{__file__} takes away what is not there: {', '.join(missing)}")
    if hasattr(os, "process_cpu_count"):
        os.process_cpu_count = os.cpu_count  # the former calls sched_getaffinity
    look_up = ctypes.CDLL.__getitem__

    def look_up_others(library: ctypes.CDLL, name: Any) -> Any:
        if name in FUNCTIONS:
            raise AttributeError(f"{name}: symbol not found")
        return look_up(library, name)

    ctypes.CDLL.__getitem__ = look_up_others  # type: ignore[method-assign]


def change_platform() -> None:
    """Change `sys.platform`, by which Python also finds the file with its own build's variables."""
    import_module("sysconfig").get_config_vars()
    sys.platform = PLATFORM


def hide_proc() -> None:
    """Make all files in /proc missing; tests themselves reach them through `tests.support.paths.PROC`."""

    def refuse(path: Any) -> None:
        if isinstance(path, str | bytes | os.PathLike) and f"{os.fsdecode(path)}/".startswith("/proc/"):
            raise FileNotFoundError(2, "No such file or directory", path)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.listdir", "os.scandir"):
            refuse(arguments[0])

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def guard(path: Any, *arguments: Any, **options: Any) -> Any:
            refuse(path)
            return function(path, *arguments, **options)

        return guard

    sys.addaudithook(audit)
    for name in _UNREPORTED:
        function = getattr(os, name)
        guard = guarded(function)
        setattr(os, name, guard)
        for group in (os.supports_dir_fd, os.supports_effective_ids, os.supports_fd, os.supports_follow_symlinks):
            if function in group:
                group.add(guard)


def reach_children() -> None:
    """Have all programs that are started get the PYTHONPATH with this folder, even in an environment of their own."""
    # `selectors`, which it imports, must not find epoll.
    popen = import_module("subprocess").Popen
    start = popen.__init__

    @functools.wraps(start)
    def start_with_path(process: Any, *arguments: Any, env: Any = None, **options: Any) -> None:
        if env is not None and HERE not in env.get("PYTHONPATH", ""):
            env = {**env, "PYTHONPATH": os.pathsep.join(filter(None, [HERE, env.get("PYTHONPATH")]))}
        start(process, *arguments, env=env, **options)

    popen.__init__ = start_with_path


take_away_names()
change_platform()
hide_proc()
reach_children()
