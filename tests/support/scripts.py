"""Running many small scripts, each in a process of its own, for the price of one start of Python."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.machine.waiting import DEADLINE

# The loop ends in each child, which then runs its script as the main program and ends as any program does.
# Without `freeze`, Python would search all that the prelude has loaded for garbage at the end of each script.
_SERVE = """
import gc, json, os, sys
gc.freeze()
for _line in sys.stdin:
    _pipes = [os.pipe(), os.pipe()]
    _pid = os.fork()
    if _pid == 0:
        for _number, (_, _end) in enumerate(_pipes, 1):
            os.dup2(_end, _number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for _ends in _pipes:
            os.close(_ends[0]), os.close(_ends[1])
        break
    for _, _end in _pipes:
        os.close(_end)
    # One after the other: the scripts write less than a pipe holds.
    _texts = []
    for _end, _ in _pipes:
        with open(_end, errors="replace") as _file:
            _texts.append(_file.read())
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(_pid, 0)[1]), *_texts]), flush=True)
else:
    sys.exit()
exec(compile(json.loads(_line), "<script>", "exec"))
"""


class Interpreter:
    """A Python that has run a prelude once, and runs each script in a child forked from there."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script after the prelude, and wait until nothing holds its output open any more."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(script) + "\n")
        self._process.stdin.flush()
        overdue = threading.Timer(DEADLINE, self._process.kill)
        overdue.start()
        answer = self._process.stdout.readline()
        overdue.cancel()
        assert answer, f"no answer after {DEADLINE:g} s: {script}"
        status, output, errors = json.loads(answer)
        return subprocess.CompletedProcess(script, status, output, errors)


@contextmanager
def interpreter(prelude: str) -> Iterator[Interpreter]:
    """Start a Python in which warnings are errors, and which runs a prelude."""
    command = [sys.executable, "-W", "error", "-c", prelude + _SERVE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Interpreter(process)
        assert process.stdin
        process.stdin.close()
        process.wait(DEADLINE)
