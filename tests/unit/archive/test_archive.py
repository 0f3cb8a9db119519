"""Untrusted archives are opened safely: each refusal names the problem, and leaves no files behind."""

import codecs
import contextlib
import errno
import os
import socket
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from pacifica_notifications_consumer.archive.archive import ArchiveLimits, Consumer, open_archive
from pacifica_notifications_consumer.archive.packing import open_consumer
from pacifica_notifications_consumer.errors import ArchiveError, FilterError, PacificaError

Entries = dict[str | zipfile.ZipInfo, bytes | str]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary files go into a directory that the test can inspect."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Path]:
    """Make a zip archive."""

    def pack(entries: Entries, *, entry_point: bool = True) -> Path:
        path = tmp_path / "consumer.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in (({"__main__.py": ""} if entry_point else {}) | entries).items():
                archive.writestr(name, content)
        return path

    return pack


def refusal(path: Path, limits: ArchiveLimits | None = None) -> PacificaError:
    with pytest.raises((ArchiveError, FilterError)) as caught, open_archive(path, limits):
        pass
    assert list(Path(tempfile.gettempdir()).iterdir()) == []
    return caught.value


def special(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def test_opens_and_removes(pack: Callable[..., Path], temporary: Path) -> None:
    """A good archive is extracted with all its parts, readable by the user only, and deleted with the context."""
    entries = {"jsonpath2.txt": '\ufeff $["data"]\r\n\n', "requirements.txt": "x", "init.sh": "exit", "lib/a.py": "1"}
    with open_archive(pack(entries)) as consumer:
        assert consumer.filter is not None
        assert consumer.filter.jsonpath == '$["data"]'
        assert consumer.requirements == consumer.directory / "requirements.txt"
        assert consumer.init_script == consumer.directory / "init.sh"
        assert consumer.entry_point.read_bytes() == b""
        assert (consumer.directory / "lib" / "a.py").read_bytes() == b"1"
        modes = {path.stat().st_mode & 0o077 for path in consumer.directory.rglob("*")}
        assert modes | {consumer.directory.stat().st_mode & 0o077} == {0}
    assert list(temporary.iterdir()) == []


def test_only_an_entry_point(pack: Callable[..., Path]) -> None:
    """All files but the entry-point are optional; without jsonpath2.txt every notification matches."""
    with open_archive(pack({})) as consumer:
        assert (consumer.filter, consumer.requirements, consumer.init_script) == (None, None, None)
        assert consumer.preload == ()


def test_preloaded_modules(pack: Callable[..., Path]) -> None:
    """The modules in preload.txt may be on one line or on several; the error names an invalid one."""
    with open_archive(pack({"preload.txt": "\ufeffnumpy, scipy.signal # both\r\n\n# none\nmine\n"})) as consumer:
        assert consumer.preload == ("numpy", "scipy.signal", "mine")
    for text, words in (
        ("numpy>=1", "'numpy>=1' cannot be the name of a module"),
        (b"\xff", "it is not text in UTF-8"),
    ):
        error = refusal(pack({"preload.txt": text}))
        assert error.problem == f"preload.txt is not usable: {words}"


def test_right_to_execute_is_kept(pack: Callable[..., Path]) -> None:
    """An executable file in the archive is executable after extraction."""
    with open_archive(pack({special("tool", 0o100755): "#!/bin/sh\n"})) as consumer:
        assert (consumer.directory / "tool").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/x", "C:x", "C:\\x", "a\\b", "./x", "a//b", "x\0y", "..", "a/./b"]
)
def test_unsafe_names(pack: Callable[..., Path], name: str) -> None:
    """An entry whose path is outside of the directory on any system is refused."""
    info = zipfile.ZipInfo("placeholder")
    info.filename = info.orig_filename = name
    assert "unsafe name" in str(refusal(pack({info: b"x"})))


def test_damaged_archives(pack: Callable[..., Path]) -> None:
    """A damaged archive is opened or refused with an ArchiveError, and leaves no files behind."""
    whole = pack({"init.sh": "exit 0\n" * 50}).read_bytes()
    random = Random(1)
    for _ in range(250):
        damaged = bytearray(whole)
        for _ in range(random.randint(1, 4)):
            damaged[random.randrange(len(damaged))] = random.randrange(256)
        path = pack({})
        path.write_bytes(damaged)
        with contextlib.suppress(ArchiveError), open_archive(path):
            pass
    assert list(Path(tempfile.gettempdir()).iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "problem"),
    [(0o120777, "symbolic link"), (0o010644, "neither a file nor a folder"), (0o020644, "neither a file nor a folder")],
)
def test_special_files(pack: Callable[..., Path], mode: int, problem: str) -> None:
    """Links, pipes and devices are refused."""
    assert problem in str(refusal(pack({special("x", mode): "/etc/passwd"})))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicates(pack: Callable[..., Path]) -> None:
    """Two entries with the same name are refused, since programs differ in which one they extract."""
    assert "'x' twice" in str(refusal(pack({zipfile.ZipInfo("x"): "1", special("x", 0o100600): "2"})))


def test_file_and_folder_of_one_name(pack: Callable[..., Path]) -> None:
    """An archive in which a name is both a file and a folder is refused."""
    assert "'x'" in str(refusal(pack({"x": "1", "x/y": "2"})))
    assert "'x' twice" in str(refusal(pack({"x/": "", "x": "1"})))


def test_encrypted(pack: Callable[..., Path]) -> None:
    """An encrypted entry is refused; the error names it."""
    path = pack({"secret": "x"})
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02")
    (flags,) = struct.unpack_from("<H", data, place + 8)
    struct.pack_into("<H", data, place + 8, flags | 1)
    path.write_bytes(data)
    assert "encrypted entry 'secret'" in str(refusal(path))


def test_bomb_by_ratio(pack: Callable[..., Path]) -> None:
    """A file with an extreme compression ratio is refused before anything is extracted."""
    assert "would grow" in str(refusal(pack({"bomb": bytes(8 << 20)})))


@pytest.mark.parametrize(("extra", "refused"), [(0, False), (1, True)])
def test_limit_of_entries(pack: Callable[..., Path], extra: int, refused: bool) -> None:
    """An archive with as many entries as the limit is accepted, one with one more is not."""
    limits = ArchiveLimits(entries=3)
    path = pack({f"f{number}": "" for number in range(2 + extra)})
    if refused:
        assert "has 4 entries, the limit is 3" in str(refusal(path, limits))
    else:
        with open_archive(path, limits):
            pass


@pytest.mark.parametrize(("size", "refused"), [(100, False), (101, True)])
def test_limit_of_size(pack: Callable[..., Path], size: int, refused: bool) -> None:
    """An archive with as many bytes as the limit is accepted, one with one more is not."""
    limits = ArchiveLimits(size=100)
    path = pack({"f": b"x" * size})
    if refused:
        assert "101 bytes when extracted, the limit is 100" in str(refusal(path, limits))
    else:
        with open_archive(path, limits):
            pass


@pytest.mark.parametrize(("size", "extra", "refused"), [(2 << 20, 0, False), (2 << 20, -1, True), (1 << 20, -1, False)])
def test_limit_of_ratio(pack: Callable[..., Path], size: int, extra: int, refused: bool) -> None:
    """The limit of the compression ratio is exact; files up to 1 MiB are exempt."""
    path = pack({"zeros": bytes(size)})
    with zipfile.ZipFile(path) as archive:
        compressed = archive.getinfo("zeros").compress_size
    limits = ArchiveLimits(ratio=-(-size // compressed) + extra)
    if refused:
        assert f"the limit is {limits.ratio}" in str(refusal(path, limits))
    else:
        with open_archive(path, limits):
            pass


def test_size_that_lies(pack: Callable[..., Path]) -> None:
    """An entry with more data than its declared size is refused, not extracted beyond the limit."""
    path = pack({"lie": b"x" * 100_000})
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02")
    struct.pack_into("<I", data, place + 24, 10)
    path.write_bytes(data)
    assert "not a usable zip archive" in str(refusal(path))


def test_no_entry_point(pack: Callable[..., Path]) -> None:
    """An archive without an entry-point is refused; the error says if it is in a folder."""
    assert "has no __main__.py" in str(refusal(pack({"readme": ""}, entry_point=False)))
    nested = str(refusal(pack({"mine/__main__.py": ""}, entry_point=False)))
    assert "in the folder 'mine', not at the top" in nested
    assert "zip the content of the folder" in nested


def test_misnamed_parts(pack: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A part that is ignored because of its name is warned of; a misnamed entry-point is named by the refusal."""
    archive = pack({"JSONPath2.txt": "$", "Requirements.txt": "", "init.sh": "exit"})
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "__main__.py").touch()
    (tmp_path / "directory" / "jsonpath2.txt.txt").touch()
    with open_archive(archive) as consumer, open_consumer(tmp_path / "directory"):
        assert consumer.filter is None
    advice = [message.partition(":")[0] + message.rpartition(";")[2] for message in caplog.messages]
    assert advice == [
        "JSONPath2.txt rename it to jsonpath2.txt",
        "Requirements.txt rename it to requirements.txt",
        "jsonpath2.txt.txt rename it to jsonpath2.txt",
    ]
    for name in ("__Main__.py", "__main__.py.txt", "main.py"):
        error = refusal(pack({name: "", "lib/main.py": ""}, entry_point=False))
        assert f"has no __main__.py, but {name}" in error.problem


def test_not_an_archive(tmp_path: Path) -> None:
    """A missing file, a directory, and a file other than a zip archive have different errors."""
    assert "No such file" in str(refusal(tmp_path / "missing.zip"))
    assert "is a directory" in str(refusal(tmp_path))
    (tmp_path / "text.zip").write_text("hello")
    assert "not a usable zip archive" in str(refusal(tmp_path / "text.zip"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "jsonpath2.txt is empty"),
        (b" \n\n", "jsonpath2.txt is empty"),
        (b'$["a"]\n\n$["b"]\n', "line 3 is '\\$\\[\"b\"\\]'"),
        (b"$[", "jsonpath2.txt: cannot parse the JSONPath: line 1, column 3"),
        (b"\xff", "not text in UTF-8"),
    ],
)
def test_unusable_filter(pack: Callable[..., Path], text: bytes, problem: str) -> None:
    """A jsonpath2.txt that is not a single JSONPath is refused; the error names the line or byte."""
    error = refusal(pack({"jsonpath2.txt": text}))
    assert isinstance(error, FilterError)
    assert error.advice
    with pytest.raises(FilterError, match=problem):
        raise error


def test_windows_line_endings(pack: Callable[..., Path]) -> None:
    """An init.sh with the line endings of Windows is refused when the archive is opened."""
    assert "line endings of Windows" in str(refusal(pack({"init.sh": "#!/bin/sh\r\nexit 0\r\n"})))


@pytest.mark.parametrize(
    "mark", [codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE]
)
@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 0\n", "exit 0\n"])
def test_byte_order_mark(pack: Callable[..., Path], mark: bytes, script: str) -> None:
    """An init.sh with a byte order mark, which no shell understands, is refused when the archive is opened."""
    error = refusal(pack({"init.sh": mark + script.encode()}))
    assert str(error) == "init.sh begins with a byte order mark (BOM); save it as UTF-8 without BOM"


def test_byte_order_mark_of_other_parts(pack: Callable[..., Path]) -> None:
    """The other parts may begin with a byte order mark; those in UTF-16 are refused by their names."""
    parts = {name: f"\ufeff{text}" for name, text in {"jsonpath2.txt": "$", "preload.txt": "json"}.items()}
    with open_archive(pack(parts)) as consumer:
        assert consumer.filter is not None
        assert (consumer.filter.jsonpath, consumer.preload) == ("$", ("json",))
    for name, text in parts.items():
        error = refusal(pack({name: text.encode("utf-16-le")}))
        assert (name in error.problem, "not text in UTF-8" in error.problem) == (True, True)


def test_special_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A special file is refused at once; reading a named pipe would wait until another process writes into it."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "consumer.zip").symlink_to(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")  # the whole path may be too long for a socket
    for path, words in (
        (tmp_path / "pipe", "is a named pipe; copy it into a file"),
        (tmp_path / "consumer.zip", "is a named pipe; copy it into a file"),
        (tmp_path / "socket", "is a socket; copy it into a file"),
        (Path(os.devnull), "is a device; copy it into a file"),
    ):
        assert str(refusal(path)) == f"{path} {words}"


@pytest.mark.parametrize("name", ["__main__.py", "jsonpath2.txt", "init.sh", "preload.txt", "requirements.txt"])
@pytest.mark.parametrize("linked", [False, True])
def test_special_parts(tmp_path: Path, name: str, linked: bool) -> None:
    """A named pipe among the parts of an extracted consumer is refused, and not opened."""
    os.mkfifo(tmp_path / "pipe" if linked else tmp_path / name)
    if linked:
        (tmp_path / name).symlink_to("pipe")
    with pytest.raises(ArchiveError) as caught:
        Consumer.load(tmp_path)
    assert str(caught.value) == f"{name} is a named pipe; replace it with a file, or remove it"


@pytest.mark.parametrize("name", ["x" * 300, "日" * 100, f"{'x' * 300}/a", "/".join(["x" * 200] * 30)])
def test_long_names(pack: Callable[..., Path], name: str) -> None:
    """A name or path that is too long for the disk is named, and room would not help."""
    error = refusal(pack({name: "x"}))
    assert error.problem.startswith(f"cannot extract {name[:80]!r} of ")
    assert error.problem.endswith(": File name too long")
    assert error.advice == "use a shorter name"


def test_no_room(pack: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is not the fault of the archive."""

    def full(path: Path, _: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "open", full)
    error = refusal(pack({}))
    assert error.problem.startswith("cannot extract ")
    assert error.advice == "make room there, or let TMPDIR name another place"


def test_path_too_long() -> None:
    """The path of an archive may itself be too long."""
    assert "File name too long; check the path" in str(refusal(Path("x" * 300)))


@pytest.mark.parametrize(("depth", "refused"), [(500, False), (501, True), (1200, True), (30_000, True)])
def test_folders_in_each_other(pack: Callable[..., Path], depth: int, *, refused: bool) -> None:
    """A path of hundreds of folders is extracted, one of more is refused in a short sentence."""
    path = pack({"d/" * depth + "file": ""})
    if refused:
        with (
            pytest.raises(ArchiveError, match=r"in more than 500 folders; put it into fewer$") as caught,
            open_archive(path),
        ):
            pass
        assert len(str(caught.value)) < 500
    else:
        with open_archive(path) as consumer:
            assert (consumer.directory / ("d/" * depth) / "file").exists()
