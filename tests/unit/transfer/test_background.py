"""Tasks run in parallel; callbacks run one at a time on a waiting thread, or on the main thread at the end."""

import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator

import pytest

from pacifica_notifications_consumer import download
from pacifica_notifications_consumer.errors import DownloadError
from pacifica_notifications_consumer.transfer.background import in_background
from pacifica_notifications_consumer.transfer.promises import UNHANDLED_STATUS, Promise
from tests.support.machine.waiting import DEADLINE
from tests.support.scripts import Interpreter, interpreter

PRELUDE = """
import atexit, os, subprocess, sys, threading
from concurrent.futures import ThreadPoolExecutor
from promise import Promise
from pacifica_notifications_consumer import download
from pacifica_notifications_consumer.transfer.background import in_background
later = threading.Event()
def work(value=1):
    def act():
        later.wait(0.05)
        if isinstance(value, Exception):
            raise value
        return value
    return in_background(act)
"""

#: Python 3.12 starts no threads after the end of the script; see docs/reference/entry-points.md.
NOT_3_12 = pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="Python 3.12 starts no threads that late")

#: Forking while a task runs is allowed, but Python 3.12 and later warn of it.
QUIET = "import warnings; warnings.simplefilter('ignore')"


@pytest.fixture(scope="module")
def python() -> Iterator[Interpreter]:
    with interpreter(PRELUDE) as python:
        yield python


def test_side_by_side() -> None:
    """Tasks run at the same time: each waits for the others, so one alone would wait for ever."""
    meeting = threading.Barrier(3, timeout=DEADLINE)
    assert sorted(Promise.all([in_background(meeting.wait) for _ in range(3)]).get()) == [0, 1, 2]


def test_callbacks_run_on_the_waiting_thread_one_at_a_time() -> None:
    """Even if many threads wait, only one callback runs at a time, on one of the waiting threads."""
    running, most, waiting = [], [], set()

    def callback(_: object) -> int:
        running.append(threading.get_ident())
        most.append(len(running))
        waiting.add(threading.get_ident())
        time.sleep(0.001)
        running.remove(threading.get_ident())
        return threading.get_ident()

    def wait_for_some() -> None:
        for _ in range(10):
            in_background(lambda: None).then(callback).get()

    threads = [threading.Thread(target=wait_for_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert max(most) == 1
    assert len(most) == 40
    assert waiting <= {thread.ident for thread in threads}


def test_waiting_inside_a_callback() -> None:
    """A callback may start another task and wait for it."""
    promise = in_background(lambda: 1).then(lambda value: in_background(lambda: value + 1).get() + 10)
    assert promise.get(timeout=DEADLINE) == 12


def test_promise_of_another_thread() -> None:
    """A promise that another thread settles wakes the thread that waits for it."""
    promise: Promise[int] = Promise()
    threading.Timer(0.05, lambda: promise.do_resolve(7)).start()
    assert promise.get(timeout=DEADLINE) == 7


def test_time_limit() -> None:
    """get() raises TimeoutError when its timeout has passed."""
    go_on = threading.Event()
    promise = in_background(go_on.wait)
    with pytest.raises(TimeoutError, match=r"0\.01 seconds"):
        promise.get(timeout=0.01)
    go_on.set()
    assert promise.get(timeout=DEADLINE) is True


def test_rejection_carries_our_error_and_its_cause(tmp_path: str) -> None:
    """The exception is a DownloadError with its original traceback and cause."""
    with pytest.raises(DownloadError) as caught:
        download(tmp_path).get()
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert any(frame.name == "_read_notification" for frame in traceback.extract_tb(caught.value.__traceback__))


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("script", "status", "printed"),
    [
        ("work(1).then(print); print('end of the script')", 0, ["end of the script", "1"]),
        ("work().then(lambda _: print(threading.current_thread() is threading.main_thread()))", 0, ["True"]),
        ("work().then(lambda _: work(2)).then(print)", 0, ["2"]),
        ("Promise.all([work(1), work(2)]).then(print)", 0, ["[1, 2]"]),
        ("work().then(lambda _: sys.exit(75)); sys.exit(0)", 75, []),
        ("work().then(lambda _: sys.exit(75)).get()", 75, []),
        ("work().then(lambda _: sys.exit('sorry'))", 1, []),
        ("work().then(lambda _: sys.exit())", 0, []),
        ("in_background(lambda: sys.exit(7)); sys.exit(0)", 7, []),
        ("in_background(lambda: sys.exit(7)).get(); print('too far')", 7, []),
        ("work(ValueError('because'))", UNHANDLED_STATUS, []),
        ("work().then(lambda _: 1 / 0); sys.exit(3)", UNHANDLED_STATUS, []),
        ("Promise.reject(ValueError('because')); work().then(lambda _: sys.exit(3))", UNHANDLED_STATUS, []),
        ("work(ValueError('because')).catch(print)", 0, ["because"]),
        ("work().then(print); raise ValueError('the script failed')", 1, []),
        pytest.param("work().then(lambda _: print(*ThreadPoolExecutor(1).map(str, [5])))", 0, ["5"], marks=NOT_3_12),
        ("work().then(lambda _: subprocess.run(['echo', '6'], check=True) and None)", 0, ["6"]),
        pytest.param(
            "work().then(lambda _: threading.Thread(target=print, args=(7,)).start())", 0, ["7"], marks=NOT_3_12
        ),
        ("atexit.register(print, 'exit'); work().then(lambda _: sys.exit(4))", 4, ["exit"]),
        ("file = open('/dev/stdout', 'w'); work().then(lambda _: file.write('kept') and file.flush())", 0, ["kept"]),
        ("pid = os.fork(); pid or work().then(print); pid and os.waitpid(pid, 0)", 0, ["1"]),
        (f"{QUIET}; work().then(print); pid = os.fork(); pid or os._exit(0); os.waitpid(pid, 0)", 0, ["1"]),
        ("work().then(lambda _: sys.exit(300)).then(print)", 44, []),
        ("sys.excepthook = lambda *_: 1 / 0\ndef stop(_): raise KeyboardInterrupt\nwork().then(stop)", 130, []),
        ("work().then(lambda _: sys.stderr.close() or sys.exit('text'))", 1, []),
        ("class Odd:\n    def __str__(self): 1 / 0\nwork().then(lambda _: sys.exit(Odd()))", 1, []),
        pytest.param(
            "threading.Thread(target=lambda: work().then(lambda _: sys.exit(6)).get()).start()", 6, [], marks=NOT_3_12
        ),
        ("work().then(lambda _: (n for n in range(3))).then(lambda numbers: print(*numbers))", 0, ["0 1 2"]),
        ("work().then(lambda _: map(str, [1])).then(lambda texts: print(*texts))", 0, ["1"]),
        ("print(*work().then(lambda _: map(str, [1])).get())", 0, ["1"]),
        ("done = map(str, [1]); work().then(lambda _: print(*done) or done)", 0, ["1"]),
        ("work().then(lambda _: [map(str, []), open(sys.executable), iter([1]), filter(None, sys.stdin)])", 0, []),
        ("work().then(lambda _: [(n for n in [1])]).then(lambda found: print(*found[0]))", 0, ["1"]),
        ("async def two(): return 2\nwork().then(lambda _: [two()]).then(Promise.all).then(print)", 0, ["[2]"]),
        ("work().then(lambda _: sys.exit(75)).then(print).get()", 75, []),
        ("work().then(lambda _: sys.exit(2**70))", 255, []),
        ("def stop(_): raise KeyboardInterrupt\nwork().then(stop)", 130, []),
        ("def stop(_): raise GeneratorExit\nwork().then(stop)", 1, []),
        (
            "class Last:\n    def __del__(self): print('freed')\nlast = Last(); work().then(lambda _: sys.exit(4))",
            4,
            ["freed"],
        ),
        ("late = Promise(); work().then(late.do_resolve); late.then(print)", 0, ["1"]),
        ("late = Promise(); late.then(print); late.done(print); late.do_resolve(1)", 0, ["1", "1"]),
        ("Promise(); work().then(lambda _: Promise.resolve(2)).then(print)", 0, ["2"]),
        (f"{QUIET}; late = Promise(); late.then(print)\nif os.fork(): os.wait(); late.do_resolve(1)", 0, ["1"]),
    ],
)
def test_end_of_the_program(python: Interpreter, script: str, status: int, printed: list[str]) -> None:
    """Promises that are pending at the end of the script are settled on the main thread, where threads still start."""
    finished = python.run(script)
    assert (finished.returncode, finished.stdout.splitlines()) == (status, printed), finished.stderr
    assert ("Unhandled promise rejection" in finished.stderr) == (status == UNHANDLED_STATUS)


LAZY = """
async def wait(value): print(value)
async def count(): yield 1
work().then(lambda _: {returned})
"""
#: What a callback returns that does nothing by itself, and what the sentence calls it.
RETURNED = {
    "(n for n in [1])": "generator",
    "[wait(1), wait(2)]": "coroutine in the list",
    "(5, wait(1))": "coroutine in the tuple",
    "{1: wait(1)}": "coroutine in the dict",
    "map(print, [1])": "map",
    "[map(print, (n for n in [1]))]": "map in the list",
    "filter(print, {1: 2}.items())": "filter",
    "zip(map(print, range(3)))": "zip",
    "map(wait, [1])": "map",
}
if sys.version_info >= (3, 12):
    RETURNED["count()"] = "async generator"


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("def read(value): yield value\nwork().then(read)", "the callback read (<script>, line 1) contains yield"),
        (
            "async def read(value): yield value\nwork().then(read)",
            "the callback read (<script>, line 1) contains yield",
        ),
        (
            "class Read:\n    __repr__ = lambda _: '<reader>'\n    def __call__(self, _): yield\nwork().then(Read())",
            "the callback <reader> contains yield",
        ),
        (
            "def save(_): return Promise()\nwork().then(save)",
            "save (<script>, line 1) returned a promise that nothing settled",
        ),
        (
            "def save(_): print(5)\nPromise().then(save)",
            "save (<script>, line 1) never ran: nothing settled the promise",
        ),
        (
            "def save(_): print(5)\nPromise().done(save)",
            "save (<script>, line 1) never ran: nothing settled the promise",
        ),
        (
            "def save(_): print(5)\nPromise().catch(save)",
            "save (<script>, line 1) never ran: nothing settled the promise",
        ),
        ("def save(_): print(5)\nPromise.all([work(), Promise()]).then(save)", "save (<script>, line 1) never ran"),
        (
            "from functools import partial\ndef save(a, b): print(5)\nPromise().then(partial(save, 1))",
            "save (<script>, line 2)",
        ),
        ("Promise().then(print)", "the callback print never ran"),
        (
            "def read(): yield\nwork().then(lambda _: read())",
            "nothing ran the generator that the callback <lambda> (<script>, line 2) returned; await it",
        ),
        (
            "async def both(_): return [both(1)]\nwork().then(both)",
            "nothing ran the coroutine in the list that",
        ),
        ("Promise.for_dict({1: Promise()})", "the callback of Promise.for_dict never ran: nothing settled the promise"),
        (
            """
import asyncio
async def wait(_): await asyncio.sleep(30)
async def main():
    done = work()
    done.then(wait)
    await done
asyncio.run(main())""",
            "a coroutine of a callback did not end before its event loop: await its promise there",
        ),
    ],
)
def test_callback_that_does_nothing(python: Interpreter, script: str, sentence: str) -> None:
    """A callback that cannot run, or whose promise is pending at the end, fails with a sentence that names it."""
    finished = python.run(script)
    assert (finished.returncode, finished.stdout) == (UNHANDLED_STATUS, "")
    assert sentence in finished.stderr


@pytest.mark.parametrize("returned", RETURNED)
def test_callback_that_returns_work(python: Interpreter, returned: str) -> None:
    """Work that nobody iterates over or awaits fails with a sentence that names it and the callback."""
    finished = python.run(LAZY.replace("{returned}", returned))
    assert (finished.returncode, finished.stdout) == (UNHANDLED_STATUS, "")
    assert f"nothing ran the {RETURNED[returned]} that the callback <lambda> (<script>, line 4) ret" in finished.stderr


@pytest.mark.skipif(sys.version_info[:2] != (3, 12), reason="other Pythons start threads that late")
@pytest.mark.parametrize("start", ["threading.Thread(target=print).start()", "ThreadPoolExecutor().submit(print)"])
def test_thread_after_the_script(python: Interpreter, start: str) -> None:
    """The error of a callback that starts a thread too late for Python 3.12 says what to do."""
    finished = python.run(f"work().then(lambda _: {start})")
    assert finished.returncode == UNHANDLED_STATUS
    assert "end it with .get() on the last promise" in finished.stderr


@NOT_3_12
@pytest.mark.parametrize(("end", "status"), [("return", 0), ("1 / 0", UNHANDLED_STATUS)])
def test_child_that_is_forked_in_a_callback(end: str, status: int) -> None:
    """A child that goes on after its callback ends, too."""
    script = f"""{PRELUDE}
def fork(_):
    if os.fork():
        return os.waitstatus_to_exitcode(os.wait()[1])
    {end}
work().then(fork).then(lambda ended: ended is None or print(ended))
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert (finished.returncode, finished.stdout) == (0, f"{status}\n")


@NOT_3_12
def test_pools_after_the_script() -> None:
    """Callbacks that run at the end can use pools of threads and of processes, which end with the program."""
    script = """
from pacifica_notifications_consumer.transfer.background import in_background
def pools(_):
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
    for kind in ThreadPoolExecutor, ProcessPoolExecutor:
        with kind() as pool: print(pool.submit(int, 5).result())
async def names(_):
    import asyncio
    return await asyncio.to_thread(lambda: print(6))
in_background(int).then(pools).then(names)
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert (finished.returncode, finished.stdout.split()) == (0, ["5", "5", "6"]), finished.stderr


@pytest.mark.parametrize("wrong", ["work(1)", "'work'", "None, None", ""])
def test_callback_that_is_not_one(python: Interpreter, wrong: str) -> None:
    """What cannot be called is refused at once, with the line in which it was given."""
    finished = python.run(f"work().then({wrong})")
    assert (finished.returncode, "write then(work), not then(work())" in finished.stderr) == (1, True)


def test_no_blame_when_the_script_failed(python: Interpreter) -> None:
    """If the script fails, or a callback ends the program, callbacks that never ran are not reported."""
    for end, status in (("1 / 0", 1), ("work().then(lambda _: sys.exit(3))", 3)):
        finished = python.run(f"Promise().then(print); {end}")
        assert (finished.returncode, "never ran" in finished.stderr) == (status, False)


ASYNC = """
import asyncio
async def twice(value):
    await asyncio.sleep(0.01)
    return value * await work(2)
async def fail(_): raise ValueError('because')
async def leave(_): sys.exit(7)
async def main():
    beside = asyncio.create_task(twice(50))
    print(await work(), await asyncio.gather(work(2), work(3).then(twice)), await work(4).then(twice), await beside)
    try: await work().then(fail)
    except ValueError as error: print(error)
    try: await asyncio.wait_for(in_background(lambda: later.wait(30)), 0.01)
    except asyncio.TimeoutError: print('timeout')
    later.set()
"""


@pytest.mark.parametrize(
    ("script", "status", "printed"),
    [
        ("asyncio.run(main())", 0, ["1 [2, 6] 8 100", "because", "timeout"]),
        ("work(3).then(twice).then(print)", 0, ["6"]),
        ("print(work(3).then(twice).get())", 0, ["6"]),
        ("work(1).then(twice).then(twice).then(print); work(2).then(twice).then(print)", 0, ["4", "4"]),
        ("Promise.all([twice(n) for n in range(20)]).then(print)", 0, [str([2 * n for n in range(20)])]),
        ("work().then(lambda _: asyncio.run(twice(4))).then(print)", 0, ["8"]),
        ("work().then(fail).catch(print)", 0, ["because"]),
        (
            "import functools\n@functools.wraps(lambda _: (yield))\ndef drive(value): print(value)\nwork().then(drive)",
            0,
            ["1"],
        ),
        ("work().then(fail)", UNHANDLED_STATUS, []),
        ("work().then(leave)", 7, []),
        ("async def main(): await work().then(leave)\nasyncio.run(main())", 7, []),
        ("async def main(): await work().then(lambda _: sys.exit(6))\nasyncio.run(main())", 6, []),
        ("async def main(): work().then(twice).then(print)\nasyncio.run(main())", 0, ["2"]),
        ("threading.Thread(target=asyncio.run, args=(main(),)).start()", 0, ["1 [2, 6] 8 100", "because", "timeout"]),
    ],
)
def test_coroutines(python: Interpreter, script: str, status: int, printed: list[str]) -> None:
    """Promises are awaited in event loops, beside other tasks, and callbacks may be coroutine functions."""
    if "threading" in script and sys.version_info[:2] == (3, 12):
        pytest.skip("Python 3.12 starts no threads that late")
    finished = python.run(ASYNC + script)
    assert (finished.returncode, finished.stdout.splitlines()) == (status, printed), finished.stderr


def test_callback_that_forks(python: Interpreter) -> None:
    """When a callback runs, the thread of its task has ended, so Python does not warn of a fork with threads."""
    finished = python.run(
        "for _ in range(20): work().then(lambda _: os.fork() or os._exit(0)).then(lambda _: os.wait()).get()"
    )
    assert (finished.returncode, finished.stderr) == (0, "")


def test_forked_child_waits_for_nothing(python: Interpreter) -> None:
    """A child that is forked during a task exits without waiting for the task, which runs in its parent."""
    finished = python.run(
        f"{QUIET}; work().then(print); pid = os.fork()\nif pid: os.waitpid(pid, 0)\nelse: print('child')"
    )
    assert finished.returncode == 0
    assert sorted(finished.stdout.split()) == ["1", "child"]


def test_interrupt_at_the_end(python: Interpreter) -> None:
    """Ctrl-C during the wait for tasks at the end of the program ends it with the exit status of an interrupt."""
    interrupt = """
import signal, traceback; main = threading.main_thread().ident
def strike():
    while "_settle_until" not in str(traceback.extract_stack(sys._current_frames()[main])): later.wait(0.01)
    os.kill(os.getpid(), signal.SIGINT), later.wait(1000)
in_background(strike)"""
    assert python.run(interrupt).returncode == 130
