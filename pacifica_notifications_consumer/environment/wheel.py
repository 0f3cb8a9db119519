"""Builds a wheel from the installed package, so that a consumer's environment gets exactly the running version.

An index is never asked for the package, which may be an editable install or not be on any index.
The format: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution, version
from importlib.util import find_spec
from pathlib import Path

from ..errors import VenvError

DISTRIBUTION = "pacifica-notifications-consumer"
#: The requirements.txt of the specification's example has this name for the package `promise`. No project has the name,
#: so anybody could register it, and the code would run for everybody who follows the specification.
MISNOMER, MEANT = "promises", "promise"
#: Each file in a wheel, and its possible names in an installed package (a source tree has an egg-info).
_METADATA = {
    "METADATA": ("METADATA", "PKG-INFO"),
    "entry_points.txt": ("entry_points.txt",),
    "top_level.txt": ("top_level.txt",),
}
_EARLIEST = (1980, 1, 1, 0, 0, 0)


def build_wheel(directory: Path) -> Path:
    """Build the wheel of the running package in a directory."""
    installed = distribution(DISTRIBUTION)
    stem = f"{DISTRIBUTION.replace('-', '_')}-{installed.version}"
    return _write(directory, stem, _contents(installed, f"{stem}.dist-info"))


def build_misnomer(directory: Path) -> Path:
    """Build a wheel of the name `MISNOMER` that only requires `MEANT`, in a directory."""
    stem = f"{MISNOMER}-{version(MEANT)}"
    metadata = f"Metadata-Version: 2.1\nName: {MISNOMER}\nVersion: {version(MEANT)}\nRequires-Dist: {MEANT}\n"
    return _write(
        directory, stem, [(f"{stem}.dist-info/METADATA", metadata.encode()), (f"{stem}.dist-info/WHEEL", _FORMAT)]
    )


def _write(directory: Path, stem: str, contents: Iterable[tuple[str, bytes]]) -> Path:
    path = directory / f"{stem}-py3-none-any.whl"
    record = []
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in contents:
            wheel.writestr(zipfile.ZipInfo(name, _EARLIEST), content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(content)}")
        record_name = f"{stem}.dist-info/RECORD"
        wheel.writestr(zipfile.ZipInfo(record_name, _EARLIEST), "\n".join([*record, f"{record_name},,", ""]))
    return path


def wheel_digest() -> str:
    """Hash the contents of the running package, to distinguish it from another build of the same version."""
    digest = hashlib.sha256()
    for name, content in _contents(distribution(DISTRIBUTION), ""):
        digest.update(f"{name} {len(content)} ".encode())
        digest.update(content)
    return digest.hexdigest()


def _contents(installed: Distribution, dist_info: str) -> Iterator[tuple[str, bytes]]:
    for package in (installed.read_text("top_level.txt") or "").split():
        root = _package_directory(package)
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"{package}/{path.relative_to(root).as_posix()}", path.read_bytes()
    for name, origins in _METADATA.items():
        text = next(filter(None, map(installed.read_text, origins)), None)
        if text is None:
            raise VenvError(f"the installed {DISTRIBUTION} lacks its {name}", _REINSTALL)
        yield f"{dist_info}/{name}", text.encode()
    yield f"{dist_info}/WHEEL", _FORMAT


_FORMAT = f"Wheel-Version: 1.0\nGenerator: {DISTRIBUTION}\nRoot-Is-Purelib: true\nTag: py3-none-any\n".encode()
_REINSTALL = f"install it into {sys.prefix} again, from the same source"


def _package_directory(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise VenvError(f"the installed {DISTRIBUTION} lacks its package {package}", _REINSTALL)
    return Path(spec.origin).parent
