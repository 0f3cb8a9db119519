"""The commands on systems other than Linux; `OTHER_SYSTEM` takes away what these do not have."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.endtoend.conftest import START, TOOL, Operator, event, pack
from tests.support.paths import OTHER_SYSTEM

ELSEWHERE = {"PYTHONPATH": str(OTHER_SYSTEM)}
SEEN = """
import json, os, sys
print(json.dumps([sys.platform, os.path.exists("/proc"), hasattr(os, "pidfd_open")]))
"""


@pytest.mark.parametrize(
    "command",
    [
        [START, "consumer.zip"],
        [sys.executable, "-m", "pacifica_notifications_runner.start", "consumer.zip", "--port", "wrong"],
        [TOOL, "worker", "consumer.zip"],
        [TOOL, "demo"],
    ],
    ids=["start", "as a module", "worker", "demo"],
)
def test_what_needs_linux_says_so_at_once(operator: Operator, command: list[str]) -> None:
    """A command that deploys says in one sentence that it needs Linux and what works here, before anything else."""
    refused = operator.run(*command, variables=ELSEWHERE)
    program = TOOL if command[0] == TOOL else START
    assert refused.status == 78
    assert refused.error(program) == (
        "this command needs Linux, and this system is freebsd14; run it on Linux, such as in a container; "
        "init, check, pack, run and sandbox work here, too"
    )
    assert operator.leftovers() == []


@pytest.mark.parametrize("flag", ["--help", "--version"])
@pytest.mark.parametrize("command", [[START], [TOOL], [TOOL, "worker"]], ids=" ".join)
def test_help_is_shown_everywhere(operator: Operator, command: list[str], flag: str) -> None:
    """Help and version need no Linux."""
    if flag == "--help" or len(command) == 1:
        shown = operator.run(*command, flag, variables=ELSEWHERE)
        assert (shown.status, shown.stderr) == (0, "")
        assert "pacifica-notifications-consumer" in shown.stdout


def test_run_works_elsewhere(operator: Operator, quick_python: Path) -> None:
    """A job runs, and what is missing is said once: processes that leave its process group are not found."""
    archive = pack(operator.home / "c.zip", {"__main__.py": SEEN})
    (operator.home / "n.json").write_bytes(event(1))
    ran = operator.run(TOOL, "run", archive, "n.json", "--python", quick_python, variables=ELSEWHERE)
    assert ran.status == 0, ran.stderr
    assert json.loads(ran.stdout) == ["freebsd14", False, False]
    assert ran.stderr.count("cannot be found here") == 1
    assert ran.stderr.count("WARNING") == 1


def test_run_as_needs_linux(operator: Operator, quick_python: Path) -> None:
    """A user whose rights cannot be taken is refused before anything is run."""
    archive = pack(operator.home / "c.zip", {"__main__.py": SEEN})
    (operator.home / "n.json").write_bytes(event(1))
    refused = operator.run(TOOL, "run", archive, "n.json", "--run-as", "nobody", variables=ELSEWHERE)
    assert (refused.status, "only Linux can run programs as another user" in refused.error(TOOL)) == (78, True)
