"""The output of an entry-point, in a file of limited size."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path
from typing import IO, Any

from ..jobs.files import open_file
from ..system.account import CURRENT_USER, Account

_KEEP_SIZE_AND_PUNCH_HOLE = 0x01 | 0x02
_BLOCK = 4096
_TAIL_BYTES, _TAIL_LINES = 4000, 20


class Output:
    """The file to which the processes of a job write, all attempts one after the other.

    The processes write to the file directly: no output is lost if the runner dies, and the runner never waits for a
    pipe that a grandchild holds open. While they run, the middle of a large file is released to the file system (as a
    hole); at the end it is cut out: of `limit` bytes, half are from the beginning and half from the end.
    """

    def __init__(self, path: Path, limit: int | None, run_as: Account = CURRENT_USER) -> None:
        self._path = path
        self._run_as = run_as
        self._half = None if limit is None else limit // 2
        self._punched = 0

    def open(self) -> IO[Any]:
        """Open the file for a process to write to."""
        file = self._open("ab")
        # A process that prints to /dev/stderr opens the file once more.
        os.fchown(file.fileno(), self._run_as.uid, self._run_as.gid)
        return file

    def _open(self, mode: str) -> IO[Any]:
        return open_file(self._path.parent, self._path.name, mode)

    def trim(self) -> None:
        """Release the blocks that will not be kept, while the processes go on writing."""
        if self._half is None:
            return
        with contextlib.suppress(OSError):
            size = self._path.lstat().st_size
            start = max(self._punched, -(-self._half // _BLOCK) * _BLOCK)
            end = (size - self._half) // _BLOCK * _BLOCK
            if end - start >= self._half // 4 + _BLOCK:
                with self._open("r+b") as file:
                    if _punch_hole(file.fileno(), start, end - start):
                        self._punched = end

    def finish(self) -> str:
        """Cut out the middle when no process writes any more; returns the last lines."""
        with contextlib.suppress(OSError):
            self._cut()
            with self._open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = file.read(_TAIL_BYTES).decode("utf-8", "replace")
            return "\n".join(text.replace("\0", "").splitlines()[-_TAIL_LINES:])
        return ""

    def _cut(self) -> None:
        size = self._path.lstat().st_size
        if self._half is None or size <= 2 * self._half + _BLOCK:
            return
        left_out = size - 2 * self._half
        with self._open("r+b") as file:
            file.seek(size - self._half)
            end = file.read(self._half)
            file.seek(self._half)
            file.write(f"\n[… {left_out} bytes are left out here …]\n".encode() + end)
            file.truncate()


def _punch_hole(handle: int, start: int, length: int) -> bool:
    """Release the blocks of a part of a file without changing the file's size; returns whether that succeeded."""
    if sys.platform != "linux":
        return False
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return bool(fallocate(handle, _KEEP_SIZE_AND_PUNCH_HOLE, start, length) == 0)
