"""A tar read as a stream, with its bodies moved past in large pieces and without a copy.

The headers are read by the standard `tarfile`; the time is in the bodies, which it would copy several times.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator

from .errors import BrokenOff, DownloadError

_BUFFER = 1 << 20
#: Bytes that one header with its extensions may have: what is larger is no name.
_LONGEST_HEADER = 1 << 20


class TarStream:
    """The members of a tar, one after the other.

    Args:
        readinto: Reads what comes next into a buffer, and returns how many bytes that were, 0 at the end.
    """

    def __init__(self, readinto: Callable[[memoryview], int]) -> None:
        self._readinto = readinto
        self._buffer = memoryview(bytearray(_BUFFER))
        #: What of the buffer has not been taken yet, and where it stands in the tar.
        self._start = self._end = 0
        self._base = 0

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Yield the header of each member; its body is to be read before the next one is asked for.

        Raises:
            BrokenOff: The tar has no proper end.
        """
        try:
            tar = tarfile.TarFile.open(fileobj=self, mode="r:")  # type: ignore[call-overload]
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
        """Yield the body of the current member in pieces, each of which is valid until the next.

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
        if size > _LONGEST_HEADER:
            raise DownloadError(f"a header of the tar has {size} bytes", "look into cartd's archive")
        return b"".join(map(bytes, self._pieces(size)))

    def _pieces(self, size: int) -> Iterator[memoryview]:
        while size > 0:
            if self._start == self._end:
                self._base += self._end
                # Nothing is left of the buffer, so nobody else has a piece of it.
                self._start, self._end = 0, self._readinto(self._buffer)
                if not self._end:
                    return
            start = self._start
            self._start = min(self._end, start + size)
            size -= self._start - start
            yield self._buffer[start : self._start]
