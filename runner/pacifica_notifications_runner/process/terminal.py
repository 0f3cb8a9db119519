"""Output of the commands: results to standard output, remarks to standard error, in colours only at a terminal."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from typing import IO, Any

from pacifica_notifications_consumer.errors import escaped
from pacifica_notifications_consumer.system.terminal import is_terminal

GREEN, RED, YELLOW, CYAN, FAINT, BOLD_RED = "32", "31", "33", "36", "2", "1;31"
_COLOUR = re.compile(f"(\033\\[(?:0|{'|'.join((GREEN, RED, YELLOW, CYAN, FAINT, BOLD_RED))})m)")


def say(text: str = "") -> None:
    """Print a line of a command's result."""
    print(_shown(text), flush=True)  # noqa: T201  (the command's output)


def escape_unprintable() -> None:
    """Escape what the encoding of standard output lacks, as standard error does, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say_json(document: Any) -> None:
    """Print a document as indented JSON, in ASCII, which any output can show."""
    say(json.dumps(document, indent=2))


def note(text: str) -> None:
    """Print a remark to standard error."""
    print(_shown(text), file=sys.stderr)  # noqa: T201  (a command's own message)


def _shown(text: str) -> str:
    """Escape what a terminal may obey, but the colours of `coloured`: much of what is printed comes from others."""
    return "".join(part if _COLOUR.fullmatch(part) else escaped(part, "\n\t") for part in _COLOUR.split(text))


def write_bytes(content: bytes) -> None:
    """Write the bytes of an entry-point's output to standard output, if it is open."""
    if sys.stdout is not None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


def coloured(text: str, colour: str, stream: IO[str] | None = None) -> str:
    """A text in a colour, if the stream (by default standard output) is a terminal that shows colours."""
    # See https://no-color.org.
    off = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if off or not is_terminal(stream or sys.stdout) else f"\033[{colour}m{text}\033[0m"
