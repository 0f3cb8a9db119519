"""A release is the same bytes wherever it is made, and says what it brings along."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

NAME = "pacifica_notifications_consumer-0.1.0"
pytestmark = pytest.mark.whole


def release(directory: Path, umask: int, zone: str) -> dict[str, bytes]:
    """What a machine makes of a fresh clone in this directory."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(directory)], check=True)  # noqa: S607
    (directory / "setup.cfg").write_text("[metadata]\nname = not committed, and left out\n")
    subprocess.run(
        [sys.executable, "tools/release.py", "--output", "made here"],
        cwd=directory,
        env=os.environ | {"TZ": zone},
        umask=umask,
        check=True,
    )
    return {path.name: path.read_bytes() for path in (directory / "made here").iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return release(tmp_path_factory.mktemp("one") / "clone", 0o022, "UTC")


def test_same_bytes(made: dict[str, bytes], tmp_path: Path) -> None:
    """Another place, another time, another time zone and another umask change nothing."""
    assert release(tmp_path / "another", 0o077, "Asia/Tokyo") == made


def test_digests(made: dict[str, bytes]) -> None:
    """The digests are those of the files, of each of them."""
    lines = [line.split("  ") for line in made["SHA256SUMS"].decode().splitlines()]
    told = {name: digest for digest, name in lines}
    files = {name: content for name, content in made.items() if name != "SHA256SUMS"}
    assert told == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    bills = {f"{NAME}.cdx.json", f"{NAME}-with-extras.cdx.json"}
    assert set(files) == {f"{NAME}.tar.gz", f"{NAME}-py3-none-any.whl", *bills}


@pytest.mark.parametrize(("bill", "extras"), [("", set()), ("-with-extras", {"celery", "kombu", "redis", "uv"})])
def test_bill_of_materials(made: dict[str, bytes], bill: str, extras: set[str]) -> None:
    """A bill names what an installation brings along, at its version, and nothing of where it was made."""
    document = json.loads(made[f"{NAME}{bill}.cdx.json"])
    assert document["bomFormat"] == "CycloneDX"
    versions = {part["name"]: part["version"] for part in document["components"]}
    assert versions["pacifica-notifications-consumer"] == "0.1.0"
    assert versions.keys() >= {"attrs", "jsonpath2", "promise", "requests", "urllib3"}
    assert versions.keys() & {"celery", "kombu", "redis", "uv"} == extras
    assert all(versions.values())
    assert not versions.keys() & {"pip", "pytest", "ruff"}
    assert b"file:" not in made[f"{NAME}{bill}.cdx.json"]


def test_wheel_of_the_source_distribution(made: dict[str, bytes], tmp_path: Path) -> None:
    """Whoever builds from the source distribution gets the modules that the wheel has."""
    (tmp_path / "source.tar.gz").write_bytes(made[f"{NAME}.tar.gz"])
    with tarfile.open(tmp_path / "source.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path / "dist")]
    subprocess.run([*command, str(tmp_path / NAME)], check=True, capture_output=True)
    (tmp_path / "given.whl").write_bytes(made[f"{NAME}-py3-none-any.whl"])
    contents = []
    for path in (tmp_path / "given.whl", tmp_path / "dist" / f"{NAME}-py3-none-any.whl"):
        with zipfile.ZipFile(path) as wheel:
            contents.append({name: wheel.read(name) for name in wheel.namelist()})
    assert contents[0] == contents[1]
    assert "pacifica_notifications_runner/templates/minimal/__main__.py" in contents[0]
