"""An unhandled rejection ends the process with a status greater than 0; a handled one does not."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from pacifica_notifications_consumer.transfer.promises import UNHANDLED_STATUS
from tests.support.scripts import Interpreter, interpreter

PRELUDE = """
import sys
from promise import Promise
from pacifica_notifications_consumer import download
download  # the library is imported, as in an entry-point
fulfilled = lambda: Promise(lambda resolve, reject: resolve(1))
rejected = lambda: Promise(lambda resolve, reject: reject(ValueError("because")))
"""


@pytest.fixture(scope="module")
def python() -> Iterator[Interpreter]:
    with interpreter(PRELUDE) as python:
        yield python


@pytest.mark.sampled
@pytest.mark.parametrize(
    "script",
    [
        "rejected()",
        "rejected().then(print)",
        "fulfilled().then(lambda _: 1 / 0)",
        "fulfilled().then(lambda _: rejected())",
        "fulfilled().then(lambda _: fulfilled().then(lambda _: 1 / 0)).then(print)",
        "rejected().catch(lambda _: 1 / 0)",
        "promise = rejected(); promise.catch(print); promise.then(print)",
        "Promise.all([fulfilled(), rejected()])",
        "Promise.all([fulfilled()]).then(lambda _: 1 / 0)",
        "fulfilled().done(lambda _: 1 / 0)",
        "late = Promise(); late.then(print); late.do_reject(ValueError('because'))",
        "rejected(); sys.exit(5)",
        "class OddError(ValueError):\n    def __str__(self): 1 / 0\nPromise.reject(OddError())",
        "rejected(); sys.exit(0)",
        "import threading; threading.Thread(target=rejected).start()",
        "download('/nowhere')",
        "download('/nowhere').then(print)",
    ],
)
def test_unhandled_rejection_ends_with_a_status_and_is_printed(python: Interpreter, script: str) -> None:
    """A process with an unhandled rejection fails and prints the reason, wherever the rejection happens."""
    finished = python.run(script)
    assert (finished.returncode, "Unhandled promise rejection" in finished.stderr) == (UNHANDLED_STATUS, True)
    assert "Error" in finished.stderr


@pytest.mark.parametrize(
    "script",
    [
        "rejected().catch(print)",
        "rejected().then(print, print)",
        "fulfilled().then(lambda _: rejected()).catch(print)",
        "Promise.all([rejected(), rejected()]).catch(print)",
        "Promise.for_dict({'a': rejected()}).catch(print)",
        "late = Promise(); late.catch(print); late.do_reject(ValueError('because'))",
        "late = Promise(); outer = Promise(lambda r, _: r(late)); outer.catch(print); late.do_reject(ValueError(''))",
        "late = Promise(); outer = Promise(lambda r, _: r(late)); late.do_reject(ValueError('')); outer.catch(print)",
        "try:\n    rejected().get()\nexcept ValueError:\n    pass",
        "download('/nowhere').catch(print)",
    ],
)
def test_handled_rejection_is_no_failure(python: Interpreter, script: str) -> None:
    """A handled rejection does not change the exit status."""
    finished = python.run(script)
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.parametrize("status", [0, 3])
def test_exit_in_a_callback_exits(python: Interpreter, status: int) -> None:
    """sys.exit() in a callback ends the process; the package `promise` alone would swallow it."""
    assert python.run(f"fulfilled().then(lambda _: sys.exit({status})); sys.exit(9)").returncode == status


def test_other_exit_handlers_still_run() -> None:
    """Exit handlers that were registered earlier or later still run when the exit status is changed."""
    early = "import atexit; atexit.register(print, 'early')"
    late = "import atexit; atexit.register(print, 'late'); rejected()"
    finished = subprocess.run(
        [sys.executable, "-c", f"{early}\n{PRELUDE}\n{late}"], capture_output=True, text=True, check=False
    )
    assert (finished.returncode, finished.stdout.split()) == (UNHANDLED_STATUS, ["late", "early"])


@pytest.mark.parametrize("script", ["sys.stderr = None; rejected()", "import os; os.close(2); rejected()"])
def test_status_changes_without_standard_error(python: Interpreter, script: str) -> None:
    """A process whose standard error is closed still exits with the status of an unhandled rejection."""
    assert python.run(script).returncode == UNHANDLED_STATUS


@pytest.mark.parametrize("first", ["fulfilled().done(lambda _: 1 / 0)", "fulfilled()._add_callbacks(1, 2, 3)"])
def test_later_callbacks_are_still_called(python: Interpreter, first: str) -> None:
    """An error in one callback does not keep the callbacks of other promises from running."""
    finished = python.run(
        f"try:\n    {first}\nexcept Exception:\n    pass\nfulfilled().then(lambda _: print('called'))"
    )
    assert finished.stdout == "called\n"


@pytest.mark.skipif(sys.platform != "linux", reason="needs the list of threads in /proc")
@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("Promise().get()", 1),
        ("fulfilled().then(lambda _: Promise().get())", UNHANDLED_STATUS),
        ("download('/nowhere').catch(lambda _: Promise().get())", UNHANDLED_STATUS),
        ("threading.Thread(target=print).start(); Promise().get()", 1),
    ],
)
def test_get_that_would_wait_for_ever(python: Interpreter, script: str, status: int) -> None:
    """Waiting without a timeout for a promise that nothing can settle is an error, with a sentence that says so."""
    finished = python.run(f"import threading; {script}")
    assert finished.returncode == status
    assert "PromiseError: get() would wait for ever: nothing is running that could settle the pro" in finished.stderr


@pytest.mark.parametrize(
    "settle",
    [
        "threading.Timer(0.05, promise.do_resolve, [5]).start()",
        "threading.Thread(target=lambda: later.wait(0.05) or promise.do_resolve(5), daemon=True).start()",
        "_thread.start_new_thread(lambda: later.wait(0.05) or promise.do_resolve(5), ())",
        "signal.signal(signal.SIGALRM, lambda *_: promise.do_resolve(5)); signal.setitimer(signal.ITIMER_REAL, 0.05)",
        "download('/nowhere').catch(lambda _: promise.do_resolve(5))",
    ],
)
def test_get_that_waits_for_something_else(python: Interpreter, settle: str) -> None:
    """A thread of any kind, a signal handler or a callback can settle the promise."""
    setup = "import _thread, signal, threading; later = threading.Event(); promise = Promise()"
    finished = python.run(f"{setup}; {settle}; print(promise.get())")
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "5\n", "")


def test_get_with_a_timeout_says_so(python: Interpreter) -> None:
    """Waiting for a promise that is never settled ends with a TimeoutError."""
    finished = python.run("Promise().get(timeout=0.01)")
    assert finished.returncode == 1
    assert "TimeoutError: the promise was not settled within 0.01 seconds" in finished.stderr
