"""Reads the names in a zip archive as Info-ZIP's ``unzip`` does, alike on every Python."""

from __future__ import annotations

import contextlib
import struct
import zipfile
import zlib

_UTF8 = 0x800
#: The systems whose programs write names in the encoding of MS-DOS, as ``unzip`` numbers them: FAT, HPFS and NTFS.
_DOS_SYSTEMS = (0, 6, 11)
#: The extra field with a name in UTF-8 (APPNOTE.TXT, 4.6.9).
_UNICODE_PATH = 0x7075


def read_name(entry: zipfile.ZipInfo) -> str:
    """Read the name of an entry; raises `UnicodeDecodeError` if an extra field's name is not UTF-8."""
    # `orig_filename` is the name in the archive: zipfile truncates `filename` at a NUL, and newer Pythons take it from
    # an extra field.
    if entry.flag_bits & _UTF8:
        return entry.orig_filename
    name = entry.orig_filename.encode("cp437")
    unicode_path = _unicode_path(entry.extra, name)
    if unicode_path is not None:
        return (unicode_path or name).decode()
    if entry.create_system not in _DOS_SYSTEMS:
        # On Unix, zip without a locale of the system's writes the bytes of the name, and does not set the flag.
        with contextlib.suppress(UnicodeDecodeError):
            return name.decode()
    return entry.orig_filename


def _unicode_path(extra: bytes, name: bytes) -> bytes | None:
    """The name in an extra field that belongs to this name; an empty one says that the name itself is in UTF-8."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _UNICODE_PATH and len(field) >= 5:
            version, checksum = struct.unpack_from("<BI", field)
            if version <= 1 and checksum == zlib.crc32(name):
                return field[5:]
    return None
