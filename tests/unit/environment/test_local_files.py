"""Any byte of a consumer that its environment may depend on changes the key of its environment."""

from __future__ import annotations

import contextlib
import io
import os
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacifica_notifications_consumer import VenvBuilder
from pacifica_notifications_consumer.archive.archive import open_archive
from pacifica_notifications_consumer.environment import builder
from pacifica_notifications_consumer.environment.cache import VenvCache
from pacifica_notifications_consumer.environment.installer import Pip
from pacifica_notifications_consumer.environment.interpreter import Interpreter
from pacifica_notifications_consumer.environment.local_files import IGNORE, digest_local_files
from pacifica_notifications_consumer.environment.requirements import Requirements
from pacifica_notifications_consumer.environment.venv import Venv
from pacifica_notifications_consumer.errors import ArchiveError, RequirementError
from tests.support.machine.scratch import scratch_directory
from tests.support.machine.trees import LONG, nest

#: Lines of a requirements.txt, and whether each makes the environment depend on files of the consumer.
LINES = {
    "six==1.17.0": False,
    "numpy[extra] >= 1 ; python_version > '3.8'": False,
    f"six==1.17.0 --hash=sha256:{64 * '0'} --hash sha256:{64 * '1'}": False,
    "--index-url https://index/simple": False,
    "x @ https://host/wheels/x.whl": False,
    "x @ git+https://host/lab": False,
    "--only-binary :all:": False,
    "-r names.txt": False,
    "-c names.txt": False,
    "# ./lab": False,
    ".": True,
    ".[all]": True,
    "./lab": True,
    "./lab[all] ; python_version > '3'": True,
    "lab/": True,
    "file:HOME/lab": True,
    "file://localhost/HOME/lab": True,
    "mylab @ file:///HOME/my%20lab": True,
    "wheels/x.whl": True,
    "'./my lab'": True,
    "${WHERE}/x.whl": True,
    "-f wheels": True,
    "-fwheels": True,
    "--find-links=HOME/wheels": True,
    "--extra-index-url ./wheels": True,
    "-r local.txt": True,
    "--requirement=local.txt": True,
    "-r \\\n local.txt": True,
}
FILES = {
    "__main__.py": b"print()",
    # Without a newline, since one that is changed may be a space, which means the same.
    "names.txt": b"six<2",
    "local.txt": b"./lab\n",
    "lab/setup.py": b"setup()",
    "my lab/setup.py": b"setup()",
    "wheels/x.whl": b"zip",
    "data/deep/table": b"1,2",
}


def fill(home: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content.replace(b"/HOME", b"HOME").replace(b"HOME", bytes(home)))
    return home


@pytest.fixture(scope="module", autouse=True)
def keys() -> Iterator[list[str]]:
    """The keys for which the cache was asked; nothing is built."""
    keys: list[str] = []

    @contextlib.contextmanager
    def environment(_: Any, key: str, *__: Any) -> Iterator[Venv]:
        keys.append(key)
        yield Venv(Path("/nowhere"))

    known = Interpreter(executable="python", version="3.11.0", build="", pip_wheel=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VenvCache, "environment", environment)
        patch.setattr(Interpreter, "probe", lambda *_: known)
        patch.setattr(builder, "find_installer", lambda *_: Pip(program=(), version="1"))
        patch.setattr(builder, "wheel_digest", lambda: "")
        patch.setenv("WHERE", "./wheels")
        yield keys


def key_of(keys: list[str], home: Path, *, script: bool) -> str:
    init_script = home / "init.sh" if script else None
    with VenvBuilder(directory=home, requirements=home / "requirements.txt", init_script=init_script, cache=home):
        return keys.pop()


@settings(max_examples=25)
@given(
    lines=st.lists(st.sampled_from([line for line in LINES if "HOME" not in line]), max_size=3),
    utf_16=st.booleans(),
    script=st.booleans(),
    changed=st.sampled_from([*FILES, "requirements.txt", "init.sh"]),
    data=st.data(),
)
def test_any_byte(
    keys: list[str], lines: list[str], utf_16: bool, script: bool, changed: str, data: st.DataObject
) -> None:
    """A changed byte gives another key, or the environment depends on names of an index only, which are the same."""
    text = "".join(f"{line}\n" for line in lines)
    files = FILES | {"requirements.txt": text.encode("utf-16" if utf_16 else "utf-8")}
    files |= {"init.sh": b"#!/bin/sh\n"} if script else {}
    if changed not in files:
        return
    if changed == "requirements.txt":
        # A byte of a UTF-16 file may be half a character; a character is what changes.
        files[changed] = (text + "rocks==1\n").encode("utf-16" if utf_16 else "utf-8")
        other = (text + "rocks==2\n").encode("utf-16" if utf_16 else "utf-8")
    else:
        position = data.draw(st.integers(0, len(files[changed]) - 1))
        content = files[changed]
        other = content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
    matters = script or any(LINES[line] for line in lines) or changed == "requirements.txt"
    matters = matters or (changed == "names.txt" and {"-r names.txt", "-c names.txt"} & {*lines} != set())
    # Both are in directories of their own, as two starts of a consumer are.
    with scratch_directory() as one, scratch_directory() as two, scratch_directory() as three:
        homes = [fill(one, files), fill(two, files), fill(three, files | {changed: other})]
        first, same, third = (key_of(keys, home, script=script) for home in homes)
    assert first == same
    assert (first != third) is matters


ARCHIVE = io.BytesIO()
with zipfile.ZipFile(ARCHIVE, "w", zipfile.ZIP_DEFLATED) as _packed:
    for _name, _content in (FILES | {"init.sh": b"sh lab/x"}).items():
        _packed.writestr(_name, _content)
    _packed.writestr("empty/", b"")


def tree(directory: Path) -> dict[str, bytes | None]:
    """All that an init.sh can find in a directory."""
    return {
        f"{path.relative_to(directory)} {os.access(path, os.X_OK)}": path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }


@settings(max_examples=25)
@given(position=st.integers(0, len(ARCHIVE.getvalue()) - 1), bit=st.integers(0, 7))
def test_any_byte_of_the_archive(position: int, bit: int) -> None:
    """An archive with a changed bit is refused, or extracted to the same files, or has another digest."""
    content = bytearray(ARCHIVE.getvalue())
    content[position] ^= 1 << bit
    found = []
    with scratch_directory() as home:
        for name, body in (("one.zip", ARCHIVE.getvalue()), ("other.zip", bytes(content))):
            (home / name).write_bytes(body)
            try:
                with open_archive(home / name) as consumer:
                    digest, _ = digest_local_files(Requirements(), consumer.directory, has_script=True)
                    found.append((tree(consumer.directory), digest))
            except ArchiveError:
                return
    assert (found[0][0] == found[1][0]) is (found[0][1] == found[1][1])


@pytest.mark.parametrize("line", [line for line, local in LINES.items() if local])
def test_what_is_local(tmp_path: Path, line: str) -> None:
    """Each way to name a file or a directory of the consumer is recognized."""
    home = fill(tmp_path, FILES | {"requirements.txt": line.encode()})

    def digest() -> str:
        requirements = Requirements.read(home / "requirements.txt", {"WHERE": str(home / "wheels")})
        return digest_local_files(requirements, home, has_script=False)[0]

    before = digest()
    (home / "data" / "deep" / "table").write_text("1,3")
    assert digest() != before


def digest_of(home: Path, line: str = "./lab") -> str:
    (home / "requirements.txt").write_text(line)
    requirements = Requirements.read(home / "requirements.txt", {})
    return digest_local_files(requirements, home, has_script=False)[0]


def test_more_than_bytes(tmp_path: Path) -> None:
    """New, renamed and executable files, links and empty folders count, too."""
    home = fill(tmp_path, FILES)
    digests = [digest_of(home)]
    for change in (
        lambda: (home / "new").touch(),
        lambda: (home / "new").rename(home / "newer"),
        lambda: (home / "newer").chmod(0o700),
        lambda: (home / "empty").mkdir(),
        lambda: (home / "link").symlink_to("newer"),
        lambda: (home / "lab" / "setup.py").rename(home / "data" / "setup.py"),
    ):
        change()
        digests.append(digest_of(home))
    assert len(set(digests)) == 7


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("__main__.py", "__main__.py"),
        ("*.py", "lab/setup.py"),
        ("data", "data/deep/table"),
        ("./data/", "data/deep/table"),
        ("data/*/tab?e", "data/deep/table"),
    ],
)
def test_what_the_author_excludes(tmp_path: Path, pattern: str, name: str) -> None:
    """Files that venv-ignore.txt names do not count, all others do."""
    home = fill(tmp_path, FILES | {IGNORE: f"# of no interest\n\n{pattern}\n".encode()})
    before = digest_of(home)
    (home / name).write_text("changed")
    assert digest_of(home) == before
    (home / "names.txt").write_text("changed")
    assert digest_of(home) != before


def test_places_outside(tmp_path: Path) -> None:
    """Files outside of the consumer count if a requirement names them; an index does not."""
    home, outside = fill(tmp_path / "home", FILES), fill(tmp_path / "outside", {"x.whl": b"1", "deep/y.whl": b"1"})
    for line in (f"{outside}/x.whl", f"x @ file://{outside}/x.whl", "../outside/x.whl", f"-f {outside}"):
        before = digest_of(home, line)
        assert digest_of(home, line) == before
        (outside / "x.whl").write_bytes((outside / "x.whl").read_bytes() + b"2")
        assert digest_of(home, line) != before
    index = f"--extra-index-url file://{outside}"
    before = digest_of(home, index)
    (outside / "deep" / "y.whl").write_bytes(b"22")
    assert digest_of(home, index) == before


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("-e ./lab", "'-e ./lab' installs from the consumer's directory, which is a new one at each start"),
        ("--editable=lab[all]", "installs from the consumer's directory"),
        ("-e file://HOME/lab", "installs from the consumer's directory"),
        ("..", "'..' refers to a directory around the consumer's"),
        ("-e git+https://host/lab", ""),
        ("./lab", ""),
    ],
)
def test_what_cannot_be_kept(tmp_path: Path, line: str, reason: str) -> None:
    """An environment that leads back to the directory of one start is not used by another one."""
    home = fill(tmp_path, FILES | {"requirements.txt": line.encode()})
    requirements = Requirements.read(home / "requirements.txt", {})
    unkept = digest_local_files(requirements, home, has_script=False)[1]
    assert reason in unkept
    assert bool(reason) == bool(unkept)


@pytest.mark.parametrize(
    "line", ["x" + "".join(f"={number:04}[" for number in range(400)), "./" + "a" * 5000, "./" + "a/../" * 1000 + "lab"]
)
def test_words_that_may_name_too_much(tmp_path: Path, line: str) -> None:
    """A word that may name very many files, or a longer path than there is, takes no memory; nothing is kept."""
    (tmp_path / "requirements.txt").write_text(line)
    requirements = Requirements.read(tmp_path / "requirements.txt", {})
    tracemalloc.start()
    try:
        _, unkept = digest_local_files(requirements, tmp_path, has_script=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
    assert unkept == f"{line[:60] + '…'!r} may name more files than can be looked for"


def test_many_hashes(tmp_path: Path) -> None:
    """A megabyte of hashes, as honest requirements may have, is looked through, and a path before them is found."""
    home = fill(tmp_path, FILES)
    hashes = " ".join(f"--hash=sha256:{number:064}" for number in range(100))
    text = f"./lab {hashes}\n" + "".join(f"p{number}==1.0 {hashes}\n" for number in range(130))
    assert len(text) > 1_000_000
    before = digest_of(home, text)
    (home / "lab" / "setup.py").write_text("other()")
    assert digest_of(home, text) != before
    assert digest_local_files(Requirements.read(home / "requirements.txt", {}), home, has_script=False)[1] == ""


@pytest.mark.whole
def test_folders_in_each_other(keys: list[str], tmp_path: Path) -> None:
    """Of hundreds of folders in each other all count; more than a path can name are refused in a sentence."""
    home = fill(tmp_path, FILES | {"init.sh": b"", "requirements.txt": b""})
    with nest(home, 1100):
        before = key_of(keys, home, script=True)
        (home / ("a/" * 1100) / "file").write_text("changed")
        assert key_of(keys, home, script=True) != before
    with nest(home, 20, LONG), pytest.raises(RequirementError, match=r"too long; use a shorter name$"):
        key_of(keys, home, script=True)


@pytest.mark.parametrize(("depth", "length"), [pytest.param(1100, 1, marks=pytest.mark.whole), (20, LONG)])
def test_script_that_nests_folders(tmp_path: Path, depth: int, length: int) -> None:
    """A file that ``init.sh`` has left is seen, however deep its folder is in the consumer's directory."""
    built = VenvBuilder(directory=tmp_path, init_script=tmp_path / "init.sh")
    (tmp_path / "init.sh").touch()
    before = built._files_of_directory()
    with nest(tmp_path, depth, length):
        assert built._files_of_directory() != before
    assert built._files_of_directory() == before
