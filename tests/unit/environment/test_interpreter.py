"""An interpreter is asked what it is, but not waited for without end."""

import shlex
import threading
from pathlib import Path

import pytest

from pacifica_notifications_consumer import VenvBuilder
from pacifica_notifications_consumer.errors import Cancelled, ConfigurationError
from tests.support.machine.waiting import DEADLINE, wait_until


@pytest.fixture
def silent(tmp_path: Path) -> Path:
    """A program that is not an interpreter, and does not end."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\necho $$ > {shlex.quote(str(tmp_path / 'started'))}\nexec sleep 1000\n")
    path.chmod(0o700)
    return path


def test_check_of_a_silent_one_is_cancelled(silent: Path) -> None:
    """The signal that stops the command ends the check of an interpreter, too."""
    cancel = threading.Event()
    errors: list[BaseException] = []

    def build() -> None:
        try:
            VenvBuilder(python=silent, cancel=cancel).__enter__()
        except Cancelled as error:
            errors.append(error)

    thread = threading.Thread(target=build)
    thread.start()
    wait_until((silent.parent / "started").exists, "the program is started")
    cancel.set()
    thread.join(DEADLINE)
    assert [str(error) for error in errors] == ["stopped while python was running"]


def test_program_that_is_not_an_interpreter() -> None:
    """Another program is refused with the name of the setting."""
    with pytest.raises(ConfigurationError, match=r"/bin/true is not a usable Python: .*; correct `python`"):
        VenvBuilder(python="/bin/true").__enter__()


def test_interpreter_that_is_too_old(tmp_path: Path) -> None:
    """An older Python is refused with its version, before anything is built."""
    python = tmp_path / "python3.9"
    python.write_text("#!/bin/sh\necho '[[3, 9], \"3.9.18\", [], []]'\n")
    python.chmod(0o700)
    with pytest.raises(ConfigurationError, match=r"python3.9 is Python 3.9.18; set `python` to one of version 3.11"):
        VenvBuilder(python=python).__enter__()
