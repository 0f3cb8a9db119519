"""Packing is reproducible, leaves out unwanted files, and makes archives that can be deployed."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pacifica_notifications_consumer.archive.archive import open_archive
from pacifica_notifications_consumer.archive.packing import open_consumer, pack
from pacifica_notifications_consumer.errors import ArchiveError, PacificaError, UploadError
from pacifica_notifications_consumer.testing.instrument import files_below


@pytest.fixture
def consumer(tmp_path: Path) -> Path:
    directory = tmp_path / "consumer"
    for name in ("__main__.py", "lib/util.py", "jsonpath2.txt", "init.sh"):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("$" if name == "jsonpath2.txt" else "pass\n")
    (directory / "init.sh").chmod(0o755)
    return directory


def test_same_input_same_bytes(consumer: Path, tmp_path: Path) -> None:
    """The archive does not depend on time stamps, the order of creation, or the directory."""
    pack(consumer, tmp_path / "one.zip")
    elsewhere = tmp_path / "elsewhere"
    for name in ("lib/util.py", "init.sh", "jsonpath2.txt", "__main__.py"):
        path = elsewhere / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((consumer / name).read_bytes())
        path.chmod(0o700 if name == "init.sh" else 0o600)
        os.utime(path, (1, 1))
    pack(elsewhere, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_what_is_left_out(consumer: Path, tmp_path: Path) -> None:
    """Tests, compiled code, hidden files, environments and archives are left out and reported."""
    for name in (
        "test_consumer.py",
        "tests/test_more.py",
        "conftest.py",
        ".git/config",
        ".hidden",
        "__pycache__/x.pyc",
        "lib/util.pyc",
        "env/pyvenv.cfg",
        "env/bin/python",
        "old.zip",
        "notes.txt~",
    ):
        path = consumer / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    packed = pack(consumer, consumer / "consumer.zip")
    again = pack(consumer, consumer / "consumer.zip")
    assert packed.files == again.files == ("__main__.py", "init.sh", "jsonpath2.txt", "lib/util.py")
    with zipfile.ZipFile(consumer / "consumer.zip") as archive:
        assert tuple(archive.namelist()) == packed.files
    assert dict(again.left_out) == {
        "test_consumer.py": "tests",
        "tests": "tests",
        "conftest.py": "tests",
        ".git": "version control",
        ".hidden": "hidden",
        "__pycache__": "compiled code",
        "lib/util.pyc": "compiled code",
        "env": "a virtual environment",
        "old.zip": "another archive",
        "notes.txt~": "an editor's backup",
        "consumer.zip": "the archive itself",
    }


def fill(directory: Path, files: Mapping[str, str]) -> None:
    """Write files below a directory; a name that ends with a slash makes an empty folder."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
        else:
            path.write_text(content)


#: Files of a consumer, and which of those that are left out by their names are packed nevertheless.
REFERENCES: list[tuple[str, Mapping[str, str], list[str]]] = [
    ("import", {"__main__.py": "import test_station", "test_station.py": "", "test_x.py": ""}, ["test_station.py"]),
    ("from", {"__main__.py": "from test_station import f", "test_station.py": ""}, ["test_station.py"]),
    (
        "of a package",
        {"__main__.py": "from tests import a", "tests/__init__.py": "", "tests/a.py": "", "tests/test_x.py": ""},
        ["tests/__init__.py", "tests/a.py"],
    ),
    (
        "relative",
        {
            "__main__.py": "import lib.a",
            "lib/a.py": "from . import test_b\nfrom .. import test_c",
            "lib/test_b.py": "",
            "test_b.py": "",
            "test_c.py": "",
        },
        ["lib/test_b.py", "test_c.py"],
    ),
    (
        "indirect",
        {"__main__.py": "def f():\n    import test_a", "test_a.py": "open('reference.zip')", "reference.zip": ""},
        ["reference.zip", "test_a.py"],
    ),
    (
        "vendored",
        {
            "__main__.py": "sys.path.insert(0, HERE + '/vendor')\nimport lab",
            "vendor/lab/__init__.py": "from lab import test_thing",
            "vendor/lab/test_thing.py": "",
        },
        ["vendor/lab/test_thing.py"],
    ),
    ("pattern", {"__main__.py": "glob(here + '/tests/*.json')", "tests/a.json": "", "test_b.py": ""}, ["tests/a.json"]),
    ("any", {"__main__.py": "'a' * n, '*'", "test_a.py": ""}, []),
    ("command", {"__main__.py": "run('python3 test_a.py --x', shell=True)", "test_a.py": ""}, ["test_a.py"]),
    (
        "configuration",
        {
            "__main__.py": "open('a.json')",
            "a.json": '{"dark": "tests/a.csv", "r": "b.R"}',
            "tests/a.csv": "",
            "b.R": "",
        },
        ["tests/a.csv"],
    ),
    ("of tests", {"__main__.py": "", "test_a.py": "open('reference.zip')", "reference.zip": ""}, []),
    ("by name", {"__main__.py": "importlib.import_module('test_a')", "test_a.py": ""}, ["test_a.py"]),
    ("compiled", {"__main__.py": "import a, b", "a.pyc": "", "b.py": "", "b.pyc": "", "c.pyc": ""}, ["a.pyc"]),
    ("open", {"__main__.py": "open('reference.zip')", "reference.zip": "", "old.zip": ""}, ["reference.zip"]),
    ("f-string", {"__main__.py": "open(f'{HERE}/reference.zip')", "reference.zip": ""}, ["reference.zip"]),
    ("hidden", {"__main__.py": "open('./.station/a.ini')", ".station/a.ini": "", ".station/b": ""}, [".station/a.ini"]),
    ("together", {"__main__.py": "HERE / 'tests' / 'a.csv'", "tests/a.csv": "", "tests/b.csv": ""}, ["tests/a.csv"]),
    ("upwards", {"__main__.py": "import lib", "lib/__init__.py": "HERE / '../.a'", ".a": "", ".b": ""}, [".a"]),
    ("beside", {"__main__.py": "import lib", "lib/__init__.py": "HERE / '.a'", "lib/.a": "", ".b": ""}, ["lib/.a"]),
    (
        "folder",
        {"__main__.py": "os.listdir('tests')", "tests/test_a.py": "", "tests/.b": "", "tests/__pycache__/c.pyc": ""},
        ["tests/.b", "tests/test_a.py"],
    ),
    ("sample", {"__main__.py": "open(f'{SRC}/a.json')", "tests/a.json": ""}, []),
    (
        "useless",
        {"__main__.py": "'.git', 'e', '__pycache__'", ".git/a": "", "e/pyvenv.cfg": "", "__pycache__/b": ""},
        [],
    ),
    (
        "init.sh",
        {"__main__.py": "", "init.sh": 'tar xf "$HERE/.tools.tar"  # test_a', ".tools.tar": "", "test_a.py": ""},
        [".tools.tar"],
    ),
    (
        "script",
        {"__main__.py": "['sh', '.run.sh']", ".run.sh": "unzip reference.zip", "reference.zip": ""},
        [".run.sh", "reference.zip"],
    ),
    (
        "requirements.txt",
        {"__main__.py": "", "requirements.txt": "mylab @ file:reference.zip", "reference.zip": ""},
        ["reference.zip"],
    ),
    ("preload.txt", {"__main__.py": "", "preload.txt": "test_a", "test_a.py": ""}, ["test_a.py"]),
    ("invalid Python", {"__main__.py": "import test_a", "test_a.py": "if:", "reference.zip": ""}, ["test_a.py"]),
    ("outside", {"__main__.py": "from .... import x\nopen('/../../etc/passwd')\n'\\0', '', '/', '.', 'a//b'"}, []),
]


@pytest.mark.parametrize(("files", "expected"), [row[1:] for row in REFERENCES], ids=[row[0] for row in REFERENCES])
def test_what_the_code_refers_to_is_packed(tmp_path: Path, files: Mapping[str, str], expected: list[str]) -> None:
    """What the code imports or names is packed, even if its name says otherwise, and nothing else is."""
    fill(tmp_path / "consumer", files)
    packed = pack(tmp_path / "consumer", tmp_path / "packed.zip")
    left_out = [name for name, _ in packed.left_out]
    by_name = [name for name in packed.files if re.search(r"(^|/)(test|\.)|\.(zip|pyc)$", name)]
    assert by_name == expected
    assert sorted(files) == sorted(
        name for name in files if name in packed.files or any(f"{name}/".startswith(f"{each}/") for each in left_out)
    )


def test_include(consumer: Path, tmp_path: Path) -> None:
    """What is included is packed, with all that a folder has but compiled code, and a missing path is refused."""
    fill(
        consumer,
        {
            "tests/test_a.py": "",
            "tests/__pycache__/a.pyc": "",
            "lib/.hidden": "",
            ".git/config": "",
            ".git/HEAD": "",
            "old.zip": "",
            "more.zip": "",
        },
    )
    given = ("tests/", "./lib/.hidden", Path(".git/config"), "old.zip")
    packed = pack(consumer, tmp_path / "packed.zip", given)
    usual = pack(consumer, tmp_path / "packed.zip").files
    assert sorted({*packed.files} - {*usual}) == [".git/config", "lib/.hidden", "old.zip", "tests/test_a.py"]
    assert dict(packed.left_out) == {
        ".git/HEAD": "version control",
        "more.zip": "another archive",
        "tests/__pycache__": "compiled code",
    }
    for missing in ("nothing.zip", "../consumer/old.zip", str(consumer / "old.zip")):
        with pytest.raises(ArchiveError) as caught:
            pack(consumer, tmp_path / "packed.zip", [missing])
        assert str(caught.value) == f"{missing} is not in {consumer}; give its path below this directory"


def test_empty_folders(consumer: Path, tmp_path: Path) -> None:
    """A folder without files is packed, but not one with nothing but compiled code, and is there when deployed."""
    fill(consumer, {"incoming/": "", "kept/.gitkeep": "", "a/b/": "", "deleted/__pycache__/x.pyc": ""})
    packed = pack(consumer, tmp_path / "packed.zip")
    assert [name for name in packed.files if name.endswith("/")] == ["a/b/", "incoming/", "kept/"]
    assert dict(packed.left_out) == {"kept/.gitkeep": "hidden", "deleted": "compiled code"}
    for opened in (open_archive(tmp_path / "packed.zip"), open_consumer(consumer)):
        with opened as extracted:
            assert list((extracted.directory / "incoming").iterdir()) == []
            assert (extracted.directory / "a" / "b").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["__main__.py", "init.sh", "requirements.txt", "lib/data", "lib/other.py"])
def test_special_files(consumer: Path, tmp_path: Path, name: str) -> None:
    """A named pipe is refused by its name, and not opened, also behind a link and where the code refers to it."""
    path = consumer / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    for call in (lambda: pack(consumer, tmp_path / "packed.zip"), lambda: open_consumer(consumer).__enter__()):
        with pytest.raises(ArchiveError) as caught:
            call()
        assert str(caught.value) == f"{path} is a named pipe; remove it"
    path.rename(tmp_path / "pipe")
    path.symlink_to(tmp_path / "pipe")
    with pytest.raises(ArchiveError) as caught:
        pack(consumer, tmp_path / "packed.zip")
    assert str(caught.value) == f"{path} is a symbolic link to a named pipe; remove it"


def test_sockets_and_archives_that_are_special_files(
    consumer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket is refused, unless it is left out, and a device is not replaced by an archive."""
    monkeypatch.chdir(consumer)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(".hidden")  # the whole path may be too long for a socket
    assert ".hidden" in dict(pack(consumer, tmp_path / "packed.zip").left_out)
    (consumer / ".hidden").rename(consumer / "socket")
    with pytest.raises(ArchiveError, match="socket is a socket; remove it"):
        pack(consumer, tmp_path / "packed.zip")
    (consumer / "socket").unlink()
    (tmp_path / "null").symlink_to(os.devnull)
    with pytest.raises(ArchiveError, match="null is a device; name a file to be written"):
        pack(consumer, tmp_path / "null")


@pytest.mark.skipif(sys.platform == "darwin", reason="all names on its disks are UTF-8")
def test_names_that_are_not_utf8(consumer: Path, tmp_path: Path) -> None:
    """A file or folder with such a name is refused, unless it is left out; the directory itself may have one."""
    for name in (b"gr\xf6\xdfe.txt", b"gr\xf6\xdfe/a.txt", b"\xff/"):
        shutil.copytree(consumer, copied := tmp_path / "copied")
        fill(copied, {os.fsdecode(name): ""})
        with pytest.raises(ArchiveError, match=r"the name of .*/copied/.* is not UTF-8; rename it"):
            pack(copied, tmp_path / "packed.zip")
        shutil.rmtree(copied)
    fill(consumer, {os.fsdecode(b".\xff"): ""})
    odd = consumer.rename(tmp_path / os.fsdecode(b"c\xff"))
    assert pack(odd, tmp_path / os.fsdecode(b"\xff.zip")).files == pack(odd, tmp_path / "packed.zip").files
    with open_consumer(odd) as extracted:
        assert extracted.entry_point.is_file()


def test_names_that_are_too_long(consumer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The advice is about the name, not about the place or the rights."""
    with pytest.raises(ArchiveError, match="File name too long; use a shorter name"):
        pack(consumer, tmp_path / ("x" * 300))
    monkeypatch.chdir(consumer)
    for _ in range(21):
        os.mkdir("x" * 200)  # noqa: PTH102  (the whole path would be too long)
        os.chdir("x" * 200)
    with pytest.raises(ArchiveError, match=r"cannot read .*xxx: File name too long; use a shorter name"):
        pack(consumer, tmp_path / "packed.zip")


def test_what_is_packed_can_be_opened(consumer: Path, tmp_path: Path) -> None:
    """A packed consumer and its directory give the same consumer when opened."""
    pack(consumer, tmp_path / "consumer.zip")
    for opened in (
        open_archive(tmp_path / "consumer.zip"),
        open_consumer(consumer),
        open_consumer(tmp_path / "consumer.zip"),
    ):
        with opened as extracted:
            assert (extracted.directory / "lib" / "util.py").read_text() == "pass\n"
            assert extracted.init_script is not None
            assert os.access(extracted.init_script, os.X_OK)


def test_bad_directories(consumer: Path, tmp_path: Path) -> None:
    """A bad directory is not packed, an older archive is kept, and no partial file is left."""
    archive = tmp_path / "consumer.zip"
    archive.write_text("old")
    with pytest.raises(ArchiveError, match="is not a directory"):
        pack(tmp_path / "nothing", archive)
    (consumer / "link").symlink_to("/etc/passwd")
    with pytest.raises(ArchiveError, match="is a symbolic link"):
        pack(consumer, archive)
    (consumer / "link").unlink()
    (consumer / "__main__.py").unlink()
    with pytest.raises(ArchiveError, match=r"/consumer has no __main__.py"):
        pack(consumer, archive)
    with pytest.raises(ArchiveError, match="cannot pack"):
        pack(consumer, tmp_path / "no" / "consumer.zip")
    assert archive.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["consumer", "consumer.zip"]


def test_unreadable_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path or folder that the user may not read is an error that names it; no file is left out silently."""

    def refuse(*arguments: object, **_: object) -> bool:
        raise PermissionError(13, "Permission denied", "/secret")

    calls: list[tuple[Callable[[], object], type[PacificaError]]] = [
        (lambda: pack(tmp_path, tmp_path / "x.zip"), ArchiveError),
        (lambda: files_below([tmp_path]), UploadError),
    ]
    with monkeypatch.context() as patched:
        patched.setattr(Path, "is_dir", refuse)
        for call, error in calls:
            with pytest.raises(error, match=r"cannot read .*: Permission denied"):
                call()
    monkeypatch.setattr(os, "scandir", refuse)
    for call, error in calls:
        with pytest.raises(error, match="cannot read /secret: Permission denied"):
            call()


def test_names_of_uploaded_files(tmp_path: Path) -> None:
    """A file is uploaded under its name, a folder's files below the folder's name; equal names are refused."""
    for name in ("a.txt", "more/a.txt", "more/deep/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = files_below([tmp_path / "a.txt", tmp_path / "more"])
    assert list(found) == ["a.txt", "more/a.txt", "more/deep/b.txt"]
    with pytest.raises(UploadError, match=r".* and .* have the same name a.txt"):
        files_below([tmp_path / "a.txt", tmp_path / "more" / "a.txt"])
    with pytest.raises(UploadError, match="does not exist"):
        files_below([tmp_path / "nothing"])
