"""Whether a stream is a terminal, and the line of a terminal that shows progress."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import IO


def is_terminal(stream: IO[str] | None) -> bool:
    """Whether a stream is open and is a terminal."""
    return stream is not None and not stream.closed and stream.isatty()


def show_progress(text: str) -> None:
    """Show a text in the last line of a terminal, until the next text replaces it; writes nothing elsewhere."""
    if is_terminal(sys.stderr):
        columns = 80
        with contextlib.suppress(OSError, ValueError):
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or columns
        sys.stderr.write(f"\r\x1b[K{text[: columns - 1]}")
        sys.stderr.flush()
