"""Packs the directory of a consumer into a ``consumer.zip``, reproducibly."""

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
    """The result of `pack`.

    Args:
        files: The packed files, with ``/`` between names, sorted.
        left_out: The paths that were left out, each with the reason, sorted.
    """

    files: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]


def pack(directory: str | os.PathLike[str], archive: str | os.PathLike[str]) -> PackedArchive:
    """Pack a consumer. The same files give the same bytes on every machine with the same zlib.

    Hidden files, compiled code, tests, virtual environments, other archives and backup files of editors are left out.

    Args:
        directory: The consumer's directory.
        archive: The file to write.

    Returns:
        The paths that were packed and those that were left out.

    Raises:
        ArchiveError: The directory is not a usable consumer or cannot be read, or the archive cannot be written.
    """
    directory, archive = Path(directory), Path(archive)
    if not _is_directory(directory):
        raise ArchiveError(f"{directory} is not a directory", "name the directory with the consumer's __main__.py")
    files, left_out = _collect(directory, archive)
    problem = f"cannot pack {directory} into {archive}"
    with explained(ArchiveError, problem, "check both paths"), replacing(archive) as new:
        with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
            for name in files:
                packed.writestr(_entry(name, directory / name), (directory / name).read_bytes())
        new.flush()
        check_archive(Path(new.name), shown_as=directory)
    return PackedArchive(files=tuple(files), left_out=tuple(left_out))


@contextlib.contextmanager
def open_consumer(
    path: str | os.PathLike[str], limits: ArchiveLimits | None = None, run_as: Account | str | None = None
) -> Iterator[Consumer]:
    """Put a consumer into a temporary directory as it would be deployed, and load it.

    Args:
        path: A ``consumer.zip``, or a directory that could be packed into one.
        limits: Limits on the archive; by default `ArchiveLimits`.
        run_as: The user to own the directory, or its name; None for the user of this process.

    Raises:
        ConfigurationError: The user cannot reach the directory for temporary files.
        ArchiveError: The archive or directory is not a usable consumer.
        FilterError: The ``jsonpath2.txt`` is not usable.
    """
    with consumer_directory(lambda directory: unpack(Path(path), directory, limits), run_as) as directory:
        yield Consumer.load(directory)


def unpack(path: Path, directory: Path, limits: ArchiveLimits | None = None) -> None:
    """Put a consumer, packed or not, into an empty directory, as it would be deployed; see `open_consumer`."""
    if not _is_directory(path):
        extract(path, directory, limits or ArchiveLimits())
        return
    with temporary_directory("pacifica-pack-") as temporary:
        archive = temporary / "consumer.zip"
        pack(path, archive)
        extract(archive, directory, limits or ArchiveLimits(), shown_as=path)


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
                if name in folders:
                    folders.remove(name)
            elif path.is_symlink():
                raise ArchiveError(f"{path} is a symbolic link", "replace it with a copy of its target")
            elif name in names:
                files.append(shown)
    return sorted(files), sorted(left_out)


def _refuse(error: OSError) -> None:
    raise ArchiveError(f"cannot read {error.filename}: {error.strerror}", "check the access rights") from error


def _reason(path: Path, archive: Path) -> str:
    """Why a path is left out; empty if it is to be packed."""
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
        return "an editor's backup"
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
    # 3 means Unix, so that the bytes are the same on every system.
    entry.create_system = 3
    return entry
