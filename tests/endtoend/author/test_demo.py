"""pacifica-notifications-consumer demo: the main job on one machine, shown to a newcomer."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pytest

from pacifica_notifications_consumer.testing.sandbox import Sandbox
from tests.endtoend.conftest import TOOL, Operator, jobs_in, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the start command needs Linux")


def test_it_shows_before_and_after(operator: Operator, tmp_path: Path) -> None:
    """It ends with 0, shows each file before and after, times each step, says where everything lies, stops all.

    A second time in the same directory it is refused at once, or works again; it does not fail in the end.
    """
    home = tmp_path / "demo"
    outcome = operator.run(TOOL, "demo", home)
    assert (outcome.status, outcome.stderr) == (0, "")
    for line in (
        "  readme.txt: 'Measured on a rainy tuesday.\\n' -> 'MEASURED ON A RAINY TUESDAY.\\n'",
        "  größe/ψ/naïve café.txt: 'straße, ὀδός, дорога\\n' -> 'STRASSE, ὈΔΌΣ, ДОРОГА\\n'",
        "  spectra/day 1/raw.bin: 102400 bytes -> left out",
        "  empty.txt: '' -> ''",
    ):
        assert line in outcome.stdout.splitlines()
    assert len(re.findall(r"^\[ *\d+\.\d\d s\] ", outcome.stdout, re.MULTILINE)) >= 5
    named = re.findall(rf"^  ({re.escape(str(home))}/\S+) ", outcome.stdout, re.MULTILINE)
    assert len(named) == 4
    assert [Path(each).exists() for each in named] == [True] * 4
    with Sandbox(home / "sandbox") as sandbox:
        assert sandbox.transactions() == [1, 2]
        assert sandbox.subscriptions() == []
        assert sandbox.read(2)["readme.txt"] == b"MEASURED ON A RAINY TUESDAY.\n"
    assert jobs_in(home / "state") == {"succeeded": 1}
    assert operator.leftovers() == []
    again = operator.run(TOOL, "demo", home)
    assert again.status == 0 or "is deployed" not in again.stdout, again.stderr
    assert operator.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_stops_it(operator: Operator, tmp_path: Path, number: signal.Signals) -> None:
    """Whoever loses patience gets no traceback, and neither a process nor a temporary directory is left."""
    home = tmp_path / "demo"
    command = operator.command(TOOL, "demo", home)
    log = home / "start.log"

    def creating() -> bool:
        assert command.process.poll() is None, command.stderr
        return log.exists() and "creating a virtual environment" in log.read_text()

    wait_until(creating, "step 2")
    outcome = command.stop(number)
    assert (outcome.status, "Traceback" in outcome.stderr) == (130, False)
    wait_until(lambda: operator.leftovers() == [], "nothing left")


def test_a_directory_that_cannot_be_made(operator: Operator, tmp_path: Path) -> None:
    """One clear sentence, no traceback."""
    (tmp_path / "file").touch()
    outcome = operator.run(TOOL, "demo", tmp_path / "file" / "demo")
    assert outcome.status != 0
    assert str(tmp_path / "file") in outcome.error(TOOL)
    assert operator.leftovers() == []
