"""Makes a child of the warm process look and end like ``python __main__.py SRC DST``."""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib.machinery
import os
import signal
import sys
import types
import weakref
from pathlib import Path
from typing import Any

_FLUSH_FAILED = 120


class Appearance:
    """The command line and the environment of this process in ``/proc``, as other processes see them.

    A forked child shows those of its parent. Both are in writable memory of a fixed size, so they can be overwritten if
    the parent was started with enough room.
    """

    def __init__(self) -> None:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        # arg_start, arg_end, env_start and env_end in proc(5), without the first two fields, which are cut off.
        self._arguments, self._environ = [(int(fields[n]), int(fields[n + 1])) for n in (45, 47)]
        self.variables = frozenset[bytes]()
        # The C library's environment is still in that memory; putenv() copies it to another place.
        for name, value in os.environb.items():
            os.putenv(name, value)

    def show(self, arguments: list[bytes], variables: list[bytes]) -> None:
        """Show another command line and environment, truncated to the available room."""
        _overwrite(self._arguments, arguments)
        _overwrite(self._environ, variables)
        self.variables = frozenset(variables)


def _overwrite(area: tuple[int, int], words: list[bytes]) -> None:
    start, room = area[0], area[1] - area[0]
    content = b"\0".join([*words, b""])
    if len(content) > room:
        content = content[: content.rfind(b"\0", 0, room) + 1]
    ctypes.memmove(start, content.ljust(room, b"\0"), room)


class Libraries:
    """Detects whether shared libraries have been loaded since the instance was created."""

    class _Found(ctypes.Structure):
        # The beginning of dl_phdr_info in link.h; `adds` is the number of libraries that were ever loaded.
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
        return 1  # stop: every entry has the same count

    def _loaded(self) -> int:
        self._iterate(self._callback, None)
        return self._adds

    @property
    def changed(self) -> bool:
        """Whether further libraries have been loaded."""
        return self._loaded() != self._known


class ScriptExit:
    """Shortens the end of the interpreter without changing what a script can observe of it.

    A normal end frees all imported modules, which takes longer than most jobs run.
    """

    def __init__(self) -> None:
        self._libraries: Libraries | None = None
        self._c = ctypes.PyDLL(None)
        self._status: int | None = None
        self._preloaded = frozenset[str]()
        self._last_preloaded = ""
        # The callback that is registered first runs last: after the script's threads and all other callbacks.
        atexit.register(self._finish)

    def trust_libraries(self) -> None:
        """Declare that the libraries that are loaded now need no cleanup at the end of a process."""
        self._libraries = Libraries()

    def begin(self) -> None:
        """Treat modules that are imported from now on as imported by the script."""
        self._preloaded = frozenset(sys.modules) - {"__main__"}
        self._last_preloaded = next(reversed(sys.modules))

    def note(self, error: BaseException | None) -> None:
        """Record the exception that ended the script, since exit handlers cannot find it out."""
        if error is None:
            self._status = 0
        elif isinstance(error, SystemExit):
            self._status = _exit_status(error.code)
        else:
            self._status = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
            hook = sys.excepthook

            def show(kind: type[BaseException], value: BaseException, trace: types.TracebackType | None) -> None:
                # Omit the outermost frame, which belongs to `main`.
                sys.excepthook, sys.last_traceback = hook, trace and trace.tb_next
                hook(kind, value.with_traceback(sys.last_traceback), sys.last_traceback)

            sys.excepthook = show

    def _finish(self) -> None:
        if sys._getframe().f_back is not None:
            # Other code has run the exit handlers, and will end the process: see `_end` in `transfer.background`.
            return
        # If flushing fails, the interpreter reports that itself and exits with its own status.
        if self._status is None or not _flush():
            return
        self._clear_modules()
        status = self._status if _flush() else _FLUSH_FAILED
        if status == -signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        if self._libraries is None or self._libraries.changed:
            # A library that the script loaded may need the cleanup of exit().
            self._c.exit(status)
        self._c.fflush(None)
        os._exit(status)

    def _clear_modules(self) -> None:
        """Free the script's objects as the interpreter would, so that files are written and finalizers run."""
        gc.collect()
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            if hasattr(sys, name):
                setattr(sys, name, None)
        names = ["__main__"]
        # Do not touch preloaded modules: changing a reference count copies a page of memory that is still shared.
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
    """Clear the names of a module in the interpreter's order: names with one leading underscore first."""
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
    if not isinstance(code, int):
        return 0 if code is None else 1
    # The interpreter reports an error for a code that does not fit into a C long.
    return code & 0xFF if -(2**63) <= code < 2**63 else None


def make_main(path: str, pristine: dict[str, Any]) -> dict[str, Any]:
    """Make the module ``__main__`` of a script from the initial namespace of another; returns its namespace."""
    module = types.ModuleType("__main__")
    vars(module).clear()
    vars(module).update(pristine, __doc__=None, __file__=path)
    vars(module)["__loader__"] = importlib.machinery.SourceFileLoader("__main__", path)
    sys.modules["__main__"] = module
    return vars(module)
