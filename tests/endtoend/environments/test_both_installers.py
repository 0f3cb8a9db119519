"""uv and pip take and refuse the same requirements, and both say what is wrong with them."""

from __future__ import annotations

import hashlib
import io
import re
import sys
import tarfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from pacifica_notifications_consumer import VenvBuilder
from pacifica_notifications_consumer.errors import RequirementError, VenvError
from tests.endtoend.environments.wheels import make_wheel, without_index
from tests.endtoend.recorder import recording

__all__ = ["without_index"]

PROMISE = f"promise {version('promise')}"
#: This Python in the names of wheels.
TAG = "cp{0}{1}-cp{0}{1}".format(*sys.version_info)
BOTH = pytest.mark.parametrize("installer", ["uv", "pip"])


@pytest.fixture
def wheels(without_index: Path) -> Path:
    """A directory of wheels: of several versions, for other machines, and for other Pythons."""
    for number in ("1.0", "2.0"):
        make_wheel(without_index, "minerals", number)
        make_wheel(without_index, f"needs_{number[0]}", metadata=f"Requires-Dist: minerals=={number}\n")
    make_wheel(without_index, "rocks")
    make_wheel(without_index, "foreign", tag="cp39-cp39-manylinux_2_17_x86_64")
    make_wheel(without_index, "mixed")
    make_wheel(without_index, "mixed", "2.0", tag="cp311-cp311-macosx_10_9_x86_64")
    make_wheel(without_index, "young", metadata="Requires-Python: >=3.99\n")
    make_wheel(without_index, "promise", "2.3")
    return without_index


def installed(home: Path, installer: str) -> set[str]:
    """Install the requirements.txt of a consumer; returns the lines of the lock file."""
    path = home / "requirements.txt"
    with VenvBuilder(requirements=path, directory=home, installer=installer) as venv:
        return set(venv.lock.read_text().splitlines())


def hash_of(wheel: Path) -> str:
    return f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "consumer").mkdir()
    return tmp_path / "consumer"


def utf_16(text: str) -> bytes:
    return text.encode("utf-16")


HASHED: dict[str, tuple[str, str, Callable[[str], bytes]]] = {
    "with =": ("minerals==1.0 --hash=HASH", "", str.encode),
    "with a space": ("minerals==1.0 --hash HASH", "", str.encode),
    "continued": ("minerals==1.0 \\\n    --hash HASH", "", str.encode),
    "included": ("-r locked.txt", "minerals==1.0 --hash=HASH", str.encode),
    "UTF-16": ("minerals==1.0 --hash=HASH\r\n", "", utf_16),
    "demanded": ("--require-hashes\nminerals==1.0 --hash=HASH", "", str.encode),
    "of a file": ("./minerals-1.0-py3-none-any.whl --hash=HASH", "", str.encode),
    "of an address": ("minerals @ file:///WHEEL --hash=HASH", "", str.encode),
    "marked": ("minerals==1.0 ; python_version > '3' --hash=HASH", "", str.encode),
    "two": ("minerals==1.0 --hash=HASH --hash=sha256:" + 64 * "0", "", str.encode),
}


@BOTH
@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
@pytest.mark.parametrize("way", HASHED)
def test_hashes(wheels: Path, home: Path, installer: str, way: str, right: bool) -> None:
    """However a requirement gets its hash, the right one is taken, and a wrong one refused."""
    top, included, encode = HASHED[way]
    wheel = wheels / "minerals-1.0-py3-none-any.whl"
    (home / wheel.name).write_bytes(wheel.read_bytes())
    known = hash_of(wheel) if right else f"sha256:{64 * 'a'}"
    for name, text in (("requirements.txt", top), ("locked.txt", included)):
        (home / name).write_bytes(encode(text.replace("HASH", known).replace("/WHEEL", str(wheel))))
    if right:
        assert [line for line in installed(home, installer) if line.startswith("minerals")] != []
        return
    with pytest.raises(RequirementError) as caught:
        installed(home, installer)
    assert caught.value.problem == "a package does not match its hash in requirements.txt"


@BOTH
@pytest.mark.parametrize(
    ("top", "included"),
    [
        ("minerals==1.0 --hash=HASH\nrocks==1.0", ""),
        ("-r locked.txt\nrocks==1.0", "minerals==1.0 --hash=HASH"),
        ("minerals==1.0 --hash HASH\n-r locked.txt", "rocks==1.0"),
        ("--require-hashes\nminerals==1.0", ""),
    ],
)
def test_hashes_of_some(wheels: Path, home: Path, installer: str, top: str, included: str) -> None:
    """If one requirement has a hash, in whichever file, each must have one."""
    known = hash_of(wheels / "minerals-1.0-py3-none-any.whl")
    (home / "requirements.txt").write_text(top.replace("HASH", known))
    (home / "locked.txt").write_text(included.replace("HASH", known))
    with pytest.raises(RequirementError) as caught:
        installed(home, installer)
    assert caught.value.problem == "requirements.txt has a hash for some requirements, but not for all"


@BOTH
def test_misnomer_of_the_specification_in_a_build(wheels: Path, home: Path, installer: str) -> None:
    """What building a package requires is bound as well: `promises` is `promise`, and is asked of nobody."""
    package = home / "package"
    package.mkdir()
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["promises"]\nbuild-backend = "build"\nbackend-path = ["."]\n'
        '[project]\nname = "mylab"\nversion = "1.0"\n'
    )
    (package / "build.py").write_text(
        "import promise, shutil\n"
        "def build_wheel(directory, *_):\n"
        "    return shutil.copy('../mylab-1.0-py3-none-any.whl', directory).rpartition('/')[2]\n"
    )
    make_wheel(home, "mylab")
    (home / "requirements.txt").write_text("./package\n")
    assert any(line.startswith("mylab @ ") for line in installed(home, installer))


@BOTH
def test_hash_in_a_comment(wheels: Path, home: Path, installer: str) -> None:
    """A hash that is commented out is not one."""
    (home / "requirements.txt").write_text("minerals==1.0  # --hash=sha256:00\n# --hash=sha256:00\nrocks\n")
    assert {"minerals==1.0", "rocks==1.0"} <= installed(home, installer)


@BOTH
@pytest.mark.parametrize(
    ("content", "position"),
    [
        (b"# -*- coding: latin-1 -*-\n# gr\xfc\xdfe\nminerals\n", 30),
        ("minerals\n".encode("utf-16-le"), 1),
        ("minerals\n".encode("utf-32"), 0),
    ],
)
def test_text_in_another_encoding(wheels: Path, home: Path, installer: str, content: bytes, position: int) -> None:
    """What only one installer could read is refused for both, with the file and what to do."""
    (home / "requirements.txt").write_text("-r more.txt\n")
    (home / "more.txt").write_bytes(content)
    with pytest.raises(RequirementError) as caught:
        installed(home, installer)
    assert caught.value.problem == f"more.txt is not text in UTF-8 (byte {position})"
    assert caught.value.advice == "save it as UTF-8"


@BOTH
@pytest.mark.parametrize(
    ("line", "problem", "advice"),
    [
        ("matplotib", "'matplotib' cannot be installed: no index has a package of this name", "mean 'matplotlib'?"),
        ("PIL", "'PIL' cannot be installed: no index has a package of this name", "did you mean 'Pillow'?"),
        ("Yaml>=5", "cannot be installed: no index has a package of this name", "did you mean 'PyYAML'?"),
        ("my_analysis", "cannot be installed: no index has a package of this name", "correct it in requirements.txt"),
        ("minerals==9", "'minerals==9' cannot be installed: there is no such version", "correct it in requirements"),
        ("minerals>5", "'minerals>5' cannot be installed: there is no such version", "correct it in requirements.txt"),
        ("foreign", "'foreign' cannot be installed: its packages are for other Pythons", "choose another version"),
        ("foreign==1.0", "cannot be installed: its packages are for other Pythons or machines", "set `python` to"),
        ("mixed==2.0", "cannot be installed: its packages are for other Pythons or machines", "set `python` to"),
        ("young", "'young' cannot be installed: its packages are for other Pythons or machines", "set `python` to"),
        (
            "./older-1.0-cp39-cp39-linux_x86_64.whl",
            "cannot be installed: its packages are for other Pythons",
            "set `python`",
        ),
        (f"./other-1.0-{TAG}-win_amd64.whl", "cannot be installed: its packages are for other Pythons or machines", ""),
        ("./broken", "cannot be installed: building it from its source failed", "install what the build lacks"),
        ("-e ./broken", "cannot be installed: building it from its source failed", "install what the build lacks"),
        ("promises==99", f"'promises==99' cannot be installed: promises is read as {PROMISE}", "write promise instead"),
        ("promises<2", f"'promises<2' cannot be installed: promises is read as {PROMISE}", "write promise instead"),
        ("promises\n-c old.txt", f"'promises<2' cannot be installed: promises is read as {PROMISE}", "write promise"),
        *(
            (
                "\n".join(lines),
                f"the requirements {lines[0]} and {lines[1]} contradict each other",
                "loosen the versions",
            )
            for lines in (
                ("minerals==1.0", "minerals==2.0"),
                ("minerals<2", "minerals>=2"),
                ("minerals==1.0", "needs-2"),
                ("needs-1", "needs-2"),
            )
        ),
        ("minerals==1.0\n-c limits.txt", "the requirements minerals==1.0 and minerals==2.0 contradict", "loosen"),
    ],
)
def test_what_is_wrong(
    wheels: Path, home: Path, installer: str, line: str, problem: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown names, versions, Pythons and failed builds are told apart, and the nearest name is suggested."""
    monkeypatch.setenv("COLUMNS", "40")
    (home / "requirements.txt").write_text(f"rocks\n{line}\n")
    (home / "__main__.py").write_text("import os\nfrom matplotlib import pyplot\nimport analysis\n")
    (home / "analysis.py").touch()
    (home / "limits.txt").write_text("minerals==2.0\n")
    (home / "old.txt").write_text("promises<2\n")
    make_wheel(home, "older", tag="cp39-cp39-linux_x86_64")
    make_wheel(home, "other", tag=f"{TAG}-win_amd64")
    (home / "broken").mkdir()
    backend = '[build-system]\nrequires = []\nbuild-backend = "build"\nbackend-path = ["."]\n'
    (home / "broken" / "pyproject.toml").write_text(f'{backend}[project]\nname = "broken"\nversion = "1"\n')
    (home / "broken" / "build.py").write_text("raise SystemExit('no compiler')\n")
    with pytest.raises(RequirementError) as caught:
        installed(home, installer)
    # uv writes names in lower case.
    assert problem.lower() in caught.value.problem.lower()
    assert advice in caught.value.advice
    assert ("broken" in line) is ("no compiler" in caught.value.output)


@BOTH
def test_package_of_another_name(wheels: Path, home: Path, installer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that exists only to say which one is meant, is not called a fault of the machine."""
    monkeypatch.delenv("PIP_NO_INDEX")
    sources = {
        "PKG-INFO": b"Metadata-Version: 2.1\nName: sklearn\nVersion: 0.0\n",
        "pyproject.toml": b'[build-system]\nrequires = []\nbuild-backend = "build"\nbackend-path = ["."]\n',
        "build.py": b"raise SystemExit('use the other one')\n",
    }
    package = io.BytesIO()
    with tarfile.open(fileobj=package, mode="w:gz") as packed:
        for name, content in sources.items():
            entry = tarfile.TarInfo(f"sklearn-0.0/{name}")
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    answers = {
        "/simple/sklearn/": (200, b'<!DOCTYPE html><a href="/sklearn-0.0.tar.gz">sklearn-0.0.tar.gz</a>', "text/html"),
        "/sklearn-0.0.tar.gz": (200, package.getvalue(), "application/gzip"),
    }
    (home / "requirements.txt").write_text("sklearn\n")
    with recording(lambda request: answers.get(request.path, (404, b"", "text/html"))) as index:
        monkeypatch.setenv("PIP_INDEX_URL", f"{index.url}/simple")
        with pytest.raises(RequirementError) as caught:
            installed(home, installer)
    assert "cannot be installed: building it from its source failed" in caught.value.problem
    assert "did you mean 'scikit-learn'?" in caught.value.advice
    assert "use the other one" in caught.value.output


def test_unusable_cache_of_uv(wheels: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not called a fault of the requirements."""
    (home / "requirements.txt").write_text("minerals\n")
    (home / "cache").touch()
    monkeypatch.setenv("UV_CACHE_DIR", str(home / "cache"))
    with pytest.raises(VenvError) as caught:
        installed(home, "uv")
    assert not isinstance(caught.value, RequirementError)
    assert caught.value.problem.startswith("uv cannot use its cache: ")
    assert str(home / "cache") in caught.value.problem
    assert "set UV_CACHE_DIR to another directory" in caught.value.advice


@BOTH
@pytest.mark.parametrize("line", ["minerals @ ADDRESS/minerals-1.0-py3-none-any.whl", "--find-links ADDRESS\nminerals"])
def test_password_in_an_address(
    wheels: Path, home: Path, installer: str, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the log nor the error shows it."""
    (home / "requirements.txt").write_text(
        line.replace("ADDRESS", "http://bob:hunter2@127.0.0.1:9") + "\nnothing-such\n"
    )
    with caplog.at_level("DEBUG"), pytest.raises(RequirementError) as caught:
        installed(home, installer)
    said = caplog.text + str(caught.value) + caught.value.output
    if "@" in line:
        assert "the server http://127.0.0.1:9 cannot be read: Connection refused" in caught.value.problem
    assert "hunter2" not in said


@BOTH
@pytest.mark.parametrize(("status", "reason"), [(404, "Not Found"), (403, "Forbidden")])
def test_address_that_is_refused(wheels: Path, home: Path, installer: str, status: int, reason: str) -> None:
    """The server of a requirement's address is named, and what it says."""
    with recording(lambda _: (status, b"", "text/html")) as server:
        (home / "requirements.txt").write_text(f"rocks @ {server.url}/rocks-1.0-py3-none-any.whl\n")
        with pytest.raises(RequirementError) as caught:
            installed(home, installer)
    assert f"the server {server.url} cannot be read: {reason}" in caught.value.problem


def test_index_that_is_not_trusted(wheels: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address without TLS must be trusted for pip; the error says how."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://index.invalid/simple")
    (home / "requirements.txt").write_text("nothing-such\n")
    with pytest.raises(RequirementError) as caught:
        installed(home, "pip")
    assert "the package index index.invalid cannot be read: not a trusted" in caught.value.problem
    assert "PIP_TRUSTED_HOST" in caught.value.advice


@BOTH
@pytest.mark.parametrize("status", [0, 401, 503])
@pytest.mark.parametrize("line", ["minerals", "nothing-such"])
def test_index_that_cannot_be_read(
    wheels: Path, home: Path, installer: str, status: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that is not there, or refuses, is not a fault of requirements.txt."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    (home / "requirements.txt").write_text(f"{line}\n")
    with recording(lambda _: (status, b"", "text/html")) as index:
        address = (index.url if status else "http://127.0.0.1:9").replace("//", "//bob:word@")
        monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple")
        with pytest.raises(RequirementError) as caught:
            installed(home, installer)
    assert caught.value.problem.startswith("the requirements cannot be installed: the package index http://127.0.0.1:")
    assert (str(status) if status else "cannot be read: Connection refused") in caught.value.problem
    assert not re.search("word|Pool|object at", caught.value.problem)
    assert "correct it in requirements.txt" not in caught.value.advice
    assert caught.value.advice.startswith("check the network")


@BOTH
def test_options_of_a_requirement(wheels: Path, home: Path, installer: str) -> None:
    """An option that only pip supports is named, with the setting that helps."""
    (home / "requirements.txt").write_text('minerals --config-settings="a=b"\n')
    if installer == "pip":
        assert "minerals==2.0" in installed(home, installer)
        return
    with pytest.raises(RequirementError) as caught:
        installed(home, installer)
    assert "uv does not support the option --config-settings" in caught.value.problem
    assert "set `installer` to pip" in caught.value.advice


def test_unknown_name_among_several_indexes(wheels: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that refuses what it does not have does not hide that another one does not know the name."""
    monkeypatch.delenv("PIP_NO_INDEX")
    (home / "requirements.txt").write_text("nothing-such\n")
    with recording(lambda _: (404, b"", "text/html")) as one, recording(lambda _: (403, b"", "text/html")) as other:
        monkeypatch.setenv("PIP_INDEX_URL", f"{one.url}/simple")
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{other.url}/simple")
        with pytest.raises(RequirementError) as caught:
            installed(home, "pip")
    assert "no index has a package of this name" in caught.value.problem
