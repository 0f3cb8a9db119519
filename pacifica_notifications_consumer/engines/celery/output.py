"""The mirror: what an attempt prints on another machine, in the output file of its job here."""

from __future__ import annotations

import contextlib

from ...jobs.directory import JobDirectory
from ..output import Output
from .records import UNKNOWN

#: The name of the file that says how far the output of which attempt has been copied.
_POSITION = "output.position"


class OutputCopy:
    """Copies what comes of an attempt's output to the job's, after that of earlier attempts.

    What came too fast to be passed on is left out, and a line says so.

    Args:
        directory: The job's directory here.
        task: The attempt.
        limit: Bytes that are kept; None for all.

    Attributes:
        whole: Where the whole output is.
    """

    def __init__(self, directory: JobDirectory, task: str, limit: int | None) -> None:
        self.whole = ""
        self._task = task
        self._output = Output(directory.output, limit)
        self._noted = directory.path / _POSITION
        self._position = 0
        with contextlib.suppress(OSError, ValueError):
            noted, position = self._noted.read_text().split()
            self._position = int(position) if noted == task else 0

    def add(self, start: int, piece: bytes) -> None:
        """Take the bytes of the output from some place on; those that were there already are not taken again."""
        left_out = "some" if start == UNKNOWN else str(max(0, start - self._position))
        start = self._position if start == UNKNOWN else start
        end = start + len(piece)
        if end <= self._position:
            return
        note = f"\n[… {left_out} bytes are left out here; see {self.whole} …]\n" if left_out != "0" else ""
        with self._output.open() as file:
            file.write(note.encode() + piece[max(0, self._position - start) :])
        self._position = end
        self._noted.write_text(f"{self._task} {end}")
        self._output.trim()

    def finish(self) -> None:
        """Cut out what is not kept, and forget the attempt."""
        self._output.finish()
        with contextlib.suppress(OSError):
            self._noted.unlink(missing_ok=True)
