"""A cached environment never runs old code: whatever the environment is made of, a change of it is noticed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pacifica_notifications_consumer import VenvBuilder
from tests.endtoend.environments.wheels import make_wheel, without_index

__all__ = ["without_index"]

PYPROJECT = """\
[build-system]
requires = []
build-backend = "build"
backend-path = ["."]
[project]
name = "mylab"
version = "1.0"
"""
#: Builds a wheel of mylab.py without any other package.
BACKEND = """\
import pathlib, zipfile
def build_wheel(directory, settings=None, metadata=None):
    name = "mylab-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(directory, name), "w") as wheel:
        wheel.write("mylab.py")
        for file, text in {
            "METADATA": "Metadata-Version: 2.1\\nName: mylab\\nVersion: 1.0\\n",
            "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
            "RECORD": "",
        }.items():
            wheel.writestr(f"mylab-1.0.dist-info/{file}", text)
    return name
build_editable = build_wheel
"""
INSTALL = 'cp "$(cat lab/where)" "$(echo "$VIRTUAL_ENV"/lib/python*/site-packages)"\n'

WAYS: dict[str, bytes] = {
    "the consumer itself": b".",
    "the consumer itself with a slash": b"./",
    "a folder": b"./lab",
    "a folder without a dot": b"lab/",
    "an editable folder": b"-e ./lab",
    "a wheel": b"wheels/mylab-1.0-py3-none-any.whl",
    "a directory of wheels": b"mylab\n--find-links wheels",
    "a variable": b"${THERE}/mylab-1.0-py3-none-any.whl",
    "UTF-16": "./wheels/mylab-1.0-py3-none-any.whl\r\n".encode("utf-16"),
    "an included file": b"-r lab/more.txt",
}


def consumer(home: Path, name: str, word: str, requirements: bytes, script: str = "") -> Path:
    """A consumer that installs its module in one way."""
    directory = home / name
    make_wheel(directory / "wheels", "mylab", code=f"word = {word!r}\n")
    for folder in (directory, directory / "lab"):
        folder.mkdir(exist_ok=True)
        for file, text in (("pyproject.toml", PYPROJECT), ("build.py", BACKEND), ("mylab.py", f"word = {word!r}\n")):
            (folder / file).write_text(text)
    (directory / "lab" / "more.txt").write_text("wheels/mylab-1.0-py3-none-any.whl\n")
    (directory / "lab" / "where").write_text("lab/mylab.py")
    (directory / "requirements.txt").write_bytes(requirements)
    if script:
        (directory / "init.sh").write_text(script)
    return directory


def word_in(directory: Path, cache: Path, installer: str) -> tuple[str, Path]:
    """Import the module in the consumer's environment; returns its word, and where the environment is."""
    script = directory / "init.sh"
    files = {"requirements": directory / "requirements.txt", "init_script": script if script.exists() else None}
    with VenvBuilder(directory=directory, cache=cache, installer=installer, **files) as venv:  # type: ignore[arg-type]
        command: list[str | Path] = [venv.python, "-P", "-c", "import mylab; print(mylab.word)"]
        said = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout
        return said.strip(), venv.path


@pytest.mark.parametrize("installer", ["uv", "pip"])
@pytest.mark.parametrize("way", WAYS)
def test_changed_package(
    without_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, installer: str
) -> None:
    """The archive of a new version of the author's package is extracted elsewhere, and the new version runs."""
    monkeypatch.setenv("THERE", "./wheels")
    words = []
    for name, word in (("one", "old"), ("two", "new")):
        directory = consumer(tmp_path, name, word, WAYS[way])
        words.append(word_in(directory, tmp_path / "cache", installer)[0])
    assert words == ["old", "new"]


def test_same_package(without_index: Path, tmp_path: Path) -> None:
    """The same archive, extracted elsewhere, uses the same environment."""
    for way in ("a folder", "UTF-16", "an included file"):
        homes = [consumer(tmp_path, f"{way} {number}", "same", WAYS[way]) for number in (1, 2)]
        places = [word_in(home, tmp_path / "cache", "uv") for home in homes]
        assert places[0] == places[1]


def test_files_that_init_sh_reads(without_index: Path, tmp_path: Path) -> None:
    """A change of any file that an init.sh may read makes another environment, unless the author excludes it."""
    places = []
    for name, word in (("one", "old"), ("two", "new")):
        directory = consumer(tmp_path, name, word, b"", INSTALL)
        places.append(word_in(directory, tmp_path / "cache", "uv"))
        assert places[-1][0] == word
    for text in ("print('first')", "print('second')"):
        (directory / "venv-ignore.txt").write_text("# The entry-point is not installed.\n__main__.py\n")
        (directory / "__main__.py").write_text(text)
        places.append(word_in(directory, tmp_path / "cache", "uv"))
    assert places[1] != places[2] == places[3]


def test_changed_entry_point(without_index: Path, tmp_path: Path) -> None:
    """With requirements from an index only, a changed entry-point uses the environment that is there."""
    make_wheel(without_index, "mylab", code="word = 'indexed'\n")
    directory = consumer(tmp_path, "one", "unused", b"mylab==1.0  # from the index\n")
    places = set()
    for text in ("print('first')", "print('second')"):
        (directory / "__main__.py").write_text(text)
        places.add(word_in(directory, tmp_path / "cache", "uv"))
    assert [word for word, _ in places] == ["indexed"]
