"""OutputCopy: copies the output of an attempt on another machine into the output file of its job."""

from __future__ import annotations

import contextlib

from ...jobs.directory import JobDirectory
from ...jobs.files import open_file, read_note
from ..output import Output
from .records import UNKNOWN

#: The name of the file with the attempt's name and the number of bytes of its output that have been copied.
_POSITION = "output.position"


class OutputCopy:
    """Appends the output of an attempt, as the worker passes it on, to the output of the job's earlier attempts.

    A line marks bytes that are missing, because the entry-point printed faster than the worker passed the output on.
    """

    def __init__(self, directory: JobDirectory, task: str, limit: int | None) -> None:
        #: The directory, and its machine, that has the whole output.
        self.whole = ""
        self._task = task
        self._output = Output(directory.output, limit)
        self._noted = directory.path / _POSITION
        self._position = 0
        with contextlib.suppress(ValueError):
            noted, position = read_note(self._noted).split()
            self._position = int(position) if noted == task else 0

    def add(self, start: int, piece: bytes) -> None:
        """Append bytes of the output that start at an offset, except those that have been copied already."""
        left_out = "some" if start == UNKNOWN else str(max(0, start - self._position))
        start = self._position if start == UNKNOWN else start
        end = start + len(piece)
        if end <= self._position:
            return
        note = f"\n[… {left_out} bytes are left out here; see {self.whole} …]\n" if left_out != "0" else ""
        with self._output.open() as file:
            file.write(note.encode() + piece[max(0, self._position - start) :])
        self._position = end
        with open_file(self._noted.parent, _POSITION, "wb") as file:
            file.write(f"{self._task} {end}".encode())
        self._output.trim()

    def finish(self) -> None:
        """Trim the output to the limit, and forget the attempt."""
        self._output.finish()
        with contextlib.suppress(OSError):
            self._noted.unlink(missing_ok=True)
