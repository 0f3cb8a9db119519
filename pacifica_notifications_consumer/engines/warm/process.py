"""The warm process, which imports the modules of entry-points once and then forks a child for each attempt.

It runs in the consumer's environment and needs only the standard library. `main` is its main script, `child` prepares
its children, and `start` is the side of the runner.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .child import Appearance, ScriptExit, make_main

__all__ = ["make_main", "serve"]

_CANNOT_START = 127
_ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Idle milliseconds after which a spare child is forked; the second value applies if the last fork failed or the last
#: spare child died.
_IDLE, _IDLE_AFTER_FAULT = 5, 1000


def preload(modules: list[str], ending: ScriptExit) -> None:
    """Import modules, those first whose names have a question mark, which are skipped if they are not installed.

    The shared libraries of these are trusted to need no cleanup at the end of a process.
    """
    for name in [name.removesuffix("?") for name in modules if name.endswith("?")]:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name.split(".")[0]:
                raise
    ending.trust_libraries()
    for name in modules:
        if not name.endswith("?"):
            importlib.import_module(name)
    if threading.active_count() > 1:
        found = ", ".join(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
        raise RuntimeError(f"the imported modules have started threads ({found}), which forked jobs would not have")


def copy_pages(modules: Iterable[str]) -> None:
    """Write to the memory pages that nearly every script writes to, before the child gets a job.

    The first write of a child to a shared page copies the page, which takes time.
    """
    statements = [f"import {name}" for name in ("json", "os", "sys", *modules) if name in sys.modules]
    exec(compile("\n".join(statements), "<imports>", "exec"), {})  # noqa: S102
    with open(os.devnull):  # noqa: PTH123
        gc.collect()


class Script:
    """The entry-point, which is compiled in advance, and again when it has changed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, ...] = ()
        #: None if the entry-point cannot be read or compiled.
        self.code: types.CodeType | None = None

    def refresh(self) -> None:
        """Compile the entry-point if it has changed; for one that cannot be compiled, a new interpreter reports why."""
        try:
            found = os.stat(self._path)  # noqa: PTH116
            seen = found.st_mtime_ns, found.st_size, found.st_ino
            if seen != self._seen:
                with open(self._path, "rb") as file:  # noqa: PTH123  (fewer pages are written to)
                    self.code = compile(file.read(), self._path, "exec", dont_inherit=True)
                self._seen = seen
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            self.code, self._seen = None, ()


class ForkRequest(NamedTuple):
    """The file descriptors that the runner sends for each job, and that the child inherits."""

    channel: int  #: the socket on which the runner receives the start and the end of the job
    output: int  #: the file for standard output and standard error
    command: int  #: a file with the working directory, the limits, the arguments and the environment

    @classmethod
    def receive(cls, source: socket.socket) -> ForkRequest | None:
        """Wait for a request; None if the other end of the socket is closed."""
        handles = socket.recv_fds(source, 16, 3)[1]
        return cls(*handles) if len(handles) == len(cls._fields) else None

    def close(self) -> None:
        """Close the file descriptors, which the child has inherited."""
        for handle in self:
            os.close(handle)


class Spare(NamedTuple):
    """A child that was forked before it had a job."""

    handle: int  #: the pidfd of the child
    socket: socket.socket  #: to which its request is sent
    code: types.CodeType | None  #: of the script at the time of the fork


def fork() -> int:
    """Fork without Python's warning of threads, which libraries may have; as an error, it would end `serve`."""
    with warnings.catch_warnings(action="ignore"):
        return os.fork()


class ForkServer:
    """Forks a child for each request on `control`, and a spare one when idle, which calls `prepare` before it waits."""

    def __init__(self, control: socket.socket, script: Script, prepare: Callable[[], None]) -> None:
        self._control = control
        self._script = script
        self._prepare = prepare
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        #: By pidfd: the process id of each child and the channel for its end, which is None for a spare child.
        self._children: dict[int, tuple[int, int | None]] = {}
        self._spare: Spare | None = None
        self._idle = _IDLE

    def report_ready(self) -> None:
        """Report to the runner that requests are accepted from now on, and the number of threads."""
        send_message(self._control.fileno(), "ready", len(os.listdir("/proc/self/task")))  # noqa: PTH208

    def serve(self) -> ForkRequest:
        """Serve requests for ever; returns only in a child, with the child's request."""
        while True:
            ready = self._poll.poll(None if self._spare else self._idle)
            if not ready and (found := self._fork_ahead()):
                return found
            for handle, _ in ready:
                if handle in self._children:
                    self._reap(handle)
                elif found := self._handle_request():
                    return found

    def _handle_request(self) -> ForkRequest | None:
        request = ForkRequest.receive(self._control)
        if request is None:
            # The runner has closed its end, or has died.
            os._exit(0)
        self._script.refresh()
        if self._use_spare(request):
            return None
        try:
            pid = fork()
        except OSError as error:
            send_message(request.channel, "error", error.errno)
            request.close()
            return None
        if pid == 0:
            self._close_parents_files()
            return request
        self._watch(pid, os.dup(request.channel))
        request.close()
        return None

    def _use_spare(self, request: ForkRequest) -> bool:
        spare, self._spare = self._spare, None
        if spare is None:
            return False
        with spare.socket:
            if spare.code is not self._script.code:
                return False
            try:
                socket.send_fds(spare.socket, [b"job"], list(request))
            except OSError:
                return False
        self._idle = _IDLE
        self._children[spare.handle] = self._children[spare.handle][0], os.dup(request.channel)
        request.close()
        return True

    def _fork_ahead(self) -> ForkRequest | None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._script.refresh()
        with theirs:
            try:
                pid = fork()
            except OSError:
                # A spare child only saves time, so do without.
                self._idle = _IDLE_AFTER_FAULT
                ours.close()
                return None
            if pid == 0:
                self._close_parents_files()
                ours.close()
                self._prepare()
                request = ForkRequest.receive(theirs)
                if request is None:
                    os._exit(0)
                return request
        self._spare = Spare(self._watch(pid, None), ours, self._script.code)
        return None

    def _close_parents_files(self) -> None:
        """Close the file descriptors of the parent; called in a child."""
        self._control.close()
        if self._spare:
            self._spare.socket.close()
        for handle, (_, channel) in self._children.items():
            os.close(handle)
            if channel is not None:
                os.close(channel)

    def _watch(self, pid: int, channel: int | None) -> int:
        handle = os.pidfd_open(pid)
        self._children[handle] = pid, channel
        self._poll.register(handle, select.POLLIN)
        return handle

    def _reap(self, handle: int) -> None:
        pid, channel = self._children.pop(handle)
        self._poll.unregister(handle)
        os.close(handle)
        # End the rest of its process group. Before wait4() the number of the group cannot be reused.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        _, status, used = os.wait4(pid, 0)
        if channel is not None:
            seconds = f"{used.ru_utime + used.ru_stime:.6f}"
            send_message(channel, "ended", os.waitstatus_to_exitcode(status), seconds, used.ru_maxrss)
            os.close(channel)
        elif self._spare and self._spare.handle == handle:
            self._spare.socket.close()
            self._spare = None
            self._idle = _IDLE_AFTER_FAULT


def send_message(channel: int, *words: object) -> bool:
    """Send a message of words separated by spaces; returns False if the other end is closed."""
    try:
        os.write(channel, " ".join(map(str, words)).encode())
    except OSError:
        return False
    return True


def hears_go(channel: int) -> bool:
    """Wait for the runner's word; returns False if the other end is closed."""
    try:
        return bool(os.read(channel, 2))
    except OSError:
        return False


def ignore_signals() -> dict[signal.Signals, Any]:
    """Ignore the signals by which a supervisor stops all processes, and return their handlers for the children.

    The runner ends the warm process itself.
    """
    # A handler that was not installed from Python (None) could not be restored.
    known = [number for number in _ASKING if signal.getsignal(number) is not None]
    return {number: signal.signal(number, signal.SIG_IGN) for number in known}


def set_up_child(request: ForkRequest, appearance: Appearance, handlers: dict[signal.Signals, Any]) -> None:
    """Give this child the session, directory, output, arguments, environment and limits of a new process.

    The child goes on only when the runner, which learns its process id from the kernel, says that it can end it.
    """
    with open(request.command, "rb") as file:  # noqa: PTH123  (it is open already)
        words = file.read().split(b"\0")
    directory, limits, count = words[0], list(map(int, words[1].split())), int(words[2])
    arguments, variables = words[3 : 3 + count], words[3 + count :]
    try:
        os.setsid()
        os.dup2(request.output, 1)
        os.dup2(request.output, 2)
        os.close(request.output)
        os.chdir(directory)
    except OSError as error:
        send_message(request.channel, "error", error.errno)
        os._exit(_CANNOT_START)
    shown = appearance.variables
    appearance.show(arguments, variables)
    for variable in shown.difference(variables):
        del os.environb[variable.partition(b"=")[0]]
    for variable in set(variables).difference(shown):
        name, _, value = variable.partition(b"=")
        os.environb[name] = value
    # Python reseeds the generator of `random` after a fork, but not that of numpy.
    if numbers := sys.modules.get("numpy.random"):
        numbers.seed()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    if not (send_message(request.channel, "started") and hears_go(request.channel)):
        os._exit(0)
    os.close(request.channel)
    sys.orig_argv[:] = map(os.fsdecode, arguments)
    sys.argv[:] = sys.orig_argv[1:]
    if limits:
        import resource

        for kind, soft, hard in zip(*[iter(limits)] * 3, strict=True):
            resource.setrlimit(kind, (soft, hard))


class Child(NamedTuple):
    """The code that a child runs, and the object that has to learn how it ends."""

    code: types.CodeType
    ending: ScriptExit


def serve(control: str, path: str, modules: list[str]) -> Child:
    """Run the warm process; returns only in its children.

    `control` is the file descriptor of the socket to the runner, `path` the entry-point; see `preload` for `modules`.
    """
    ending, script = ScriptExit(), Script(path)
    names = [name.removesuffix("?") for name in modules]
    server = ForkServer(socket.socket(fileno=int(control)), script, lambda: copy_pages(names))
    try:
        appearance = Appearance()
        os.environ.pop("PACIFICA_ROOM", None)
        appearance.show(
            [b"pacifica-warm-process", os.fsencode(sys.path[0])], [b"%b=%b" % item for item in os.environb.items()]
        )
        # Fail now if the system has no pidfds, or if a container forbids these calls.
        os.close(os.pidfd_open(os.getpid()))
        os.close(os.memfd_create("job"))
        preload(modules, ending)
        handlers = ignore_signals()
    except BaseException as problem:
        # `start` logs this reason why the warm process cannot work.
        sys.stderr.write(f"\n{type(problem).__name__}: {problem}\n")
        sys.stderr.flush()
        os._exit(1)
    server.report_ready()
    script.refresh()
    ending.begin()
    # Keep the collector from writing to imported objects, since each write copies a page that children share.
    gc.collect()
    gc.freeze()
    set_up_child(server.serve(), appearance, handlers)
    if script.code is None:
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606
    return Child(script.code, ending)
