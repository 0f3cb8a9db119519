"""A tar read as a stream, with its bodies moved past in large pieces and without a copy.

The headers are read by the standard `tarfile`; the time is in the bodies, which it would copy several times.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from typing import Self

from ..errors import BrokenOff, DownloadError
from .hashing import buffers


class _Member(tarfile.TarInfo):
    """A header that is read in a third of the time if it is that of a regular file without anything special."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read the block of a header."""
        if len(buf) != tarfile.BLOCKSIZE:
            return super().frombuf(buf, encoding, errors)
        name = buf[:100].rstrip(b"\0")
        # POSIX ustar: type, magic, prefix, and a size that is written in octal digits.
        plain = buf[156:157] == b"0" and buf[257:263] == b"ustar\0" and not buf[345] and name.isascii()
        if not plain or b"\0" in name or not (size := buf[124:135]).isdigit() or not (mtime := buf[136:147]).isdigit():
            return super().frombuf(buf, encoding, errors)
        # The checksum counts itself as blanks.
        if buf[148:154] != b"%06o" % (sum(buf) - sum(buf[148:156]) + 8 * ord(" ")):
            return super().frombuf(buf, encoding, errors)
        member = cls(name.decode("ascii"))
        member.size, member.mtime = int(size, 8), int(mtime, 8)
        return member


#: Bytes that a header may have: a path of Linux has 4096 at most.
_LONGEST_HEADER = 1 << 20


class TarStream:
    """The members of a tar, one after the other.

    Args:
        readinto: Reads what comes next into a buffer, and returns how many bytes that were, 0 at the end.
        max_header: Bytes that one extension of a header may have, such as a long name.
    """

    def __init__(self, readinto: Callable[[memoryview], int], max_header: int = _LONGEST_HEADER) -> None:
        self._readinto = readinto
        self._max_header = max_header
        self._buffers = buffers()
        self._buffer = next(self._buffers)
        #: What of the buffer has not been taken yet, and where it stands in the tar.
        self._start = self._end = 0
        self._base = 0

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Yield the header of each member; its body is to be read before the next one is asked for.

        Raises:
            BrokenOff: The tar has no proper end.
        """
        try:
            tar = tarfile.TarFile.open(fileobj=self, mode="r:", tarinfo=_Member)  # type: ignore[call-overload]
            while (member := tar.next()) is not None:
                # It would keep them all.
                tar.members.clear()
                yield member
        except tarfile.TarError as error:
            raise BrokenOff(f"it is no whole tar: {error}") from error
        if self.tell() != tar.offset + tarfile.BLOCKSIZE:
            # What stopped it is not the block of zeros with which a tar ends.
            raise BrokenOff("the tar ended early")

    def body(self, size: int) -> Iterator[memoryview]:
        """Yield the body of the current member in pieces, each of which is valid until three more have come.

        Raises:
            BrokenOff: The tar ends before it.
        """
        for piece in self._pieces(size):
            size -= len(piece)
            yield piece
        if size:
            raise BrokenOff("the tar ended early")

    def tell(self) -> int:
        """The place in the tar; for `tarfile`."""
        return self._base + self._start

    def seek(self, place: int) -> None:
        """Go forward to a place; for `tarfile`."""
        for _ in self._pieces(place - self.tell()):
            pass

    def read(self, size: int) -> bytes:
        """Read a piece of a header; for `tarfile`."""
        if size > self._max_header:
            raise DownloadError(
                f"a header of the tar has {size} bytes, the limit is {self._max_header}",
                "look into cartd's archive for a file with such a long name",
            )
        return b"".join(map(bytes, self._pieces(size)))

    def _pieces(self, size: int) -> Iterator[memoryview]:
        while size > 0:
            if self._start == self._end:
                self._base += self._end
                self._buffer = next(self._buffers)
                self._start, self._end = 0, self._readinto(self._buffer)
                if not self._end:
                    return
            start = self._start
            self._start = min(self._end, start + size)
            size -= self._start - start
            yield self._buffer[start : self._start]
