"""Names in archives are read as unzip reads them, whichever program has written them."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zipfile
import zlib
from pathlib import Path

import pytest

from pacifica_notifications_consumer.archive.archive import open_archive
from pacifica_notifications_consumer.errors import ArchiveError

UNIX, DARWIN, DOS, HPFS, NTFS = 3, 19, 0, 6, 11
ZIP, UNZIP = shutil.which("zip"), shutil.which("unzip")
NAME = "größe.txt"
UTF8 = NAME.encode()


def archive(path: Path, name: bytes, *, system: int = UNIX, flags: int = 0, extra: bytes = b"") -> Path:
    """Write an archive with an entry-point and an entry of this name, byte for byte as other programs do."""
    files, directory = b"", b""
    for each, more in ((b"__main__.py", b""), (name, extra)):
        numbers = struct.pack("<HHHH3I2H", flags, 0, 0, 33, zlib.crc32(b"x"), 1, 1, len(each), len(more))
        place = struct.pack("<3H2I", 0, 0, 0, 0, len(files))
        directory += b"PK\1\2" + struct.pack("<BBH", 30, system, 10) + numbers + place + each + more
        files += b"PK\3\4" + struct.pack("<H", 10) + numbers + each + more + b"x"
    end = struct.pack("<4H2IH", 0, 0, 2, 2, len(directory), len(files), 0)
    path.write_bytes(files + directory + b"PK\5\6" + end)
    return path


def unicode_path(name: bytes, unicode_name: bytes, *, version: int = 1, checksum: int | None = None) -> bytes:
    """The extra field with the name in UTF-8."""
    field = struct.pack("<BI", version, zlib.crc32(name) if checksum is None else checksum) + unicode_name
    # An extra field of another kind comes first.
    return struct.pack("<HHI", 0x5455, 4, 0) + struct.pack("<HH", 0x7075, len(field)) + field


def names_in(path: Path) -> list[str]:
    with open_archive(path) as consumer:
        names = (path.relative_to(consumer.directory).as_posix() for path in consumer.directory.rglob("*"))
        return sorted(name for name in names if name != "__main__.py")


@pytest.mark.parametrize(
    ("name", "system", "flags", "extra", "expected"),
    [
        pytest.param(UTF8, UNIX, 0x800, b"", NAME, id="flag"),
        pytest.param(UTF8, UNIX, 0, b"", NAME, id="Unix"),
        pytest.param(UTF8, DARWIN, 0, b"", NAME, id="macOS"),
        pytest.param(b"gr\xf6\xdfe.txt", UNIX, 0, b"", "gr÷▀e.txt", id="Unix, not UTF-8"),
        pytest.param(NAME.encode("cp437"), DOS, 0, b"", NAME, id="DOS"),
        pytest.param(UTF8, DOS, 0, b"", "gr├╢├ƒe.txt", id="DOS, valid UTF-8"),
        pytest.param(UTF8, HPFS, 0, b"", "gr├╢├ƒe.txt", id="HPFS"),
        pytest.param(UTF8, NTFS, 0, b"", "gr├╢├ƒe.txt", id="NTFS"),
        pytest.param(b"gr#e.txt", DOS, 0, unicode_path(b"gr#e.txt", UTF8), NAME, id="field"),
        pytest.param(UTF8, DOS, 0, unicode_path(UTF8, b""), NAME, id="empty field"),
        pytest.param(b"a.txt", UNIX, 0, unicode_path(b"a.txt", UTF8, checksum=1), "a.txt", id="field of another name"),
        pytest.param(b"a.txt", UNIX, 0, unicode_path(b"a.txt", UTF8, version=2), "a.txt", id="field of the future"),
        pytest.param(UTF8, UNIX, 0x800, unicode_path(UTF8, b"other"), NAME, id="flag and field"),
    ],
)
def test_names(tmp_path: Path, name: bytes, system: int, flags: int, extra: bytes, expected: str) -> None:
    """The flag comes first, then the extra field, then UTF-8 if the archive is not of DOS, and then code page 437."""
    assert names_in(archive(tmp_path / "consumer.zip", name, system=system, flags=flags, extra=extra)) == [expected]


@pytest.mark.parametrize("name", ["../outside", "/outside", "a\0b"])
def test_unsafe_name_in_an_extra_field(tmp_path: Path, name: str) -> None:
    """The name that is used is the name that is checked."""
    path = archive(tmp_path / "consumer.zip", b"safe", extra=unicode_path(b"safe", name.encode()))
    with pytest.raises(ArchiveError, match="unsafe name"), open_archive(path):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["consumer.zip"]


def test_entry_point_in_an_extra_field(tmp_path: Path) -> None:
    """An extra field cannot give a file the name of another one."""
    path = archive(tmp_path / "consumer.zip", b"safe", extra=unicode_path(b"safe", b"__main__.py"))
    with pytest.raises(ArchiveError, match=r"contains '__main__\.py' twice"), open_archive(path):
        pass


@pytest.mark.parametrize(
    ("flags", "extra"), [(0x800, b""), (0, unicode_path(b"gr\xf6", b"gr\xf6"))], ids=["flag", "field"]
)
def test_names_that_are_not_utf8(tmp_path: Path, flags: int, extra: bytes) -> None:
    """A name that claims to be in UTF-8, and is not, is refused in a sentence."""
    path = archive(tmp_path / "consumer.zip", b"gr\xf6", flags=flags, extra=extra)
    # Newer Pythons read the field themselves.
    with pytest.raises(ArchiveError, match=r"which is not UTF-8; rename|invalid utf-8 bytes; "), open_archive(path):
        pass


@pytest.mark.skipif(ZIP is None, reason="needs zip")
def test_what_zip_makes(tmp_path: Path) -> None:
    """What Info-ZIP packs without a locale of the system's, with neither flag nor field, is read as it was."""
    directory = tmp_path / "consumer"
    (directory / "ünit").mkdir(parents=True)
    for name in ("__main__.py", NAME, "ünit/日本.py"):
        (directory / name).write_text("")
    path = tmp_path / "consumer.zip"
    environ = {"LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"}
    subprocess.run([ZIP or "", "-q", "-r", path, "."], cwd=directory, env=environ, check=True)
    with zipfile.ZipFile(path) as packed:
        assert all(entry.create_system == UNIX for entry in packed.infolist())
    assert names_in(path) == [NAME, "ünit", "ünit/日本.py"]


@pytest.mark.skipif(UNZIP is None, reason="needs unzip")
@pytest.mark.parametrize("system", [1, 2, UNIX, 10, 14, DARWIN])
@pytest.mark.parametrize(
    "extra",
    [b"", unicode_path(UTF8, "other größe".encode()), unicode_path(UTF8, b"")],
    ids=["no field", "field", "empty field"],
)
def test_same_as_unzip(tmp_path: Path, system: int, extra: bytes) -> None:
    """The program unzip extracts files of the same names."""
    path = archive(tmp_path / "consumer.zip", UTF8, system=system, extra=extra)
    environ = {"LC_ALL": "C.UTF-8"}
    subprocess.run([UNZIP or "", "-q", path, "-d", tmp_path / "unzipped"], env=environ, check=True)
    assert names_in(path) == [file.name for file in (tmp_path / "unzipped").iterdir() if file.name != "__main__.py"]
