"""Tiny wheels, and a library without dependencies, so that real installers need no index."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest


def make_wheel(
    directory: Path, name: str, version: str = "1.0", *, tag: str = "py3-none-any", metadata: str = "", code: str = ""
) -> Path:
    """Write a wheel with one module, which has the version."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{version}"
    path = directory / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(zipfile.ZipInfo(f"{name}.py"), f"version = {version!r}\n{code}")
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}"
        wheel.writestr(zipfile.ZipInfo(f"{stem}.dist-info/METADATA"), about)
        kind = f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"
        wheel.writestr(zipfile.ZipInfo(f"{stem}.dist-info/WHEEL"), kind)
        wheel.writestr(zipfile.ZipInfo(f"{stem}.dist-info/RECORD"), "")
    return path


@pytest.fixture
def without_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of wheels, the only place from which both installers take packages; ours depends on none."""
    monkeypatch.setattr(
        "pacifica_notifications_consumer.environment.builder.build_wheel",
        lambda directory: make_wheel(directory, "pacifica_notifications_consumer", "0.1.0"),
    )
    (tmp_path / "wheels").mkdir()
    settings = {
        "PIP_CONFIG_FILE": "/dev/null",
        "UV_NO_CONFIG": "1",
        # An address, since pip divides the value at spaces.
        "PIP_FIND_LINKS": (tmp_path / "wheels").as_uri(),
        "PIP_NO_INDEX": "1",
        "PIP_RETRIES": "0",
        "UV_HTTP_RETRIES": "0",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "wheels"
