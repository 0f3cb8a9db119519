"""The local files to which a requirements file refers are found, because an environment depends on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pacifica_notifications_consumer.environment.requirements import LocalReferences


@pytest.fixture
def of(tmp_path: Path) -> Callable[[str], LocalReferences]:
    def of(text: str) -> LocalReferences:
        (tmp_path / "requirements.txt").write_text(text)
        return LocalReferences.of(tmp_path / "requirements.txt", tmp_path)

    return of


@pytest.mark.parametrize(
    "line",
    [
        "-r more.txt",
        "--requirement=more.txt",
        "-c more.txt",
        "-rmore.txt  # with a word on it",
        "./package",
        "./package[extra]; python_version > '3'",
        "package-1.0.whl",
        "mine @ file://PLACE/package/setup.py",
        "file://PLACE/package/setup.py",
        "--find-links wheels",
        "-f file://PLACE/wheels",
        "--find-links=PLACE/wheels",
        "-r \\\n more.txt",
        "-r folder/deep.txt",
    ],
)
def test_what_changes_matters(of: Callable[[str], LocalReferences], tmp_path: Path, line: str) -> None:
    """The digest changes with the content of each local file that a line names."""
    line = line.replace("PLACE", str(tmp_path))
    for folder in ("package", "wheels", "folder"):
        (tmp_path / folder).mkdir()
    (tmp_path / "folder" / "deep.txt").write_text("-c ../more.txt")
    files = [tmp_path / name for name in ("more.txt", "package/setup.py", "package-1.0.whl", "wheels/a.whl")]
    for file in files:
        file.write_text("one")
    before = of(line)
    assert before == of(f"# first\n{line}")
    for file in files:
        file.write_text("two")
    assert of(line).digest != before.digest
    assert before.editable == ""


def test_what_does_not_matter(of: Callable[[str], LocalReferences]) -> None:
    """Names, versions and remote addresses are not local references; circles and missing files are tolerated."""
    nothing = of("")
    lines = "six==1.0\n--index-url https://index/simple\nx @ https://host/x.zip\n-r missing.txt"
    assert of(f"{lines}\n--find-links https://host/wheels") == nothing
    circle = of("-r requirements.txt")
    assert (circle == of("-r requirements.txt"), circle == of("-r requirements.txt  # changed")) == (True, False)


@pytest.mark.parametrize("line", ["-e ./package", "--editable=package[all]", "-e file://PLACE/package"])
def test_editable(of: Callable[[str], LocalReferences], tmp_path: Path, line: str) -> None:
    """The first editable install is reported, if it is local."""
    (tmp_path / "package").mkdir()
    assert of(line.replace("PLACE", str(tmp_path))).editable == str(tmp_path / "package")
    assert of("-e git+https://host/repo").editable == ""
