"""The warm process: it imports what entry-points need, once, and forks for each of them.

It runs in the consumer's environment, and needs nothing but the standard library; `main` is its main script, and
`child` what its children become. On the runner's side is `start`.
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
from collections.abc import Callable, Iterable
from typing import NamedTuple, NoReturn

from .child import Appearance, ScriptExit, make_main

__all__ = ["make_main", "serve"]

_CANNOT_START = 127
_ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Milliseconds without work after which a child is forked ahead; the second when the last one could not be, or died.
_IDLE, _IDLE_AFTER_FAULT = 5, 1000


def preload(modules: Iterable[str], ending: ScriptExit) -> None:
    """Import modules; those with a question mark only if they are there, and trusted with their libraries.

    Raises:
        ImportError: One cannot be imported.
        RuntimeError: They have started threads, which no child would have.
    """
    names = list(modules)
    for name in (name.removesuffix("?") for name in names if name.endswith("?")):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name.split(".")[0]:
                raise
    ending.trust_libraries()
    for name in names:
        if not name.endswith("?"):
            importlib.import_module(name)
    if threading.active_count() > 1:
        found = ", ".join(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
        raise RuntimeError(f"what was imported has started threads ({found}), which no child would have")


def make_own(modules: Iterable[str]) -> None:
    """Write to the pages of memory that nearly every script writes to, while nobody waits for it.

    Until a child writes to a page for the first time it shares it, and the copy takes time then.
    """
    statements = [f"import {name}" for name in ("json", "os", "sys", *modules) if name in sys.modules]
    exec(compile("\n".join(statements), "<imports>", "exec"), {})  # noqa: S102
    with open(os.devnull):  # noqa: PTH123
        gc.collect()


class Script:
    """The entry-point, compiled before it is needed, and again when it has changed.

    Args:
        path: Where it is.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, ...] = ()
        self.code: types.CodeType | None = None

    def refresh(self) -> None:
        """Look whether it has changed; one that cannot be compiled is for an interpreter of its own to complain of."""
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
    """What the runner sends for each job: handles, of which a child gets its own.

    Args:
        channel: The socket on which it is told that the job has started, and how it ended.
        output: The file for what it prints.
        wanted: A file that says what is to be run, and with what.
    """

    channel: int
    output: int
    wanted: int

    @classmethod
    def receive(cls, source: socket.socket) -> ForkRequest | None:
        """Wait for one; None when nobody will send any more."""
        handles = socket.recv_fds(source, 16, 3)[1]
        return cls(*handles) if len(handles) == len(cls._fields) else None

    def close(self) -> None:
        """Let go of what a child has now."""
        for handle in self:
            os.close(handle)


class Spare(NamedTuple):
    """A child that was forked before there was a job for it.

    Args:
        handle: By which its end is seen.
        socket: To which its request is sent.
        code: The script as it was then.
    """

    handle: int
    socket: socket.socket
    code: types.CodeType | None


class ForkServer:
    """Forks when it is told to, and once ahead when it has nothing else to do; tells how the children end.

    Args:
        control: Where it is told.
        script: What the children are to run.
        prepare: What a child can do that waits for work.
    """

    def __init__(self, control: socket.socket, script: Script, prepare: Callable[[], None]) -> None:
        self._control = control
        self._script = script
        self._prepare = prepare
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        #: By their handles: the children's ids, and where to tell of their end; nowhere for a spare one.
        self._children: dict[int, tuple[int, int | None]] = {}
        self._spare: Spare | None = None
        self._idle = _IDLE

    def say_ready(self) -> None:
        """Say that from now on it does what it is told."""
        tell(self._control.fileno(), "ready", len(os.listdir("/proc/self/task")))  # noqa: PTH208

    def serve(self) -> ForkRequest:
        """Returns in a child only, with what it is to do."""
        while True:
            ready = self._poll.poll(None if self._spare else self._idle)
            if not ready and (found := self._fork_ahead()):
                return found
            for handle, _ in ready:
                if handle in self._children:
                    self._reap(handle)
                elif found := self._take():
                    return found

    def _take(self) -> ForkRequest | None:
        request = ForkRequest.receive(self._control)
        if request is None:
            # The runner has closed its end, or has died.
            os._exit(0)
        self._script.refresh()
        if self._hand_over(request):
            return None
        try:
            pid = os.fork()
        except OSError as error:
            tell(request.channel, "error", error.errno, error.strerror)
            request.close()
            return None
        if pid == 0:
            self._leave()
            return request
        self._watch(pid, os.dup(request.channel))
        request.close()
        return None

    def _hand_over(self, request: ForkRequest) -> bool:
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
                pid = os.fork()
            except OSError:
                # It is only for speed.
                self._idle = _IDLE_AFTER_FAULT
                ours.close()
                return None
            if pid == 0:
                self._leave()
                ours.close()
                self._prepare()
                request = ForkRequest.receive(theirs)
                if request is None:
                    os._exit(0)
                return request
        self._spare = Spare(self._watch(pid, None), ours, self._script.code)
        return None

    def _leave(self) -> None:
        """Close what is the parent's, in a child."""
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
        # What is left of its group goes with it. As long as nobody has waited for it, the number is its own.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        _, status, used = os.wait4(pid, 0)
        if channel is not None:
            tell(channel, "ended", status, used.ru_utime + used.ru_stime, used.ru_maxrss)
            os.close(channel)
        elif self._spare and self._spare.handle == handle:
            self._spare.socket.close()
            self._spare = None
            self._idle = _IDLE_AFTER_FAULT


def tell(channel: int, *words: object) -> bool:
    """Send a message, words with spaces between; False when nobody wants to know."""
    try:
        os.write(channel, " ".join(map(str, words)).encode())
    except OSError:
        return False
    return True


class IgnoredSignals:
    """Ignores the signals by which a supervisor asks all processes to end: when that is due, the runner says so."""

    def __init__(self) -> None:
        # What reacts outside of Python could not be put back.
        known = [number for number in _ASKING if signal.getsignal(number) is not None]
        self._before = {number: signal.signal(number, signal.SIG_IGN) for number in known}

    def end(self) -> None:
        """React as before, in a child."""
        for number, reaction in self._before.items():
            signal.signal(number, reaction)


def become(request: ForkRequest, appearance: Appearance, deafness: IgnoredSignals) -> None:
    """Make this child what a new process would be.

    It goes on only if the runner has learned its number: otherwise it could not be ended.
    """
    with open(request.wanted, "rb") as file:  # noqa: PTH123  (it is open already)
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
        tell(request.channel, "error", error.errno, error.strerror)
        os._exit(_CANNOT_START)
    shown = appearance.variables
    appearance.show(arguments, variables)
    for variable in shown.difference(variables):
        del os.environb[variable.partition(b"=")[0]]
    for variable in set(variables).difference(shown):
        name, _, value = variable.partition(b"=")
        os.environb[name] = value
    # Python's own generator has started anew after the fork.
    if numbers := sys.modules.get("numpy.random"):
        numbers.seed()
    deafness.end()
    if not tell(request.channel, "started", os.getpid()):
        os._exit(0)
    os.close(request.channel)
    sys.orig_argv[:] = map(os.fsdecode, arguments)
    sys.argv[:] = sys.orig_argv[1:]
    if limits:
        import resource

        for kind, soft, hard in zip(*[iter(limits)] * 3, strict=True):
            resource.setrlimit(kind, (soft, hard))


def give_up(error: BaseException) -> NoReturn:
    """Say why there can be no warm process, where `warm_start` looks for it."""
    sys.stderr.write(f"\n{type(error).__name__}: {error}\n")
    sys.stderr.flush()
    os._exit(1)


class Child(NamedTuple):
    """What a child runs, and who has to know how that ends."""

    code: types.CodeType
    ending: ScriptExit


def serve(control: str, path: str, modules: list[str]) -> Child:
    """Do a warm process's work; returns in its children only.

    Args:
        control: The number of the socket to the runner.
        path: The entry-point.
        modules: What to import beforehand.
    """
    ending, script = ScriptExit(), Script(path)
    names = [name.removesuffix("?") for name in modules]
    server = ForkServer(socket.socket(fileno=int(control)), script, lambda: make_own(names))
    try:
        appearance = Appearance()
        os.environ.pop("PACIFICA_ROOM", None)
        appearance.show(
            [b"pacifica-warm-process", os.fsencode(sys.path[0])], [b"%b=%b" % item for item in os.environb.items()]
        )
        # Where there are no such handles, that is to be known now.
        os.close(os.pidfd_open(os.getpid()))
        preload(modules, ending)
        deafness = IgnoredSignals()
    except BaseException as problem:
        give_up(problem)
    server.say_ready()
    script.refresh()
    ending.begin()
    # Children share what was imported with this process for as long as nobody writes to it.
    gc.collect()
    gc.freeze()
    become(server.serve(), appearance, deafness)
    if script.code is None:
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606
    return Child(script.code, ending)
