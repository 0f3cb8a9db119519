"""The warm process: a script that imports what entry-points need, once, and forks for each of them.

It is run by its file in the consumer's environment, ``python warm_process.py CONTROL DIRECTORY MODULES …``, and needs
nothing but the standard library. `warm_start` starts it and talks to it through the socket CONTROL; when that is
closed, it ends. What a child runs must see no difference to ``python __main__.py SRC DST``: so the script is executed
at the bottom of this file, one frame deep, and the interpreter itself deals with how it ends.
"""

# What a script finds in its namespace, before this one adds to it.
PRISTINE = dict(globals())

import sys  # noqa: E402

# First of all: this library's directory must not be where `import json` looks. The entry-point's is, as it would be.
CONTROL, DIRECTORY, MODULES = sys.argv[1:4] if __name__ == "__main__" else ("", "", "")
if __name__ == "__main__":
    sys.path[0] = DIRECTORY

import atexit  # noqa: E402
import contextlib  # noqa: E402
import ctypes  # noqa: E402
import gc  # noqa: E402
import importlib  # noqa: E402
import importlib.machinery  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import select  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import threading  # noqa: E402
import types  # noqa: E402
import weakref  # noqa: E402
from collections.abc import Iterable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, NoReturn  # noqa: E402

#: Ends a process as C programs end. Python's own way frees all that was ever imported, which takes longer than a job.
_exit = ctypes.PyDLL(None).exit
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
        # The C library's own environment still stands there; it is moved away.
        for name, value in os.environb.items():
            os.putenv(name, value)

    def show(self, arguments: Iterable[str], environ: dict[str, str]) -> None:
        """Show other ones, as far as there is room."""
        _overwrite(self._arguments, map(os.fsencode, arguments))
        _overwrite(self._environ, (os.fsencode(f"{name}={value}") for name, value in environ.items()))


def _overwrite(area: tuple[int, int], words: Iterable[bytes]) -> None:
    start, end = area
    content = bytearray()
    for word in words:
        if len(content) + len(word) + 1 > end - start:
            break
        content += word + b"\0"
    ctypes.memmove(start, bytes(content).ljust(end - start, b"\0"), end - start)


class Ending:
    """How the interpreter's end is made short without changing what a script can see of it."""

    def __init__(self) -> None:
        self._status: int | None = None
        self._preloaded = frozenset[str]()
        # The first to be registered is the last to be called: after the script's threads and all other callbacks.
        atexit.register(self._finish)

    def begin(self) -> None:
        """From now on, what is imported is the script's own."""
        self._preloaded = frozenset(sys.modules) - {"__main__"}

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
        _exit(status)

    def _clear_modules(self) -> None:
        """Let go of what the script made, as the interpreter would: its files are written, and its objects end."""
        gc.collect()
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            if hasattr(sys, name):
                setattr(sys, name, None)
        own = [module for name, module in sys.modules.items() if name not in self._preloaded and module is not None]
        left = [weakref.ref(module) for module in own]
        for name in [name for name in sys.modules if name not in self._preloaded]:
            del sys.modules[name]
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


def preload(modules: Iterable[str]) -> None:
    """Import modules; those with a question mark only if they are there.

    Raises:
        ImportError: One cannot be imported.
        RuntimeError: They have started threads, which no child would have.
    """
    for name in modules:
        try:
            importlib.import_module(name.removesuffix("?"))
        except ModuleNotFoundError as error:
            if not name.endswith("?") or error.name != name.split(".")[0].removesuffix("?"):
                raise
    if threading.active_count() > 1:
        names = ", ".join(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
        raise RuntimeError(f"what was imported has started threads ({names}), which no child would have")


class Server:
    """Forks when it is told to, and tells how the children end."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        #: By their handles: the children's ids, and whom to tell of their end.
        self._children: dict[int, tuple[int, socket.socket]] = {}

    def serve(self) -> tuple[socket.socket, int, int]:
        """Returns in a child only: whom to tell that it has started, where its output goes, and what it is to do."""
        while True:
            for handle, _ in self._poll.poll():
                if handle in self._children:
                    self._bury(handle)
                elif found := self._fork():
                    return found

    def _fork(self) -> tuple[socket.socket, int, int] | None:
        _, handles, _, _ = socket.recv_fds(self.control, 16, 3)
        if len(handles) != 3:
            # The runner has closed its end, or has died.
            os._exit(0)
        channel, (output, request) = socket.socket(fileno=handles[0]), handles[1:]
        try:
            pid = os.fork()
        except OSError as error:
            tell(channel, error=error.errno, text=error.strerror)
        else:
            if pid == 0:
                self.control.close()
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
        tell(channel, status=status, cpu=used.ru_utime + used.ru_stime, memory=used.ru_maxrss)
        channel.close()


def tell(channel: socket.socket, **message: object) -> bool:
    """Send a message; False when nobody wants to know."""
    try:
        channel.send(json.dumps(message).encode())
    except OSError:
        return False
    return True


def become(channel: socket.socket, output: int, request: int, appearance: Appearance) -> list[str]:
    """Make this child what a new process would be; returns its arguments.

    It goes on only if the runner has learned its number: otherwise it could not be ended.
    """
    try:
        with open(request, "rb") as file:
            wanted = json.load(file)
        os.setsid()
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        os.chdir(wanted["cwd"])
    except OSError as error:
        tell(channel, error=error.errno, text=error.strerror)
        os._exit(_CANNOT_START)
    arguments, environ = wanted["arguments"], wanted["environ"]
    for name in set(os.environ) - set(environ):
        del os.environ[name]
    for name, value in environ.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    appearance.show(arguments, environ)
    # Python's own generator has started anew after the fork.
    if numbers := sys.modules.get("numpy.random"):
        numbers.seed()
    if not tell(channel, started=os.getpid()):
        os._exit(0)
    channel.close()
    sys.orig_argv[:] = arguments
    sys.argv[:] = arguments[1:]
    sys.path[0] = os.path.dirname(arguments[1])  # noqa: PTH120
    return list(arguments)


def make_main(path: str) -> dict[str, Any]:
    """Make the module ``__main__`` of a script; returns its namespace."""
    module = types.ModuleType("__main__")
    vars(module).clear()
    vars(module).update(PRISTINE, __doc__=None, __file__=path)
    vars(module)["__loader__"] = importlib.machinery.SourceFileLoader("__main__", path)
    sys.modules["__main__"] = module
    return vars(module)


def read_script(path: str) -> types.CodeType:
    """Read and compile a script. If that fails, an interpreter of its own may say so, in its own words."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return compile(file.read(), path, "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606


def give_up(error: BaseException) -> NoReturn:
    """Say why there can be no warm process, where `warm_start` looks for it."""
    sys.stderr.write(f"\n{type(error).__name__}: {error}\n")
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    ENDING = Ending()
    SERVER = Server(socket.socket(fileno=int(CONTROL)))
    try:
        APPEARANCE = Appearance()
        os.environ.pop("PACIFICA_ROOM", None)
        APPEARANCE.show(["pacifica-warm-process", DIRECTORY], dict(os.environ))
        preload(MODULES.split())
    except BaseException as problem:
        give_up(problem)
    tell(SERVER.control, ready=os.getpid(), threads=len(os.listdir("/proc/self/task")))  # noqa: PTH208
    # Children share what was imported with this process for as long as nobody writes to it.
    gc.collect()
    gc.freeze()
    SCRIPT = become(*SERVER.serve(), APPEARANCE)[1]
    ENDING.begin()
    try:
        # Not even under a name of ours may its namespace be held: it ends with the script.
        exec(read_script(SCRIPT), make_main(SCRIPT))  # noqa: S102
    except BaseException as problem:
        ENDING.note(problem)
        raise
    ENDING.note(None)
