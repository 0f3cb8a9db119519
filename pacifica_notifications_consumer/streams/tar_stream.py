"""Reads a tar as a stream, with the members' contents in large pieces and without copying.

The standard `tarfile` parses the headers. It would copy the contents, which take most of the time, several times.
"""

from __future__ import annotations

import tarfile
import time
from collections.abc import Callable, Iterator
from typing import Self

from ..errors import BrokenOff, DownloadError, PacificaError, shown
from .hashing import buffers


class _Member(tarfile.TarInfo):
    """A header; that of a regular file without special attributes is parsed in a third of the usual time."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Parse the block of a header."""
        if len(buf) != tarfile.BLOCKSIZE:
            return super().frombuf(buf, encoding, errors)
        name = buf[:100].rstrip(b"\0")
        # The header format of POSIX ustar: type, magic, empty prefix, and size and time in octal digits.
        plain = buf[156:157] == b"0" and buf[257:263] == b"ustar\0" and not buf[345] and name.isascii()
        if not plain or b"\0" in name or not (size := buf[124:135]).isdigit() or not (mtime := buf[136:147]).isdigit():
            return super().frombuf(buf, encoding, errors)
        # The sum of all bytes, with the checksum's own bytes counted as spaces.
        if buf[148:154] != b"%06o" % (sum(buf) - sum(buf[148:156]) + 8 * ord(" ")):
            return super().frombuf(buf, encoding, errors)
        member = cls(name.decode("ascii"))
        member.size, member.mtime = int(size, 8), int(mtime, 8)
        return member


#: Bytes that a header may have: a path of Linux has 4096 at most. `tarfile` takes the square of them for digits.
_LONGEST_HEADER = 16 << 10
#: Seconds that all headers before a body may take.
_LONGEST_HEADERS = 600.0


class TarStream:
    """The members of a tar, in order.

    ``readinto`` reads the next bytes into a buffer and returns their number, 0 at the end. ``max_header`` is the
    maximum size in bytes of a header with its extensions, such as a long name.
    """

    def __init__(self, readinto: Callable[[memoryview], int], max_header: int = _LONGEST_HEADER) -> None:
        self._readinto = readinto
        self._max_header = max_header
        self._body_by = time.monotonic() + _LONGEST_HEADERS
        self._header = 0  # bytes of the header so far: some versions of `tarfile` read it in many pieces
        self._buffers = buffers()
        self._buffer = next(self._buffers)
        # The unread part of the buffer, and the offset of the buffer in the tar.
        self._start = self._end = self._base = 0

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Yield the header of each member; its body is skipped unless it is read before the next header.

        Raises `BrokenOff` if the tar is damaged or ends early.
        """
        try:
            tar = tarfile.TarFile.open(fileobj=self, mode="r:", tarinfo=_Member)  # type: ignore[call-overload]
            while (member := tar.next()) is not None:
                # Keeps the memory small; `tarfile` would collect all members, and all that is said of all of them.
                tar.members.clear()
                tar.pax_headers.clear()
                self._header = 0
                yield member
        except PacificaError:
            raise
        except Exception as error:  # `tarfile` does not turn all into its own: endless extensions recurse, for example
            raise BrokenOff(f"the tar is damaged: {shown(str(error))}") from error
        if self.tell() != tar.offset + tarfile.BLOCKSIZE:
            # `tarfile` has stopped before the block of zeros with which a tar ends.
            raise BrokenOff("the tar ended early")

    def body(self, size: int) -> Iterator[memoryview]:
        """Yield the current member's body of so many bytes in pieces, each valid until three more have been yielded."""
        for piece in self._pieces(size):
            size -= len(piece)
            yield piece
        self._body_by = time.monotonic() + _LONGEST_HEADERS
        if size:
            raise BrokenOff("the tar ended early")

    def tell(self) -> int:
        """The offset in the tar; called by `tarfile`."""
        return self._base + self._start

    def seek(self, offset: int) -> None:
        """Skip to an offset; called by `tarfile`."""
        for _ in self._pieces(offset - self.tell()):
            pass

    def read(self, size: int) -> bytes:
        """Read a part of a header; called by `tarfile`."""
        self._header += size
        if self._header > self._max_header:
            raise DownloadError(
                f"a header of the tar has more than {self._max_header} bytes",
                "look into cartd's archive for a file with such a long name",
            )
        return b"".join(map(bytes, self._pieces(size)))

    def _pieces(self, size: int) -> Iterator[memoryview]:
        while size > 0:
            if self._start == self._end:
                if self._header and time.monotonic() > self._body_by:
                    raise BrokenOff(f"the tar went on for {_LONGEST_HEADERS:g} seconds without a file", "try again")
                self._base += self._end
                self._buffer = next(self._buffers)
                self._start, self._end = 0, self._readinto(self._buffer)
                if not self._end:
                    return
            start = self._start
            self._start = min(self._end, start + size)
            size -= self._start - start
            yield self._buffer[start : self._start]
