"""Colours and progress are for terminals only; results and remarks go to their streams as they are."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pty
import subprocess
import sys

import pytest

from pacifica_notifications_runner.process import terminal
from pacifica_notifications_runner.process.logs import _TextFormatter

PROGRAM = """
from pacifica_notifications_consumer.system.terminal import show_progress
from pacifica_notifications_runner.process import terminal
show_progress("half done")
terminal.say(terminal.coloured("dead", terminal.RED))
terminal.note("a remark")
"""


def run(stdout: int, stderr: int, **environ: str) -> None:
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    command = [sys.executable, "-c", PROGRAM]
    subprocess.run(command, stdout=stdout, stderr=stderr, env=plain | {"TERM": "xterm"} | environ, check=True)


def test_piped_output_is_plain() -> None:
    """Without a terminal there are neither colours nor progress."""
    command = [sys.executable, "-c", PROGRAM]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == ("dead\n", "a remark\n")


@pytest.mark.parametrize(
    ("environ", "shown"),
    [({}, b"\x1b[31mdead\x1b[0m"), ({"NO_COLOR": "1"}, b"dead"), ({"TERM": "dumb"}, b"dead")],
    ids=["colour", "NO_COLOR", "dumb"],
)
def test_a_terminal_shows_colours_and_progress(environ: dict[str, str], shown: bytes) -> None:
    """At a terminal progress is shown, and the colour, unless the user has turned colours off."""
    leader, follower = pty.openpty()
    got = b""
    with os.fdopen(leader, "rb", buffering=0) as terminal:
        try:
            run(follower, follower, **environ)
        finally:
            os.close(follower)
        # EIO on Linux: the other side has been closed.
        with contextlib.suppress(OSError):
            while piece := terminal.read(1 << 12):
                got += piece
    assert got == b"\r\x1b[Khalf done" + shown + b"\r\na remark\r\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_characters_that_the_output_cannot_show(encoding: str) -> None:
    """They are escaped, in JSON as JSON has it, and never raise an error."""
    program = """
from pacifica_notifications_runner.process import terminal
terminal.escape_unprintable()
terminal.say_json("größe \\u2026 x\\udcff")
terminal.say("größe \\u2026 x\\udcff")
"""
    command = [sys.executable, "-c", program]
    environ = {**os.environ, "PYTHONIOENCODING": encoding}
    told = subprocess.run(command, capture_output=True, env=environ, check=True)
    as_json, text = told.stdout.decode(encoding).splitlines()
    assert (json.loads(as_json), told.stderr) == ("größe \u2026 x\udcff", b"")
    shown = "größe \u2026 x\udcff".encode(encoding, "backslashreplace").decode(encoding)
    assert text == shown


@pytest.mark.parametrize("program", ["cli", pytest.param("start", marks=pytest.mark.whole)])
def test_commands_escape_unprintable_characters(program: str) -> None:
    """Both commands do so from their start."""
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    check = f"""
import contextlib, sys
from pacifica_notifications_runner.{program} import main
with contextlib.suppress(SystemExit):
    main(["--version"])
print(sys.stdout.errors)
"""
    told = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, env=environ, check=True)
    assert told.stdout.splitlines()[-1] == "backslashreplace"


#: What others may have written, with an escape sequence, a line of its own, and marks of the direction.
FOREIGN = "a \x1b[2J\x9b\x07 b\r2026 ERROR\nc \u202e\td"


def test_foreign_text_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Of what is printed, only the colours of the commands themselves are obeyed."""
    terminal.say(f"\x1b[31m{FOREIGN}\x1b[0m")
    terminal.note(FOREIGN)
    safe = "a \\x1b[2J\\x9b\\x07 b\\r2026 ERROR\nc \\u202e\td"
    assert capsys.readouterr() == (f"\x1b[31m{safe}\x1b[0m\n", f"{safe}\n")


def test_foreign_text_is_no_line_of_the_log() -> None:
    """In a log, what follows a line break of a message is indented, and nothing commands a terminal."""
    record = logging.LogRecord("name", logging.WARNING, "", 1, "%s", (FOREIGN,), None)
    text = _TextFormatter("%(levelname)s %(message)s").format(record)
    assert text == "WARNING a \\x1b[2J\\x9b\\x07 b\\r2026 ERROR\n    c \\u202e\td"
