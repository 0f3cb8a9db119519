"""Pack the directory of a consumer into a ``consumer.zip``, the same bytes each time."""

from __future__ import annotations

import contextlib
import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import attrs

from ..errors import ArchiveError, explained
from ..system.account import Account
from ..system.files import replacing
from ..system.temporary import temporary_directory
from .archive import ArchiveLimits, Consumer, check_archive, consumer_directory, extract

_EARLIEST = (1980, 1, 1, 0, 0, 0)
_MAIN_REASONS = {
    "__pycache__": "compiled code",
    "node_modules": "packages",
    ".git": "version control",
    "tests": "tests",
    "conftest.py": "tests",
}


@attrs.frozen(kw_only=True)
class PackedArchive:
    """What was packed.

    Args:
        files: The files, with ``/`` between names, in order.
        left_out: What was left out, and why.
    """

    files: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]


def pack(directory: Path, archive: Path) -> PackedArchive:
    """Pack a consumer. The same files give the same bytes, wherever and whenever, with the same zlib.

    Left out are hidden files, compiled code, tests, virtual environments, other archives, and what editors leave.

    Args:
        directory: Where it lies.
        archive: The file to write.

    Raises:
        ArchiveError: It is no usable consumer, cannot be read, or the archive cannot be written.
    """
    if not _is_directory(directory):
        raise ArchiveError(f"{directory} is no directory", "name the directory with the consumer's __main__.py")
    files, left_out = _collect(directory, archive)
    problem = f"cannot pack {directory} into {archive}"
    with explained(ArchiveError, problem, "check both paths"), replacing(archive) as new:
        with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
            for name in files:
                packed.writestr(_entry(name, directory / name), (directory / name).read_bytes())
        new.flush()
        check_archive(Path(new.name), shown_as=archive)
    return PackedArchive(files=tuple(files), left_out=tuple(left_out))


@contextlib.contextmanager
def open_consumer(path: Path, limits: ArchiveLimits | None = None, run_as: Account | None = None) -> Iterator[Consumer]:
    """Open a consumer for use, be it packed or a directory; it is as it would be when deployed.

    Args:
        path: The ``consumer.zip``, or the directory of which it would be made.
        limits: What it may cost; by default `ArchiveLimits`.
        run_as: The user whose it is to be, if that is not this process's.

    Raises:
        ConfigurationError: That user cannot reach the place for temporary directories.
        ArchiveError: It is no usable consumer.
        FilterError: Its ``jsonpath2.txt`` is not usable.
    """
    with consumer_directory(lambda directory: unpack(path, directory, limits), run_as) as directory:
        yield Consumer.load(directory)


def unpack(path: Path, directory: Path, limits: ArchiveLimits | None = None) -> None:
    """Put a consumer into an empty directory as it would be deployed, be it packed or a directory.

    Args:
        path: The ``consumer.zip``, or the directory of which it would be made.
        directory: The empty directory.
        limits: What it may cost; by default `ArchiveLimits`.

    Raises:
        ArchiveError: It is no usable consumer.
    """
    if not _is_directory(path):
        extract(path, directory, limits or ArchiveLimits())
        return
    with temporary_directory("pacifica-pack-") as temporary:
        archive = temporary / "consumer.zip"
        pack(path, archive)
        extract(archive, directory, limits or ArchiveLimits())


def _is_directory(path: Path) -> bool:
    with explained(ArchiveError, f"cannot read {path}", "check the path and the access rights"):
        return path.is_dir()


def _collect(directory: Path, archive: Path) -> tuple[list[str], list[tuple[str, str]]]:
    files: list[str] = []
    left_out: list[tuple[str, str]] = []
    for folder, folders, names in os.walk(directory, onerror=_refuse):
        for name in sorted((*folders, *names)):
            path = Path(folder, name)
            shown = path.relative_to(directory).as_posix()
            if reason := _reason(path, archive):
                left_out.append((shown, reason))
            elif path.is_symlink():
                raise ArchiveError(f"{path} is a link", "put what it points at there")
            elif name in names:
                files.append(shown)
                continue
            else:
                continue
            if name in folders:
                folders.remove(name)
    return sorted(files), sorted(left_out)


def _refuse(error: OSError) -> None:
    raise ArchiveError(f"cannot read {error.filename}: {error.strerror}", "check the access rights") from error


def _reason(path: Path, archive: Path) -> str:
    """Why something is left out; empty if it is not."""
    name = path.name
    if path.absolute() == archive.absolute():
        return "the archive itself"
    if name in _MAIN_REASONS:
        return _MAIN_REASONS[name]
    if name.startswith("."):
        return "hidden"
    if name.startswith("test_") and name.endswith(".py"):
        return "tests"
    if name.endswith((".pyc", ".egg-info")):
        return "compiled code"
    if name.endswith("~"):
        return "an editor's copy"
    if name.endswith(".zip") and path.parent.joinpath("__main__.py").exists():
        return "another archive"
    if (path / "pyvenv.cfg").is_file():
        return "a virtual environment"
    return ""


def _entry(name: str, path: Path) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EARLIEST)
    executable = path.stat().st_mode & stat.S_IXUSR
    entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    # As on Unix, wherever it is packed.
    entry.create_system = 3
    return entry
