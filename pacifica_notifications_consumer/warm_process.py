"""What the warm process does: it imports what entry-points need, once, and forks for each of them.

It is loaded by `warm_main`, in the consumer's environment, and needs nothing but the standard library. What a child
runs must see no difference to ``python __main__.py SRC DST``.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import importlib.machinery
import os
import select
import signal
import socket
import sys
import threading
import types
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

_CANNOT_START = 127
_FLUSH_FAILED = 120


class Appearance:
    """What others see of this process in ``/proc``: its command line and its environment, as they were at its start.

    A child that was forked shows what its parent shows. Both stand in memory that may be written to, and that ends
    where it ends: so the parent is started with room to spare.
    """

    def __init__(self) -> None:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        # arg_start, arg_end, env_start, env_end of proc(5), whose first two fields are cut off here.
        self._arguments, self._environ = [(int(fields[n]), int(fields[n + 1])) for n in (45, 47)]
        self.variables = frozenset[bytes]()
        # The C library's own environment still stands there; it is moved away.
        for name, value in os.environb.items():
            os.putenv(name, value)

    def show(self, arguments: list[bytes], variables: list[bytes]) -> None:
        """Show other ones, as far as there is room."""
        _overwrite(self._arguments, arguments)
        _overwrite(self._environ, variables)
        self.variables = frozenset(variables)


def _overwrite(area: tuple[int, int], words: list[bytes]) -> None:
    start, end = area
    content = b"\0".join(words) + b"\0"
    if len(content) > end - start:
        content = content[: content.rfind(b"\0", 0, end - start) + 1]
    ctypes.memmove(start, content.ljust(end - start, b"\0"), end - start)


class Libraries:
    """Whether shared libraries have been loaded since."""

    class _Found(ctypes.Structure):
        # The beginning of dl_phdr_info in link.h; adds is how many were ever loaded.
        _fields_ = [
            ("address", ctypes.c_void_p),
            ("name", ctypes.c_char_p),
            ("headers", ctypes.c_void_p),
            ("count", ctypes.c_uint16),
            ("adds", ctypes.c_ulonglong),
        ]

    def __init__(self) -> None:
        self._adds = 0
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(self._Found), ctypes.c_size_t, ctypes.c_void_p)
        self._callback = kind(self._note)
        self._iterate = ctypes.PyDLL(None).dl_iterate_phdr
        self._known = self._loaded()

    def _note(self, found: Any, _size: int, _data: object) -> int:
        self._adds = found.contents.adds
        return 1  # one is enough

    def _loaded(self) -> int:
        self._iterate(self._callback, None)
        return self._adds

    @property
    def changed(self) -> bool:
        """Whether there are others."""
        return self._loaded() != self._known


class Ending:
    """How the interpreter's end is made short without changing what a script can see of it.

    Python frees all that was ever imported, which takes longer than most jobs.
    """

    def __init__(self) -> None:
        self._libraries: Libraries | None = None
        self._exit_as_c = ctypes.PyDLL(None).exit
        self._status: int | None = None
        self._preloaded = frozenset[str]()
        self._last_preloaded = ""
        # The first to be registered is the last to be called: after the script's threads and all other callbacks.
        atexit.register(self._finish)

    def trust_libraries(self) -> None:
        """Those that are loaded by now have nothing to do at the end."""
        self._libraries = Libraries()

    def begin(self) -> None:
        """From now on, what is imported is the scripts' own."""
        self._preloaded = frozenset(sys.modules) - {"__main__"}
        self._last_preloaded = next(reversed(sys.modules))

    def note(self, error: BaseException | None) -> None:
        """Note what ends the script, for the interpreter does not tell."""
        if error is None:
            self._status = 0
        elif isinstance(error, SystemExit):
            self._status = _exit_status(error.code)
        else:
            self._status = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
            hook = sys.excepthook

            def show(kind: type[BaseException], value: BaseException, trace: types.TracebackType | None) -> None:
                # The outermost frame is this file's.
                sys.excepthook, sys.last_traceback = hook, trace and trace.tb_next
                hook(kind, value.with_traceback(sys.last_traceback), sys.last_traceback)

            sys.excepthook = show

    def _finish(self) -> None:
        # In the second case the interpreter makes a new status of that, and says so.
        if self._status is None or not _flush():
            return
        self._clear_modules()
        status = self._status if _flush() else _FLUSH_FAILED
        if status == -signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        if self._libraries is None or self._libraries.changed:
            # Another may, such as to write what it holds back.
            self._exit_as_c(status)
        os._exit(status)

    def _clear_modules(self) -> None:
        """Let go of what the script made, as the interpreter would: its files are written, and its objects end."""
        gc.collect()
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            if hasattr(sys, name):
                setattr(sys, name, None)
        names = ["__main__"]
        # To look at one of the others would be to write to its page, which is not this process's own yet.
        for name in reversed(sys.modules):
            if name == self._last_preloaded:
                break
            if name not in self._preloaded:
                names.append(name)
        own = [sys.modules.pop(name, None) for name in names]
        left = [weakref.ref(module) for module in reversed(own) if module is not None]
        del own
        gc.collect()
        for reference in reversed(left):
            if (module := reference()) is not None:
                _clear(vars(module))
        gc.collect()


def _clear(namespace: dict[str, Any]) -> None:
    """Clear a module's names in the interpreter's order: those with an underscore first."""
    for private in (True, False):
        for name in list(namespace):
            if name != "__builtins__" and (not private or (name[:1] == "_" and name[1:2] != "_")):
                namespace[name] = None


def _flush() -> bool:
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
    except BaseException:
        return False
    return True


def _exit_status(code: object) -> int | None:
    if code is None:
        return 0
    if not isinstance(code, int):
        return 1
    # What does not fit into a C long is a fault of its own.
    return code & 0xFF if -(2**63) <= code < 2**63 else None


def preload(modules: Iterable[str], ending: Ending) -> None:
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


class Server:
    """Forks when it is told to, and tells how the children end.

    Args:
        control: Where it is told.
        script: What the children are to run.
    """

    def __init__(self, control: socket.socket, script: Script) -> None:
        self._control = control
        self._script = script
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        #: By their handles: the children's ids, and whom to tell of their end.
        self._children: dict[int, tuple[int, socket.socket]] = {}

    def say_ready(self) -> None:
        """Say that from now on it does what it is told."""
        tell(self._control, "ready", len(os.listdir("/proc/self/task")))  # noqa: PTH208

    def serve(self) -> tuple[socket.socket, int, int]:
        """Returns in a child only: whom to tell that it has started, where its output goes, and what it is to do."""
        while True:
            for handle, _ in self._poll.poll():
                if handle in self._children:
                    self._bury(handle)
                elif found := self._fork():
                    return found

    def _fork(self) -> tuple[socket.socket, int, int] | None:
        _, handles, _, _ = socket.recv_fds(self._control, 16, 3)
        if len(handles) != 3:
            # The runner has closed its end, or has died.
            os._exit(0)
        channel, (output, request) = socket.socket(fileno=handles[0]), handles[1:]
        self._script.refresh()
        try:
            pid = os.fork()
        except OSError as error:
            tell(channel, "error", error.errno, error.strerror)
        else:
            if pid == 0:
                self._control.close()
                for handle, (_, other) in self._children.items():
                    os.close(handle)
                    other.close()
                return channel, output, request
            child = os.pidfd_open(pid)
            self._children[child] = pid, channel
            self._poll.register(child, select.POLLIN)
        os.close(output)
        os.close(request)
        return None

    def _bury(self, handle: int) -> None:
        pid, channel = self._children.pop(handle)
        self._poll.unregister(handle)
        os.close(handle)
        # What is left of its group goes with it. As long as nobody has waited for it, the number is its own.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        _, status, used = os.wait4(pid, 0)
        tell(channel, "ended", status, used.ru_utime + used.ru_stime, used.ru_maxrss)
        channel.close()


def tell(channel: socket.socket, *words: object) -> bool:
    """Send a message, words with spaces between; False when nobody wants to know."""
    try:
        channel.send(" ".join(map(str, words)).encode())
    except OSError:
        return False
    return True


def become(channel: socket.socket, output: int, request: int, appearance: Appearance) -> None:
    """Make this child what a new process would be.

    It goes on only if the runner has learned its number: otherwise it could not be ended.
    """
    with open(request, "rb") as file:
        words = file.read().split(b"\0")
    directory, count = words[0], int(words[1])
    arguments, variables = words[2 : 2 + count], words[2 + count :]
    try:
        os.setsid()
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        os.chdir(directory)
    except OSError as error:
        tell(channel, "error", error.errno, error.strerror)
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
    if not tell(channel, "started", os.getpid()):
        os._exit(0)
    channel.close()
    sys.orig_argv[:] = map(os.fsdecode, arguments)
    sys.argv[:] = sys.orig_argv[1:]


def make_main(path: str, pristine: dict[str, Any]) -> dict[str, Any]:
    """Make the module ``__main__`` of a script; returns its namespace.

    Args:
        path: The script.
        pristine: What another script found in its own.
    """
    module = types.ModuleType("__main__")
    vars(module).clear()
    vars(module).update(pristine, __doc__=None, __file__=path)
    vars(module)["__loader__"] = importlib.machinery.SourceFileLoader("__main__", path)
    sys.modules["__main__"] = module
    return vars(module)


def give_up(error: BaseException) -> NoReturn:
    """Say why there can be no warm process, where `warm_start` looks for it."""
    sys.stderr.write(f"\n{type(error).__name__}: {error}\n")
    sys.stderr.flush()
    os._exit(1)


class Child(NamedTuple):
    """What a child runs, and who has to know how that ends."""

    code: types.CodeType
    ending: Ending


def serve(control: str, path: str, modules: Iterable[str]) -> Child:
    """Do a warm process's work; returns in its children only.

    Args:
        control: The number of the socket to the runner.
        path: The entry-point.
        modules: What to import beforehand.
    """
    ending, script = Ending(), Script(path)
    server = Server(socket.socket(fileno=int(control)), script)
    try:
        appearance = Appearance()
        os.environ.pop("PACIFICA_ROOM", None)
        appearance.show(
            [b"pacifica-warm-process", os.fsencode(sys.path[0])], [b"%b=%b" % item for item in os.environb.items()]
        )
        preload(modules, ending)
    except BaseException as problem:
        give_up(problem)
    server.say_ready()
    script.refresh()
    ending.begin()
    # Children share what was imported with this process for as long as nobody writes to it.
    gc.collect()
    gc.freeze()
    become(*server.serve(), appearance)
    if script.code is None:
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606
    return Child(script.code, ending)
