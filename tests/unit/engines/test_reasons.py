"""The error of the library that ends an entry-point is the reason of its job."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.machine.waiting import DEADLINE
from tests.support.runner_tools import WAYS, accept, make_runner

PRELUDE = """
import asyncio, os, subprocess, sys
from pacifica_notifications_consumer import download, upload
from pacifica_notifications_consumer.errors import UploadError
DST = sys.argv[2]
def fail(*_): raise UploadError("it is wrong", "correct it")
def call(wrong): return upload(DST, {wrong: 1})
def run(code): subprocess.run([sys.executable, "-c", code])
"""
SENTENCE = "it is wrong; correct it"
REASONS = {
    "fail()": f"exit status 1: {SENTENCE}",
    "call('Transactions.projekt').get()": "exit status 1: 'Transactions.projekt' is not an attribute of a transaction; "
    "use Transactions.submitter, Transactions.project (Transactions.proposal in older versions of Pacifica) and "
    "Transactions.instrument; everything else belongs in the key-values",
    "call('Transactions._id').then(print)": "exit status 120: the attributes of the new transaction contain "
    "Transactions._id, which the server assigns; leave it out, or record the original transaction in a key-value",
    "call('x').catch(fail)": f"exit status 120: {SENTENCE}",
    "async def main(): await call('x').catch(fail)\nasyncio.run(main())": f"exit status 1: {SENTENCE}",
    "class Odd(UploadError): __str__ = fail\ndef odd(_): raise Odd('')\ncall('x').catch(odd)": "exit status 120",
    "def f(_): yield\ncall('x').catch(f)": "exit status 120: the callback f (HERE, line 9) contains yield, so that a "
    "call runs nothing of it",
    "call('x').catch(lambda _: map(fail, [1]))": "exit status 120: nothing ran the map that the callback <lambda> "
    "(HERE, line 9) returned; await it, or iterate over it",
    "from promise import Promise; Promise().get()": "exit status 1: get() would wait for ever: nothing is running that "
    "could settle the promise",
    "call('x').catch(fail); 1 / 0": "exit status 1",
    "try: fail()\nexcept UploadError: sys.exit(3)": "exit status 3",
    "call('x').catch(lambda error: sys.exit(3))": "exit status 3",
    "if os.fork() == 0: fail()\nos.wait(); sys.exit(3)": "exit status 3",
    "run('from pacifica_notifications_consumer import upload; upload(1, {}).get()'); 1 / 0": "exit status 1",
    "raise UploadError('a\\n b \\udcff\\x1b' + 600 * 'c')": rf"exit status 1: a b ?\x1b{491 * 'c'}…",
    "raise UploadError('no://alice:x@y/z@ ' + os.environ['PACIFICA_PASSWORD'])": "exit status 1: no://***@y/z@ ***",
}


@pytest.fixture(scope="module", params=WAYS)
def reason(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Run a script as a job; returns the job's reason."""
    directory, numbers = tmp_path_factory.mktemp("reasons"), itertools.count(1)
    with make_runner(directory, "", way=request.param, attempts=1) as runner:

        def run(script: str) -> str:
            (directory / "consumer" / "__main__.py").write_text(PRELUDE + script)
            found = runner.wait(accept(runner, next(numbers)), DEADLINE).reason
            return found.replace(str(directory / "consumer" / "__main__.py"), "HERE")

        yield run


@pytest.mark.parametrize("script", REASONS)
def test_reason(reason: Callable[[str], str], script: str) -> None:
    """A script that the library's error ends has its sentence as the reason; without line breaks and secrets."""
    assert reason(script) == REASONS[script]


def test_second_attempt(tmp_path: Path) -> None:
    """The error of an attempt is not the reason of the next."""
    script = "again = os.path.exists(DST + '/again'); open(DST + '/again', 'w'); 1 / 0 if again else fail()"
    with make_runner(tmp_path, PRELUDE + script, attempts=2) as runner:
        job = runner.wait(accept(runner), DEADLINE)
    assert (job.attempts, job.reason) == (2, "exit status 1")
