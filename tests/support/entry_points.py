"""Entry-points with all kinds of behaviour, and the expected results."""

from __future__ import annotations

#: Sources of entry-points, their exit statuses, and regular expressions for their output.
ENDINGS: list[tuple[str, int, str]] = [
    ("", 0, ""),
    ("print('said')", 0, r"said\n"),
    ("import sys; sys.exit()", 0, ""),
    ("import sys; sys.exit(0)", 0, ""),
    ("import sys; sys.exit(3)", 3, ""),
    ("import sys; sys.exit(True)", 1, ""),
    ("import sys; sys.exit(-1)", 255, ""),
    ("import sys; sys.exit(256)", 0, ""),
    ("import sys; sys.exit(2**40 + 7)", 7, ""),
    ("import sys; sys.exit('wörter')", 1, "wörter\n"),
    ("import sys; sys.exit((1, 2))", 1, r"\(1, 2\)\n"),
    ("import sys; sys.exit(1.0)", 1, r"1\.0\n"),
    ("raise SystemExit", 0, ""),
    ("class Mine(SystemExit): code = 9\nraise Mine()", 9, ""),
    ("exit(4)", 4, ""),
    ("try:\n    1/0\nexcept ZeroDivisionError:\n    raise SystemExit(5)", 5, ""),
    ("import os; print('lost?', flush=True); os._exit(7)", 7, r"lost\?\n"),
    ("import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()", -6, ""),
    ("import os; os.kill(os.getpid(), 9)", -9, ""),
    ("import os; os.kill(os.getpid(), 15)", -15, ""),
    ("import os; os.kill(os.getpid(), 2)", -2, r"Traceback.*KeyboardInterrupt\n"),
    ("import signal, time; signal.setitimer(signal.ITIMER_REAL, 0.01); time.sleep(20)", -14, ""),
    ("import os; os.kill(0, 15)", -15, ""),
    ("raise KeyboardInterrupt", -2, r"Traceback.*KeyboardInterrupt\n"),
    ("def f():\n    1/0\n\ndef g():\n    f()\n\ng()", 1, r"Traceback \(.*\):\n  File .* line 7, in <module>.*"),
    ("try: 1/0\nexcept Exception as e: raise ValueError('ä') from e", 1, ".*direct cause.*ValueError: ä\n"),
    ("raise ExceptionGroup('several', [ValueError(1), TypeError(2)])", 1, r".*Exception Group.*"),
    # One frame deeper, the recursion has one call less.
    ("import sys; sys.tracebacklimit = 0\ndef f(): f()\nf()", 1, r"RecursionError.*"),
    ("raise GeneratorExit", 1, r".*GeneratorExit\n"),
    ("def f(:\n", 1, r"  File .*SyntaxError.*"),
    ("if True:\nprint(1)", 1, r"  File .*IndentationError.*"),
    ("import sys\nsys.excepthook = lambda *a: print(a[0].__name__, a[2].tb_lineno)\n1/0", 1, "ZeroDivisionError 3\n"),
    (
        "import atexit, sys\natexit.register(lambda: print(sys.last_value, sys.last_traceback.tb_lineno))\n1/0",
        1,
        ".*division by zero 3\n",
    ),
    ("# coding: latin-1\nprint('\udce4')", 0, "ä\n"),
    ("import __main__, sys\nprint(__main__.__dict__ is globals(), __main__.__file__ == __file__)", 0, "True True\n"),
]

#: Sources of entry-points by a description of their behaviour.
BEHAVIOURS = {
    "callbacks at the end": """
import atexit, threading, time
atexit.register(print, "first registered")
atexit.register(lambda: 1/0)
atexit.register(print, "last registered")
printed = threading.Event()
threading.Thread(target=lambda: (printed.wait(), time.sleep(0.05), print("thread"))).start()
print("main")
printed.set()
""",
    "exit in a callback": "import atexit, sys\natexit.register(sys.exit, 5)\nprint('end')",
    "daemon left running": """
import threading, time
threading.Thread(target=time.sleep, args=(99,), daemon=True).start()
""",
    "thread that fails": """
import sys, threading
def work(what): what()
for what in (lambda: 1/0, lambda: sys.exit(4)):
    thread = threading.Thread(target=work, args=(what,), name="t")
    thread.start(); thread.join()
print(threading.main_thread().name, threading.current_thread() is threading.main_thread(), threading.active_count())
""",
    "file that nobody closes": """
import sys, logging
left = open(sys.argv[2] + "/left", "w"); left.write("x" * 10)
class Keeper:
    def __init__(self): self.file = open(sys.argv[2] + "/kept", "w"); self.file.write("y"); self.me = self
keeper = Keeper()
log = logging.getLogger(); log.addHandler(logging.handlers.MemoryHandler(9, target=logging.StreamHandler(left))
    if hasattr(logging, "handlers") else logging.StreamHandler(left)); log.warning("logged")
""",
    "objects that say good-bye": """
import weakref
class Loud:
    def __init__(self, name): self.name = name
    def __del__(self): print("del", self.name, __name__, len is not None)
class Pair(Loud): pass
a, b = Pair("a"), Pair("b"); a.other, b.other = b, a
_private, public = Loud("private"), Loud("public")
end = weakref.finalize(public, print, "finalized")
def stay():
    try: yield
    finally: print("generator closed")
running = stay(); next(running)
holder = {"inner": Loud("inner")}
def use(): return holder
print("end")
""",
    "objects that fail to say good-bye":  # In a cold start, the lines of the source are not found any more.
    "import sys\nsys.tracebacklimit = 0\nclass Bad:\n    def __del__(self): 1/0\nbad = Bad()\nprint('end')",
    "a module of its own": "import beside\nprint(beside.noisy is not None)",
    "objects of a traceback": """
class Loud:
    def __del__(self): print("del")
def f():
    local = Loud()
    raise ValueError
f()
""",
    "output of all kinds": """
import os, sys
sys.stdout.write("no newline"); os.write(1, b"|raw|"); sys.stdout.buffer.write(b"\\xff\\x00"); os.write(2, b"err")
sys.stderr.write("x"); print("ä€", file=sys.__stderr__)
print(sys.stdout.encoding, sys.stdout.errors, sys.stderr.errors, sys.stdout.line_buffering, sys.stdout.write_through,
      type(sys.stdout.buffer).__name__, sys.stdout.isatty(), sys.stdin.isatty(), sys.stdout.seekable(), sys.stdout.mode,
      sys.stdout.name, sys.stderr.name, sys.stdin.name, sys.stdin.encoding, sys.stdout.fileno())
""",
    "much output": "import sys\nfor _ in range(3):\n    print('x' * 2_000_000); print('y', file=sys.stderr)",
    "output that is held back": """
import io, sys
sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False), write_through=False)
print("held")
""",
    "what the C library holds back": """
import ctypes, sys
c = ctypes.CDLL(None)
c.fopen.restype = ctypes.c_void_p
c.fputs(b"held", ctypes.c_void_p(c.fopen((sys.argv[2] + "/held").encode(), b"w")))
""",
    "output that is closed": "import sys\nprint('a')\nsys.stdout.close()\nsys.stderr.close()",
    "output that is closed below": "import os\nprint('a')\nos.close(1)\nprint('b')",
    "output whose flushing fails": """
import sys
class Bad:
    closed = False
    def write(self, text): sys.__stdout__.write(text)
    def flush(self): raise OSError(28, "full")
sys.stdout = Bad()
print("x")
""",
    "input": """
import sys
print(repr(sys.stdin.read()), repr(sys.stdin.readline()))
try: input("? ")
except EOFError as e: print("EOF", e)
""",
    "children": """
import os, subprocess, sys
print(subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True).stdout)
print(os.system("echo shell; exit 3") >> 8, os.popen("echo popen").read())
pid = os.fork()
if pid == 0:
    print("child", flush=True)
    sys.exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
pid = os.fork()
if pid:
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
else:
    1/0
""",
    "a child that goes on to the end": "import os\nif (pid := os.fork()): os.waitpid(pid, 0)\nprint(bool(pid))",
    "another program instead": """
import os
print("before")
os.execv("/bin/sh", ["sh", "-c", "echo $0 $PACIFICA_USERNAME; exit 8"])
""",
    "processes that are forked": """
import multiprocessing as m, sys
def square(n): return n * n
if __name__ == "__main__":
    context = m.get_context("fork")
    with context.Pool(2) as pool: print(pool.map(square, range(5)))
    queue = context.Queue()
    process = context.Process(target=queue.put, args=(m.current_process().name,)); process.start()
    print(queue.get(), process.join(), process.exitcode)
""",
    "processes that are spawned": """
import concurrent.futures, multiprocessing as m, sys
def square(n): return n * n, __name__, len(sys.argv)
if __name__ == "__main__":
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=m.get_context("spawn")) as pool:
        print(list(pool.map(square, range(3))))
    with concurrent.futures.ThreadPoolExecutor() as pool: print(list(pool.map(str, range(3))))
""",
    "a server that forks": """
import multiprocessing as m
def square(n): return n * n
if __name__ == "__main__":
    with m.get_context("forkserver").Pool(1) as pool: print(pool.map(square, [3]))
""",
    "where it is": """
import os, sys, json
print(json.dumps([sys.argv, sys.orig_argv, sys.path, sys.executable, sys.prefix, sys.base_prefix,
    os.getcwd(), __file__, __name__, __doc__, __package__, repr(__spec__), sorted(globals()), repr(__builtins__),
    type(__loader__).__name__, __loader__.path, __loader__.name, repr(sys.flags), sys.warnoptions,
    sys.getfilesystemencoding(), sys.platlibdir,
    sys.dont_write_bytecode, sys.pycache_prefix, sys.gettrace(), sys.getprofile(), sys.getrecursionlimit(),
    sys.getswitchinterval(), sys.meta_path == sys.meta_path, len(sys.path_hooks)], default=str, indent=1))
os.chdir("/"); print(os.getcwd(), os.path.abspath("x"))
""",
    "how it runs": """
import gc, locale, os, resource, signal, sys, threading
print(os.getsid(0) == os.getpid() == os.getpgrp(), oct(os.umask(0)), os.getuid(), os.getpriority(os.PRIO_PROCESS, 0))
for number in sorted(signal.valid_signals()):
    print(number, signal.getsignal(number))
print(signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getitimer(signal.ITIMER_REAL), signal.set_wakeup_fd(-1))
print([resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT")])
print(gc.isenabled(), gc.get_threshold(), gc.get_debug(), locale.getlocale(), sys.getallocatedblocks() > 0)
files = [f"/proc/self/fd/{n}" for n in range(256)]
# Importing ctypes, as the warm process does, may make libffi keep a file of its own open.
print(len(os.listdir("/proc/self/task")), [f for f in files if os.path.exists(f) and "libffi" not in os.readlink(f)])
print([os.readlink(f"/proc/self/fd/{n}") for n in range(3)], [os.get_inheritable(n) for n in range(3)])
print(os.times().children_user, os.sched_getaffinity(0), open("/proc/self/comm").read(), os.sched_getscheduler(0))
print(resource.getrusage(resource.RUSAGE_SELF).ru_utime < 5, threading.get_native_id() == os.getpid())
""",
    "what it finds in its environment": """
import os, subprocess
for name, value in sorted(os.environ.items()): print(name, value)
print(sorted(os.popen("env").read().splitlines()) == sorted(f"{n}={v}" for n, v in os.environ.items() if n != "_") or
      set(f"{n}={v}" for n, v in os.environ.items()) - set(os.popen("env").read().splitlines()))
shown = open("/proc/self/environ", "rb").read().strip(b"\\0").split(b"\\0")
print(sorted(shown) == sorted(os.fsencode(f"{n}={v}") for n, v in os.environ.items()))
print(open("/proc/self/cmdline", "rb").read().rstrip(b"\\0").split(b"\\0"))
import ctypes
getenv = ctypes.CDLL(None).getenv; getenv.restype = ctypes.c_char_p
print(getenv(b"PACIFICA_USERNAME"), getenv(b"PACIFICA_ROOM"), len(getenv(b"PATH")))
os.environ["NEW"] = "1"; del os.environ["PATH"]; print(getenv(b"NEW"), getenv(b"PATH"))
""",
    "things that look at the script": """
import inspect, pickle, runpy, sys, traceback, warnings, dataclasses, asyncio, beside
@dataclasses.dataclass
class Point:
    x: int
def hello() -> int:
    return 1
print(inspect.getsource(hello), pickle.loads(pickle.dumps(Point(3))), inspect.getmodule(hello).__name__)
warnings.warn("careful")
warnings.warn("old", DeprecationWarning)
async def main(): await asyncio.sleep(0); return 5
print(asyncio.run(main()), beside.__file__, Point.__module__, __annotations__ if "__annotations__" in globals() else "")
try: 1/0
except ZeroDivisionError: traceback.print_exc()
sys.unraisablehook = lambda said: print("unraisable", said.exc_type)
class Bad:
    def __del__(self): 1/0
Bad()
""",
    "the documented imports": """
from jsonpath2 import Path
from pacifica_notifications_consumer import download, upload
from promise import Promise
print([m.current_value for m in Path.parse_str("$.a").match({"a": 1})], Promise.resolve(3).get(), download.__module__)
""",
    "a promise that nobody catches": """
from promise import Promise
from pacifica_notifications_consumer import download
import sys
download(sys.argv[1] + "/nowhere")
print("end")
""",
    "changes to what is shared": """
import requests, json, sys
print(requests.get, len(sys.path))
requests.get = json.dumps = None
sys.path.clear()
""",
    "and none of them stays": "import requests, json, sys\nprint(requests.get, json.dumps([]), len(sys.path))",
}
